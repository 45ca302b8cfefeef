#include "train/bpe_trainer.h"

#include <algorithm>
#include <queue>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/pre_tokenizer.h"

namespace fathom::train {
namespace {

using Id = std::uint32_t;
using Pair = std::uint64_t;  // left << 32 | right: pairs compare as their ids do

constexpr std::size_t kBytes = 256;

Pair pair_of(Id left, Id right) { return Pair{left} << 32 | right; }
Id left_of(Pair pair) { return static_cast<Id>(pair >> 32); }
Id right_of(Pair pair) { return static_cast<Id>(pair); }

/// A pair that may be merged next, as it was counted when it was put here, and the words it was
/// then found in. Counts fall while it waits: they are looked at again when its turn comes.
struct Candidate {
  std::int64_t count;
  Pair pair;
  std::vector<std::uint32_t> words;
};
struct Later {
  /// Most frequent first; of equals the pair of the smaller ids.
  bool operator()(const Candidate& a, const Candidate& b) const {
    return a.count != b.count ? a.count < b.count : a.pair > b.pair;
  }
};

/// The bytes, in the order of the characters that stand for them.
std::vector<std::string> alphabet() {
  std::vector<std::string> pieces;
  for (std::size_t byte = 0; byte < kBytes; ++byte) {
    pieces.push_back(to_byte_alphabet(std::string(1, static_cast<char>(byte))));
  }
  std::ranges::sort(pieces);  // UTF-8 sorts as its code points do
  return pieces;
}

class Learning {
 public:
  Learning(const BpeTrainerOptions& options,
           const std::unordered_map<std::string, std::int64_t>& words)
      : options_(options) {
    for (const auto* tokens : {&options.special_tokens, &options.added_tokens}) {
      for (const std::string& token : *tokens) add_piece(token);
    }
    for (const std::string& piece : alphabet()) add_piece(piece);
    std::vector<Id> id_of_byte(kBytes);
    for (std::size_t byte = 0; byte < kBytes; ++byte) {
      id_of_byte[byte] = ids_.at(to_byte_alphabet(std::string(1, static_cast<char>(byte))));
    }
    words_.reserve(words.size());
    for (const auto& [text, count] : words) {
      std::vector<Id>& word = words_.emplace_back();
      for (const char c : text) word.push_back(id_of_byte[static_cast<unsigned char>(c)]);
      counts_.push_back(count);
    }
  }

  TokenizerSpec run() {
    Progress progress(options_.progress, "learning merges", options_.vocab_size, "tokens");
    count_all();
    while (pieces_.size() < options_.vocab_size && !queue_.empty()) {
      Candidate best = std::move(const_cast<Candidate&>(queue_.top()));  // popped at once
      queue_.pop();
      const std::int64_t now = pairs_[best.pair];
      if (now != best.count) {
        best.count = now;
        queue_.push(std::move(best));
        continue;
      }
      if (best.count < 1 || best.count < options_.min_frequency) break;
      merge(best);
      progress.set(pieces_.size());
    }
    return spec();
  }

 private:
  Id add_piece(const std::string& piece) {
    const auto [at, is_new] = ids_.try_emplace(piece, static_cast<Id>(pieces_.size()));
    if (is_new) pieces_.push_back(piece);
    return at->second;
  }

  void count_all() {
    std::unordered_map<Pair, std::vector<std::uint32_t>> where;
    for (std::size_t w = 0; w < words_.size(); ++w) {
      const std::vector<Id>& word = words_[w];
      for (std::size_t i = 0; i + 1 < word.size(); ++i) {
        const Pair pair = pair_of(word[i], word[i + 1]);
        pairs_[pair] += counts_[w];
        note(where, pair, w);
      }
    }
    push_all(where);
  }

  void merge(const Candidate& best) {
    const Id left = left_of(best.pair), right = right_of(best.pair);
    // Two ways may lead to one piece: it then has the id it got first.
    const Id joined = add_piece(pieces_[left] + pieces_[right]);
    merges_.emplace_back(left, right);
    std::unordered_map<Pair, std::vector<std::uint32_t>> where;
    for (const std::uint32_t w : best.words) {
      std::vector<Id>& word = words_[w];
      const std::int64_t count = counts_[w];
      std::size_t to = 0;
      // Replaced from the left; a neighbour to the left may itself have just been replaced.
      for (std::size_t i = 0; i < word.size(); ++i, ++to) {
        if (word[i] != left || i + 1 == word.size() || word[i + 1] != right) {
          word[to] = word[i];
          continue;
        }
        if (to > 0) {
          pairs_[pair_of(word[to - 1], left)] -= count;
          pairs_[pair_of(word[to - 1], joined)] += count;
          note(where, pair_of(word[to - 1], joined), w);
        }
        ++i;
        if (i + 1 < word.size()) {
          pairs_[pair_of(right, word[i + 1])] -= count;
          pairs_[pair_of(joined, word[i + 1])] += count;
          note(where, pair_of(joined, word[i + 1]), w);
        }
        word[to] = joined;
      }
      word.resize(to);
    }
    push_all(where);
  }

  static void note(std::unordered_map<Pair, std::vector<std::uint32_t>>& where, Pair pair,
                   std::size_t word) {
    std::vector<std::uint32_t>& words = where[pair];
    const auto number = static_cast<std::uint32_t>(word);
    if (words.empty() || words.back() != number) words.push_back(number);
  }

  void push_all(std::unordered_map<Pair, std::vector<std::uint32_t>>& where) {
    for (auto& [pair, words] : where) {
      const std::int64_t count = pairs_[pair];
      if (count > 0) queue_.push({count, pair, std::move(words)});
    }
  }

  TokenizerSpec spec() {
    TokenizerSpec spec;
    spec.origin = "(trained)";
    spec.pre_tokenizer = options_.pre_tokenizer;
    spec.types.assign(pieces_.size(), TokenType::Normal);
    for (const auto* tokens : {&options_.special_tokens, &options_.added_tokens}) {
      for (const std::string& content : *tokens) {
        AddedToken token;
        token.content = content;
        token.id = TokenId{static_cast<std::int32_t>(spec.added.size())};
        token.special = tokens == &options_.special_tokens;
        spec.types[spec.added.size()] = token.special ? TokenType::Control : TokenType::UserDefined;
        spec.added.push_back(token);
      }
    }
    for (const auto& [left, right] : merges_) {
      spec.merges.emplace_back(TokenId{static_cast<std::int32_t>(left)},
                               TokenId{static_cast<std::int32_t>(right)});
    }
    spec.pieces = std::move(pieces_);
    return spec;
  }

  const BpeTrainerOptions& options_;
  std::vector<std::string> pieces_;
  std::unordered_map<std::string, Id> ids_;
  std::vector<std::vector<Id>> words_;
  std::vector<std::int64_t> counts_;
  std::unordered_map<Pair, std::int64_t> pairs_;
  std::priority_queue<Candidate, std::vector<Candidate>, Later> queue_;
  std::vector<std::pair<Id, Id>> merges_;
};

}  // namespace

BpeTrainer::BpeTrainer(BpeTrainerOptions options) : options_(std::move(options)) {
  std::unordered_set<std::string_view> seen;
  for (const auto* tokens : {&options_.special_tokens, &options_.added_tokens}) {
    for (const std::string& token : *tokens) {
      require(!token.empty() && seen.insert(token).second, ErrorCode::InvalidArgument,
              "the token '{}' is {}", token, token.empty() ? "empty" : "there twice");
      require(token.size() > 2, ErrorCode::InvalidArgument,
              "the token '{}' is too short to be told from text", token);
    }
  }
  require(options_.vocab_size >= kBytes + seen.size(), ErrorCode::InvalidArgument,
          "a vocabulary of {} has no room for 256 bytes and {} special tokens", options_.vocab_size,
          seen.size());
  require(options_.pre_tokenizer != PreTokenizer::None, ErrorCode::InvalidArgument,
          "byte-level BPE needs a pre-tokenizer");
}

void BpeTrainer::feed(std::string_view text) {
  split_words(options_.pre_tokenizer, text,
              [&](std::string_view word) { ++words_[std::string(word)]; });
}

TokenizerSpec BpeTrainer::train() const { return Learning(options_, words_).run(); }

}  // namespace fathom::train
