// Implements tokenizer.h: building from a spec, encode and decode. Reading tokenizer.json is
// tokenizer_json.cpp's, merging is bpe.h's, cutting into words is pre_tokenizer.h's.
#include "tokenizer/tokenizer.h"

#include <algorithm>
#include <unordered_map>

#include "base/checked.h"
#include "base/error.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/bpe.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/unicode.h"

namespace fathom {
namespace {

constexpr std::string_view kSpaceSign = "\xE2\x96\x81";  // U+2581, SentencePiece's space
constexpr std::size_t kMostTokens = std::size_t{64} << 20;
constexpr std::size_t kLongestPiece = std::size_t{16} << 20;
constexpr std::size_t kLongestAdded = 1024;  // bounds the time to look for added tokens
constexpr std::size_t kLongestText = std::size_t{1} << 30;  // positions in a word are 32 bits

// Control tokens that end a turn or a text in the models that Fathom runs; files list only one.
constexpr std::string_view kEndTokens[] = {
    "<|endoftext|>", "<|im_end|>", "<|end_of_text|>",      "<|eot_id|>", "<|eom_id|>",
    "<|EOT|>",       "</s>",       "<｜end▁of▁sentence｜>"};

/// "<0x0A>" -> 10
std::optional<unsigned char> parse_byte_piece(std::string_view piece) {
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece[5] != '>') return std::nullopt;
  unsigned value = 0;
  for (const char c : piece.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                             : -1;
    if (digit < 0) return std::nullopt;
    value = value * 16 + static_cast<unsigned>(digit);
  }
  return static_cast<unsigned char>(value);
}

std::string replaced(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  out.reserve(text.size() + text.size() / 4);
  for (std::size_t at; (at = text.find(from)) != std::string_view::npos;) {
    out.append(text.substr(0, at)).append(to);
    text.remove_prefix(at + from.size());
  }
  out.append(text);
  return out;
}

}  // namespace

struct Tokenizer::Impl {
  explicit Impl(TokenizerSpec&& given);

  std::size_t index_of(TokenId id) const {
    require(value(id) >= 0 && static_cast<std::size_t>(value(id)) < vocab_size,
            ErrorCode::InvalidArgument, "{}: token id {} is outside the vocabulary of {}",
            spec.origin, value(id), vocab_size);
    return static_cast<std::size_t>(value(id));
  }
  TokenType type(std::size_t id) const {
    return spec.types.empty() ? TokenType::Normal : spec.types[id];
  }
  bool is_sentence_piece() const { return spec.model == TokenizerModel::SentencePieceBpe; }

  void check_spec() const;
  void index_pieces();
  void index_added();
  void find_ends();

  std::string with_spaces(std::string_view text, bool first) const;
  std::string normalised(std::string_view text) const;
  void encode_segment(std::string_view text, bool first, bool parse_special,
                      std::vector<TokenId>& out) const;
  void encode_plain(std::string_view text, std::vector<TokenId>& out) const;

  TokenizerSpec spec;  // its pieces, types, scores and merges are dropped once they are indexed
  std::size_t vocab_size;
  StringTable pieces;         // [vocab_size] the bytes of each token as they stand in text
  std::vector<bool> in_text;  // [vocab_size] whether merging may give the token
  std::vector<bool> special;  // [vocab_size]
  std::unique_ptr<Bpe> bpe;
  AddedTokenMatcher raw_added;         // searched in the text as given
  AddedTokenMatcher normalised_added;  // and these after normalising
  std::unordered_map<std::string_view, TokenId> added_ids;
  std::vector<TokenId> ends;
};

Tokenizer::Impl::Impl(TokenizerSpec&& given)
    : spec(std::move(given)), vocab_size(spec.pieces.size()) {
  check_spec();
  index_pieces();
  bpe = std::make_unique<Bpe>(spec, pieces, in_text);
  index_added();
  find_ends();
  spec.pieces = {};
  spec.types = {};
  spec.scores = {};
  spec.merges = {};
}

void Tokenizer::Impl::check_spec() const {
  const std::size_t n = vocab_size;
  require(n > 0, ErrorCode::Corrupt, "{}: the vocabulary is empty", spec.origin);
  require(n <= kMostTokens, ErrorCode::ResourceLimit,
          "{}: the vocabulary has {} tokens; more than {} are not supported", spec.origin, n,
          kMostTokens);
  require(spec.types.empty() || spec.types.size() == n, ErrorCode::Corrupt,
          "{}: {} tokens but {} token types", spec.origin, n, spec.types.size());
  require(spec.scores.empty() || spec.scores.size() == n, ErrorCode::Corrupt,
          "{}: {} tokens but {} scores", spec.origin, n, spec.scores.size());
  require(spec.merges.size() <= kMostTokens, ErrorCode::ResourceLimit,
          "{}: {} merges; more than {} are not supported", spec.origin, spec.merges.size(),
          kMostTokens);
  const auto check_id = [&](TokenId id, std::string_view what) {
    require(value(id) >= 0 && static_cast<std::size_t>(value(id)) < n, ErrorCode::Corrupt,
            "{}: the {} token is {}, but the vocabulary has {} tokens", spec.origin, what,
            value(id), n);
  };
  if (spec.bos) check_id(*spec.bos, "bos");
  if (spec.eos) check_id(*spec.eos, "eos");
  if (spec.unk) check_id(*spec.unk, "unknown");
  if (spec.pad) check_id(*spec.pad, "padding");
  for (const TokenId id : spec.end_of_generation) check_id(id, "end-of-generation");
  for (const AddedToken& token : spec.added) {
    check_id(token.id, "added");
    require(token.content.size() <= kLongestAdded, ErrorCode::ResourceLimit,
            "{}: added token {} has {} bytes; more than {} are not supported", spec.origin,
            value(token.id), token.content.size(), kLongestAdded);
  }
  require(!spec.add_bos || spec.bos, ErrorCode::Corrupt,
          "{}: a bos token is to be added, but none is named", spec.origin);
  require(!spec.add_eos || spec.eos, ErrorCode::Corrupt,
          "{}: an eos token is to be added, but none is named", spec.origin);
  for (std::size_t id = 0; id < n; ++id) {
    require(spec.pieces[id].size() <= kLongestPiece, ErrorCode::ResourceLimit,
            "{}: token {} has {} bytes; more than {} are not supported", spec.origin, id,
            spec.pieces[id].size(), kLongestPiece);
    const auto number = static_cast<unsigned>(type(id));
    require(number >= 1 && number <= 6, ErrorCode::Corrupt, "{}: token {} has the unknown type {}",
            spec.origin, id, number);
  }
}

void Tokenizer::Impl::index_pieces() {
  in_text.assign(vocab_size, false);
  special.assign(vocab_size, false);
  std::size_t bytes = 0;
  for (const std::string& piece : spec.pieces) bytes += piece.size();
  pieces.reserve(vocab_size, bytes);
  for (std::size_t id = 0; id < vocab_size; ++id) {
    const std::string& piece = spec.pieces[id];
    const TokenType kind = type(id);
    special[id] = kind == TokenType::Control || kind == TokenType::Unknown;
    if (special[id] || kind == TokenType::UserDefined) {
      pieces.push_back(piece);
    } else if (!is_sentence_piece()) {
      // What is not in the byte alphabet can only be an added token: it stands for itself.
      const std::optional<std::string> written = from_byte_alphabet(piece);
      in_text[id] = written.has_value();
      pieces.push_back(written ? *written : piece);
    } else if (kind == TokenType::Byte) {
      const std::optional<unsigned char> byte = parse_byte_piece(piece);
      require(byte.has_value(), ErrorCode::Corrupt,
              "{}: token {} is of the byte type but is '{}', not <0x00> to <0xFF>", spec.origin, id,
              to_valid_utf8(piece.substr(0, 32)));
      const char c = static_cast<char>(*byte);
      pieces.push_back({&c, 1});
    } else {
      // A space in text is always written U+2581, so a piece with a real one is never found there.
      in_text[id] = piece.find(' ') == std::string::npos;
      pieces.push_back(replaced(piece, kSpaceSign, " "));
    }
  }
}

void Tokenizer::Impl::index_added() {
  for (const AddedToken& token : spec.added) {
    if (token.content.empty()) continue;
    if (token.special) special[index_of(token.id)] = true;
    added_ids.emplace(token.content, token.id);
    if (token.normalized) {
      normalised_added.add(normalised(token.content), token);
    } else {
      raw_added.add(token.content, token);
    }
  }
}

void Tokenizer::Impl::find_ends() {
  ends = spec.end_of_generation;
  if (spec.eos) ends.push_back(*spec.eos);
  for (const AddedToken& token : spec.added) {
    // "</s>" is also a word of HTML: it ends a text only where it is a control token.
    const bool sure = token.special || token.content.starts_with("<|");
    if (sure && std::find(std::begin(kEndTokens), std::end(kEndTokens), token.content) !=
                    std::end(kEndTokens)) {
      ends.push_back(token.id);
    }
  }
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
}

/// SentencePiece's view of a segment. Pieces are kept with plain spaces for U+2581, so it is the
/// text itself with the space before it, and with U+2581 in it turned into spaces.
std::string Tokenizer::Impl::with_spaces(std::string_view text, bool first) const {
  const bool starts_with_space = text.starts_with(' ') || text.starts_with(kSpaceSign);
  const bool prefix =
      spec.space_prefix == SpacePrefix::EverySegment ||
      (spec.space_prefix == SpacePrefix::EverySegmentIfNone && !starts_with_space) ||
      (spec.space_prefix == SpacePrefix::FirstSegmentIfNone && !starts_with_space && first);
  std::string out;
  out.reserve(text.size() + 1);
  if (prefix) out.push_back(' ');
  if (text.find(kSpaceSign) == std::string_view::npos) return out.append(text);
  return out.append(replaced(text, kSpaceSign, " "));
}

/// What the file's normaliser makes of `text`. Llama 2's puts the space in front already here;
/// later SentencePiece files leave that to the pre-tokenizer.
std::string Tokenizer::Impl::normalised(std::string_view text) const {
  if (spec.space_prefix == SpacePrefix::EverySegment) return with_spaces(text, true);
  if (spec.normaliser == Normaliser::Nfc && !unicode::is_surely_nfc(text)) {
    return unicode::nfc(text);
  }
  return std::string(text);
}

void Tokenizer::Impl::encode_plain(std::string_view text, std::vector<TokenId>& out) const {
  if (!is_sentence_piece()) {
    split_words(spec.pre_tokenizer, text, [&](std::string_view word) { bpe->encode(word, out); });
    return;
  }
  // No pre-tokenizer: the text is one word. But where no merge can cross a space that follows
  // something else, cutting there changes nothing and makes short words.
  std::size_t begin = 0;
  for (std::size_t at = 1; bpe->words_are_separable() && at < text.size(); ++at) {
    at = text.find(' ', at);
    if (at == std::string_view::npos) break;
    if (text[at - 1] == ' ') continue;
    bpe->encode(text.substr(begin, at - begin), out);
    begin = at;
  }
  if (begin < text.size()) bpe->encode(text.substr(begin), out);
}

void Tokenizer::Impl::encode_segment(std::string_view text, bool first, bool parse_special,
                                     std::vector<TokenId>& out) const {
  std::string changed;
  const bool settled = spec.space_prefix != SpacePrefix::EverySegment &&
                       (spec.normaliser == Normaliser::None || unicode::is_surely_nfc(text));
  if (!settled) {
    changed = normalised(text);
    text = changed;
  }
  std::vector<TextPart> segments;
  normalised_added.split(text, parse_special, segments);
  for (const TextPart& segment : segments) {
    if (segment.token) {
      out.push_back(segment.token->id);
    } else if (is_sentence_piece() && spec.space_prefix != SpacePrefix::EverySegment) {
      const bool at_start = first && segment.text.data() == text.data();
      encode_plain(with_spaces(segment.text, at_start), out);
    } else {
      encode_plain(segment.text, out);
    }
  }
}

Tokenizer::Tokenizer(TokenizerSpec spec) : impl_(std::make_shared<const Impl>(std::move(spec))) {}

Tokenizer Tokenizer::from_json(std::string_view tokenizer_json,
                               std::string_view tokenizer_config_json, std::string_view origin) {
  return Tokenizer(parse_tokenizer_json(tokenizer_json, tokenizer_config_json, origin));
}

std::vector<TokenId> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  const Impl& impl = *impl_;
  require(text.size() <= kLongestText, ErrorCode::ResourceLimit,
          "a text of {} bytes is too long to tokenize at once; the limit is {}", text.size(),
          kLongestText);
  std::vector<TokenId> out;
  out.reserve(text.size() / 3 + 2);
  if (options.add_special && impl.spec.add_bos) out.push_back(*impl.spec.bos);
  std::vector<TextPart> segments;
  impl.raw_added.split(text, options.parse_special, segments);
  for (const TextPart& segment : segments) {
    if (segment.token) {
      out.push_back(segment.token->id);
    } else {
      impl.encode_segment(segment.text, segment.text.data() == text.data(), options.parse_special,
                          out);
    }
  }
  if (options.add_special && impl.spec.add_eos) out.push_back(*impl.spec.eos);
  return out;
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool skip_special) const {
  const Impl& impl = *impl_;
  std::string out;
  for (const TokenId id : ids) {
    const std::size_t index = impl.index_of(id);
    if (!skip_special || !impl.special[index]) out.append(impl.pieces[index]);
  }
  if (has_space_prefix() && out.starts_with(' ')) out.erase(0, 1);
  return out;
}

std::string_view Tokenizer::piece(TokenId id) const { return impl_->pieces[impl_->index_of(id)]; }
std::size_t Tokenizer::vocab_size() const { return impl_->vocab_size; }
std::optional<TokenId> Tokenizer::bos() const { return impl_->spec.bos; }
std::optional<TokenId> Tokenizer::eos() const { return impl_->spec.eos; }
std::optional<TokenId> Tokenizer::unk() const { return impl_->spec.unk; }
std::optional<TokenId> Tokenizer::pad() const { return impl_->spec.pad; }
std::span<const TokenId> Tokenizer::end_of_generation() const { return impl_->ends; }
bool Tokenizer::is_end_of_generation(TokenId id) const {
  return std::binary_search(impl_->ends.begin(), impl_->ends.end(), id);
}
bool Tokenizer::is_special(TokenId id) const { return impl_->special[impl_->index_of(id)]; }
bool Tokenizer::add_bos() const { return impl_->spec.add_bos; }
bool Tokenizer::add_eos() const { return impl_->spec.add_eos; }
bool Tokenizer::has_space_prefix() const { return impl_->spec.space_prefix != SpacePrefix::None; }
PreTokenizer Tokenizer::pre_tokenizer() const { return impl_->spec.pre_tokenizer; }
TokenizerModel Tokenizer::model() const { return impl_->spec.model; }

std::optional<TokenId> Tokenizer::token_to_id(std::string_view text) const {
  const auto added = impl_->added_ids.find(text);
  if (added != impl_->added_ids.end()) return added->second;
  const std::uint32_t id = impl_->bpe->find_piece(text);
  if (id == kNoSymbol) return std::nullopt;
  return static_cast<TokenId>(id);
}

std::vector<std::pair<TokenId, TokenId>> resolve_merges(std::span<const std::string> pieces,
                                                        std::span<const std::string_view> merges,
                                                        std::string_view origin) {
  std::unordered_map<std::string_view, std::int32_t> ids;
  ids.reserve(pieces.size());
  for (std::size_t id = 0; id < pieces.size(); ++id) {
    ids.emplace(pieces[id], checked_cast<std::int32_t>(id, "token id"));
  }
  std::vector<std::pair<TokenId, TokenId>> resolved;
  resolved.reserve(merges.size());
  for (const std::string_view merge : merges) {
    // Neither side holds a space (both alphabets write it otherwise), unless the left is one.
    const std::size_t space = merge.find(' ', 1);
    const auto left = space == merge.npos ? ids.end() : ids.find(merge.substr(0, space));
    const auto right = space == merge.npos ? ids.end() : ids.find(merge.substr(space + 1));
    require(left != ids.end() && right != ids.end(), ErrorCode::Corrupt,
            "{}: merge {}, '{}', is not two tokens of the vocabulary", origin, resolved.size(),
            to_valid_utf8(merge.substr(0, 64)));
    resolved.emplace_back(static_cast<TokenId>(left->second), static_cast<TokenId>(right->second));
  }
  return resolved;
}

}  // namespace fathom
