// Implements bpe.h.
#include "tokenizer/bpe.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <queue>

#include "base/error.h"
#include "tokenizer/unicode.h"

namespace fathom {
namespace {

constexpr std::uint64_t kMultiplier = 0x9E3779B97F4A7C15;  // 2^64 / golden ratio

// Words up to this many symbols are merged by looking for the best pair again after each merge,
// which beats a heap as long as the pairs fit a few cache lines.
constexpr std::size_t kShortWord = 96;
// Splitting a SentencePiece piece in all ways is quadratic; real ones have some 50 bytes.
constexpr std::size_t kLongestDerivedPiece = 256;

std::uint32_t hash_bytes(std::string_view text) {
  std::uint64_t hash = text.size() * kMultiplier;
  const char* p = text.data();
  std::size_t left = text.size();
  const auto mix = [&hash](std::uint64_t word) {
    hash = (hash ^ word) * kMultiplier;
    hash ^= hash >> 29;
  };
  for (; left >= 8; p += 8, left -= 8) {
    std::uint64_t word;
    std::memcpy(&word, p, 8);
    mix(word);
  }
  if (left > 0) {
    std::uint64_t word = 0;
    std::memcpy(&word, p, left);
    mix(word);
  }
  return static_cast<std::uint32_t>(hash >> 32);
}

/// Whether a space follows a character that is not one.
bool has_inner_space(std::string_view piece) {
  const std::size_t body = piece.find_first_not_of(' ');
  return body != std::string_view::npos && piece.find(' ', body) != std::string_view::npos;
}

std::uint64_t pair_key(Symbol left, Symbol right) { return std::uint64_t{left} << 32 | right; }
constexpr std::uint64_t kNoPair = ~std::uint64_t{0};

}  // namespace

MergeTable::MergeTable(std::size_t count) {
  const std::size_t slots = std::bit_ceil(std::max<std::size_t>(2 * count, 16));
  slots_.assign(slots, {kNoPair, {kNoRank, kNoSymbol}});
  shift_ = 64 - std::countr_zero(slots);
}

std::size_t MergeTable::slot(std::uint64_t key) const {
  // Fibonacci hashing of both halves: the ids of a pair are small and close together.
  return (key ^ key >> 15) * kMultiplier >> shift_;
}

void MergeTable::insert(Symbol left, Symbol right, Merge merge) {
  const std::uint64_t key = pair_key(left, right);
  for (std::size_t i = slot(key);; i = (i + 1) & (slots_.size() - 1)) {
    if (slots_[i].key == kNoPair) {
      slots_[i] = {key, merge};
      return;
    }
    if (slots_[i].key == key) {
      if (merge.rank < slots_[i].merge.rank) slots_[i].merge = merge;
      return;
    }
  }
}

Merge MergeTable::find(Symbol left, Symbol right) const {
  const std::uint64_t key = pair_key(left, right);
  for (std::size_t i = slot(key);; i = (i + 1) & (slots_.size() - 1)) {
    if (slots_[i].key == key) return slots_[i].merge;
    if (slots_[i].key == kNoPair) return {kNoRank, kNoSymbol};
  }
}

PieceIndex::PieceIndex(const StringTable& pieces)
    : pieces_(&pieces), slots_(std::bit_ceil(2 * pieces.size() + 2), {0, kNoSymbol}) {}

void PieceIndex::insert(std::uint32_t id) {
  const std::string_view bytes = (*pieces_)[id];
  const std::uint32_t hash = hash_bytes(bytes);
  for (std::size_t i = hash & (slots_.size() - 1);; i = (i + 1) & (slots_.size() - 1)) {
    if (slots_[i].id == kNoSymbol) {
      slots_[i] = {hash, id};
      return;
    }
    if (slots_[i].hash == hash && (*pieces_)[slots_[i].id] == bytes) return;
  }
}

std::uint32_t PieceIndex::find(std::string_view bytes) const {
  const std::uint32_t hash = hash_bytes(bytes);
  for (std::size_t i = hash & (slots_.size() - 1);; i = (i + 1) & (slots_.size() - 1)) {
    const Slot slot = slots_[i];
    if (slot.id == kNoSymbol) return kNoSymbol;
    if (slot.hash == hash && (*pieces_)[slot.id] == bytes) return slot.id;
  }
}

Bpe::Bpe(const TokenizerSpec& spec, const StringTable& pieces, const std::vector<bool>& in_text)
    : pieces_(pieces),
      origin_(spec.origin),
      byte_level_(spec.model == TokenizerModel::ByteLevelBpe),
      ignore_merges_(spec.ignore_merges),
      byte_fallback_(spec.byte_fallback),
      fuse_unknown_(spec.fuse_unknown),
      unknown_(spec.unk ? static_cast<Symbol>(value(*spec.unk)) : kNoSymbol),
      // A whole text that is a piece would be taken whole: nothing may be cut then.
      words_are_separable_(!spec.ignore_merges),
      index_(pieces),
      whole_(std::make_unique<std::atomic<Whole>[]>(pieces.size())) {
  for (std::uint32_t id = 0; id < pieces_.size(); ++id) {
    if (in_text[id] && !pieces_[id].empty()) index_.insert(id);
  }
  byte_symbols_.fill(kNoSymbol);
  ascii_symbols_.fill(kNoSymbol);
  if (byte_level_) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const char c = static_cast<char>(byte);
      byte_symbols_[byte] = index_.find({&c, 1});
    }
  } else {
    for (std::uint32_t id = 0; id < pieces_.size(); ++id) {
      const std::string_view piece = pieces_[id];
      const bool is_byte = !spec.types.empty() && spec.types[id] == TokenType::Byte;
      if (is_byte) byte_symbols_[static_cast<unsigned char>(piece[0])] = id;
    }
    for (std::size_t c = 0; c < 128; ++c) {
      const char character = static_cast<char>(c);
      ascii_symbols_[c] = index_.find({&character, 1});
    }
  }

  const bool derive = spec.merges.empty() && !spec.scores.empty();
  const std::vector<PendingMerge> pending =
      derive ? derived_merges(spec, in_text) : given_merges(spec);
  merges_ = MergeTable(pending.size());
  for (const PendingMerge& p : pending) {
    merges_.insert(p.left, p.right, p.merge);
    if (has_inner_space(pieces_[p.merge.result])) words_are_separable_ = false;
  }
}

std::vector<Bpe::PendingMerge> Bpe::given_merges(const TokenizerSpec& spec) const {
  std::vector<PendingMerge> pending;
  pending.reserve(spec.merges.size());
  std::string joined;
  for (std::size_t rank = 0; rank < spec.merges.size(); ++rank) {
    const auto left = static_cast<Symbol>(value(spec.merges[rank].first));
    const auto right = static_cast<Symbol>(value(spec.merges[rank].second));
    require(left < pieces_.size() && right < pieces_.size(), ErrorCode::Corrupt,
            "{}: merge {} joins tokens {} and {}, but the vocabulary has {}", origin_, rank, left,
            right, pieces_.size());
    joined.assign(pieces_[left]).append(pieces_[right]);
    const Symbol result = index_.find(joined);
    require(result != kNoSymbol, ErrorCode::Corrupt,
            "{}: merge {} of '{}' and '{}' makes '{}', which is no token", origin_, rank,
            to_valid_utf8(pieces_[left]), to_valid_utf8(pieces_[right]), to_valid_utf8(joined));
    pending.push_back({left, right, {static_cast<std::uint32_t>(rank), result}});
  }
  return pending;
}

/// SentencePiece merges any two neighbours whose join is a piece, the best score first. So every
/// piece is cut in two in every way; equal scores have equal rank, and then the leftmost wins.
std::vector<Bpe::PendingMerge> Bpe::derived_merges(const TokenizerSpec& spec,
                                                   const std::vector<bool>& in_text) {
  std::vector<float> ladder;
  for (std::uint32_t id = 0; id < pieces_.size(); ++id) {
    require(!std::isnan(spec.scores[id]), ErrorCode::Corrupt, "{}: the score of token {} is NaN",
            origin_, id);
    if (in_text[id]) ladder.push_back(spec.scores[id]);
  }
  std::sort(ladder.begin(), ladder.end(), std::greater<>());
  ladder.erase(std::unique(ladder.begin(), ladder.end()), ladder.end());

  std::vector<PendingMerge> pending;
  for (std::uint32_t id = 0; id < pieces_.size(); ++id) {
    const std::string_view piece = pieces_[id];
    // Only the first of equal pieces is ever found by its text.
    if (!in_text[id] || piece.empty() || index_.find(piece) != id) continue;
    require(
        piece.size() <= kLongestDerivedPiece, ErrorCode::ResourceLimit,
        "{}: token {} has {} bytes; more than {} in a SentencePiece vocabulary is not supported",
        origin_, id, piece.size(), kLongestDerivedPiece);
    const auto better =
        std::lower_bound(ladder.begin(), ladder.end(), spec.scores[id], std::greater<>());
    const auto rank = static_cast<std::uint32_t>(better - ladder.begin());
    const char* const begin = piece.data();
    const char* const end = begin + piece.size();
    const std::size_t first_length = unicode::decode(begin, end).length;
    for (const char* cut = begin + first_length; cut != end;) {
      const std::size_t last_length = unicode::decode(cut, end).length;
      const std::string_view left(begin, static_cast<std::size_t>(cut - begin));
      const std::string_view right(cut, static_cast<std::size_t>(end - cut));
      const Symbol l = left.size() == first_length ? symbol_of_character(left) : index_.find(left);
      const Symbol r =
          right.size() == last_length ? symbol_of_character(right) : index_.find(right);
      if (l != kNoSymbol && r != kNoSymbol) pending.push_back({l, r, {rank, id}});
      cut += last_length;
    }
  }
  return pending;
}

Symbol Bpe::symbol_of_character(std::string_view character) {
  const Symbol known = index_.find(character);
  if (known != kNoSymbol) return known;
  auto at = std::find(extra_characters_.begin(), extra_characters_.end(), character);
  if (at == extra_characters_.end()) {
    // SentencePiece trains with every character of a piece in the vocabulary: more than a few
    // exceptions is a broken file, and looking each up in a list would be slow.
    require(extra_characters_.size() < 256, ErrorCode::Corrupt,
            "{}: more than 256 characters of the vocabulary's pieces are no pieces themselves",
            origin_);
    at = extra_characters_.insert(at, std::string(character));
  }
  return static_cast<Symbol>(pieces_.size() + (at - extra_characters_.begin()));
}

std::size_t Bpe::split_symbols(std::string_view word, Symbol* symbols) const {
  Symbol* next = symbols;
  bool after_unknown = false;
  const auto add_unknown = [&] {
    if (unknown_ != kNoSymbol && !(after_unknown && fuse_unknown_)) *next++ = unknown_;
    after_unknown = true;
  };
  if (byte_level_) {
    for (const char c : word) {
      const Symbol symbol = byte_symbols_[static_cast<unsigned char>(c)];
      if (symbol == kNoSymbol) {
        add_unknown();
      } else {
        *next++ = symbol;
        after_unknown = false;
      }
    }
    return static_cast<std::size_t>(next - symbols);
  }
  const char* const end = word.data() + word.size();
  for (const char* p = word.data(); p != end;) {
    const auto byte = static_cast<unsigned char>(*p);
    std::size_t length = 1;
    Symbol symbol;
    if (byte < 0x80) {
      symbol = ascii_symbols_[byte];
    } else {
      const unicode::Char c = unicode::decode(p, end);
      length = c.length;
      symbol = c.well_formed ? index_.find({p, length}) : kNoSymbol;
    }
    const std::string_view character(p, length);
    if (symbol == kNoSymbol && !extra_characters_.empty()) {
      const auto at = std::find(extra_characters_.begin(), extra_characters_.end(), character);
      if (at != extra_characters_.end()) {
        symbol = static_cast<Symbol>(pieces_.size() + (at - extra_characters_.begin()));
      }
    }
    if (symbol != kNoSymbol) {
      *next++ = symbol;
      after_unknown = false;
    } else if (byte_fallback_ && has_all_bytes(character)) {
      for (const char c : character) *next++ = byte_symbols_[static_cast<unsigned char>(c)];
      after_unknown = false;
    } else {
      add_unknown();
    }
    p += length;
  }
  return static_cast<std::size_t>(next - symbols);
}

bool Bpe::has_all_bytes(std::string_view character) const {
  return std::all_of(character.begin(), character.end(), [this](char c) {
    return byte_symbols_[static_cast<unsigned char>(c)] != kNoSymbol;
  });
}

std::size_t Bpe::merge_short(Symbol* symbols, std::size_t count) const {
  std::uint32_t ranks[kShortWord];
  Symbol results[kShortWord];
  const auto look = [&](std::size_t i) {
    const Merge merge = merges_.find(symbols[i], symbols[i + 1]);
    ranks[i] = merge.rank;
    results[i] = merge.result;
  };
  for (std::size_t i = 0; i + 1 < count; ++i) look(i);
  while (count > 1) {
    const std::size_t pairs = count - 1;
    std::size_t best = 0;
    for (std::size_t i = 1; i < pairs; ++i) {
      if (ranks[i] < ranks[best]) best = i;
    }
    if (ranks[best] == kNoRank) break;
    symbols[best] = results[best];
    // Close the gap: symbol best + 1 and the pair that began there are gone.
    const std::size_t tail = count - best - 2;
    std::memmove(symbols + best + 1, symbols + best + 2, tail * sizeof(Symbol));
    if (tail > 0) {
      std::memmove(ranks + best + 1, ranks + best + 2, (tail - 1) * sizeof(std::uint32_t));
      std::memmove(results + best + 1, results + best + 2, (tail - 1) * sizeof(Symbol));
    }
    --count;
    if (best > 0) look(best - 1);
    if (best + 1 < count) look(best);
  }
  return count;
}

std::size_t Bpe::merge_long(Symbol* symbols, std::size_t count) const {
  // Symbols stay where their first byte was, linked to their neighbours; a heap gives the best
  // pair, the leftmost among equals. A pair that has changed since it was put there is skipped when
  // it comes up. O(n log n) whatever the word.
  const auto n = static_cast<std::uint32_t>(count);
  std::vector<std::uint32_t> previous(count), next(count), ranks(count, kNoRank);
  std::vector<std::uint64_t> entries;  // rank << 32 | position
  const auto look = [&](std::uint32_t at) {
    ranks[at] = next[at] == n ? kNoRank : merges_.find(symbols[at], symbols[next[at]]).rank;
    return ranks[at] != kNoRank;
  };
  const auto entry = [&](std::uint32_t at) { return std::uint64_t{ranks[at]} << 32 | at; };
  for (std::uint32_t i = 0; i < n; ++i) {
    previous[i] = i - 1;  // of the first: never read
    next[i] = i + 1;
  }
  for (std::uint32_t i = 0; i < n; ++i) {
    if (look(i)) entries.push_back(entry(i));
  }
  std::priority_queue<std::uint64_t, std::vector<std::uint64_t>, std::greater<>> queue(
      std::greater<>(), std::move(entries));
  while (!queue.empty()) {
    const std::uint64_t top = queue.top();
    queue.pop();
    const auto at = static_cast<std::uint32_t>(top);
    if (ranks[at] != top >> 32) continue;
    const std::uint32_t gone = next[at];
    symbols[at] = merges_.find(symbols[at], symbols[gone]).result;
    ranks[gone] = kNoRank;
    next[at] = next[gone];
    if (next[at] != n) previous[next[at]] = at;
    if (look(at)) queue.push(entry(at));
    if (at != 0 && look(previous[at])) queue.push(entry(previous[at]));
  }
  std::size_t kept = 0;
  for (std::uint32_t i = 0; i != n; i = next[i]) symbols[kept++] = symbols[i];
  return kept;
}

bool Bpe::merges_into_itself(std::uint32_t piece, std::string_view word) const {
  const Whole known = whole_[piece].load(std::memory_order_relaxed);
  if (known != Whole::Unasked) return known == Whole::Yes;
  std::vector<Symbol> symbols(word.size());
  std::size_t count = split_symbols(word, symbols.data());
  count = merge_long(symbols.data(), count);
  const bool whole = count == 1 && symbols[0] == piece;
  whole_[piece].store(whole ? Whole::Yes : Whole::No, std::memory_order_relaxed);
  return whole;
}

void Bpe::encode(std::string_view word, std::vector<TokenId>& out) const {
  const std::uint32_t piece = index_.find(word);
  if (piece != kNoSymbol && (ignore_merges_ || merges_into_itself(piece, word))) {
    out.push_back(static_cast<TokenId>(piece));
    return;
  }
  if (word.size() <= kShortWord) {
    Symbol symbols[kShortWord];
    const std::size_t count = split_symbols(word, symbols);
    emit({symbols, merge_short(symbols, count)}, out);
  } else {
    std::vector<Symbol> symbols(word.size());
    const std::size_t count = split_symbols(word, symbols.data());
    emit({symbols.data(), merge_long(symbols.data(), count)}, out);
  }
}

void Bpe::emit(std::span<const Symbol> symbols, std::vector<TokenId>& out) const {
  for (const Symbol symbol : symbols) {
    if (symbol < pieces_.size()) [[likely]] {
      out.push_back(static_cast<TokenId>(symbol));
      continue;
    }
    // A character that only larger pieces hold, and none came of it.
    const std::string& character = extra_characters_[symbol - pieces_.size()];
    if (byte_fallback_ && has_all_bytes(character)) {
      for (const char c : character) {
        out.push_back(static_cast<TokenId>(byte_symbols_[static_cast<unsigned char>(c)]));
      }
    } else if (unknown_ != kNoSymbol) {
      out.push_back(static_cast<TokenId>(unknown_));
    }
  }
}

}  // namespace fathom
