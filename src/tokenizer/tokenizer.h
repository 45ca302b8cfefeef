// Text to token ids and back: byte-level BPE and SentencePiece BPE, by the vocabulary a model
// carries.
//
// Owns the rules of tokenization; knows nothing of model files (engine/tokenizer_loader.h reads
// those) and nothing of chat templates. The ids are those of Hugging Face `tokenizers`; every rule
// that would be a guess (an unknown pre-tokenizer, normaliser or model) is Error(Unsupported).
//
// Bytes that are not UTF-8. A model sees bytes, so no text is refused: an ill-formed sequence is
// split from its neighbours as U+FFFD would be (one per maximal ill-formed part, Unicode 16,
// section 3.9), but its own bytes are encoded. Hence decode(encode(x)) == x for any bytes, with
// exceptions that the vocabularies make: a byte that has no token and no byte fallback is
// encoded as the unknown token or, without one, left out (DeepSeek-LLM and Coder lack 0xC0, 0xC1
// and 0xF5-0xFF, which UTF-8 never holds); Qwen's text comes back in normal form C; SentencePiece
// writes U+2581 for a space, so U+2581 itself comes back as a space, and starts anew, with a space,
// after a special token in the text; white space that an added token swallows (lstrip) is gone.
//
// All of encode is O(n log n) at worst, in practice linear, on any input.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/ids.h"

namespace fathom {

enum class TokenizerModel {
  ByteLevelBpe,      // GPT-2's: pieces are bytes, written in GPT-2's printable byte alphabet
  SentencePieceBpe,  // Llama 2's: pieces are UTF-8 with U+2581 for a space, bytes as <0xNN>
};

/// How text is cut into words before BPE; each is one hand-written scanner (pre_tokenizer.h).
enum class PreTokenizer {
  None,           // SentencePiece: the text is one word
  Gpt2,           // GPT-2
  SmolLm,         // GPT-2 with every digit on its own
  Llama3,         // Llama 3 and R1-Distill-Llama: numbers by threes
  Qwen2,          // Qwen2, Qwen3 and R1-Distill-Qwen: every digit on its own
  DeepSeekLlm,    // DeepSeek-LLM, DeepSeekMoE, V2 and V2.5
  DeepSeekCoder,  // DeepSeek-Coder
  DeepSeekV3,     // V3, V3.1 and R1
};

enum class Normaliser { None, Nfc };

/// Where SentencePiece puts the space that makes "Hello" and " Hello" start alike.
enum class SpacePrefix {
  None,
  EverySegment,        // before the text and after each added token, even if a space is there
  EverySegmentIfNone,  // the same, unless the segment starts with one
  FirstSegmentIfNone,  // before the text only, unless it starts with one
};

/// As GGUF's tokenizer.ggml.token_type numbers them.
enum class TokenType : std::uint8_t {
  Normal = 1,
  Unknown = 2,
  Control = 3,      // special: cannot be written by plain text unless parse_special
  UserDefined = 4,  // matched in text before BPE
  Unused = 5,
  Byte = 6,  // <0xNN>
};

/// A token matched in the text as a whole, before anything else looks at it.
struct AddedToken {
  std::string content;  // as it stands in text, UTF-8
  TokenId id{};
  bool special = false;      // only found with parse_special; left out of decode on request
  bool lstrip = false;       // swallows white space before it
  bool rstrip = false;       // and after it
  bool normalized = false;   // searched in the normalised text, after the others
  bool single_word = false;  // only between characters that are not word characters
};

/// Everything a tokenizer is, as plain data. Build it from a file, then make a Tokenizer.
struct TokenizerSpec {
  std::string origin = "tokenizer";  // the file, for messages
  TokenizerModel model = TokenizerModel::ByteLevelBpe;
  PreTokenizer pre_tokenizer = PreTokenizer::None;
  Normaliser normaliser = Normaliser::None;
  SpacePrefix space_prefix = SpacePrefix::None;

  std::vector<std::string> pieces;  // [vocab_size], as the file writes them; "" where no token is
  std::vector<TokenType> types;     // [vocab_size], or empty: all Normal
  std::vector<float> scores;        // [vocab_size], or empty; ranks SentencePiece without merges

  /// Pairs to merge, best first; the result is the piece that is both joined. Empty for a
  /// SentencePiece vocabulary with scores: any two pieces that make a piece merge, best score
  /// first.
  std::vector<std::pair<TokenId, TokenId>> merges;
  /// A word that is a piece becomes that piece even if merges would not get there (Llama 3).
  bool ignore_merges = false;
  bool byte_fallback = false;  // SentencePiece: characters without a piece become <0xNN>
  bool fuse_unknown = false;   // one unknown token for a run of them

  std::vector<AddedToken> added;

  std::optional<TokenId> bos, eos, unk, pad;
  /// Further tokens that end a generation; eos and the well-known control tokens (<|im_end|>,
  /// <|eot_id|>, ...) are found without being listed.
  std::vector<TokenId> end_of_generation;
  bool add_bos = false;
  bool add_eos = false;
};

/// Ids of `merges` written "left right", in the vocabulary `pieces`. Throws Error(Corrupt) naming
/// the first merge that is not two known pieces.
std::vector<std::pair<TokenId, TokenId>> resolve_merges(std::span<const std::string> pieces,
                                                        std::span<const std::string_view> merges,
                                                        std::string_view origin);

/// Reads Hugging Face's tokenizer.json and, for special tokens, tokenizer_config.json ("" when
/// there is none). Throws Error(Corrupt | Unsupported | ResourceLimit).
TokenizerSpec parse_tokenizer_json(std::string_view tokenizer_json,
                                   std::string_view tokenizer_config_json = {},
                                   std::string_view origin = "tokenizer.json");

struct EncodeOptions {
  bool add_special = true;    // bos and eos, where the model's own tokenizer adds them
  bool parse_special = true;  // false: "<|im_end|>" in the text is text. Always false for text that
                              // a user wrote, or a user can forge a turn
};

/// Immutable and cheap to copy (copies share the vocabulary); any number of threads may use one.
class Tokenizer {
 public:
  /// Throws Error(Corrupt) when the spec contradicts itself (ids out of range, merges that make no
  /// piece), Error(Unsupported | ResourceLimit).
  explicit Tokenizer(TokenizerSpec spec);
  static Tokenizer from_json(std::string_view tokenizer_json,
                             std::string_view tokenizer_config_json = {},
                             std::string_view origin = "tokenizer.json");

  std::vector<TokenId> encode(std::string_view text, EncodeOptions options = {}) const;

  /// The tokens' bytes, joined: not always UTF-8 (see to_valid_utf8). For SentencePiece, the space
  /// that encode put before the text is taken off. Throws Error(InvalidArgument) for an id outside
  /// the vocabulary.
  std::string decode(std::span<const TokenId> ids, bool skip_special = false) const;

  /// The bytes of one token as it stands inside a text: " the", "\xE2". Empty for an id without a
  /// token. Lives as long as any copy of this tokenizer. Throws Error(InvalidArgument) as decode().
  std::string_view piece(TokenId id) const;

  /// Ids are in [0, vocab_size). A model's embedding table may have more rows (padding).
  std::size_t vocab_size() const;
  std::optional<TokenId> bos() const;
  std::optional<TokenId> eos() const;
  std::optional<TokenId> unk() const;
  std::optional<TokenId> pad() const;
  /// Every token after which generation stops, ascending.
  std::span<const TokenId> end_of_generation() const;
  bool is_end_of_generation(TokenId id) const;
  /// Control tokens: what skip_special leaves out.
  bool is_special(TokenId id) const;
  bool add_bos() const;
  bool add_eos() const;

  /// The token whose whole text is `text`: an added token as written, else a piece by its bytes
  /// ("<|im_end|>", " the").
  std::optional<TokenId> token_to_id(std::string_view text) const;

  PreTokenizer pre_tokenizer() const;
  TokenizerModel model() const;
  /// Whether encode puts a space before the text that decode takes off.
  bool has_space_prefix() const;

  struct Impl;

 private:
  std::shared_ptr<const Impl> impl_;
};

/// Tokens in, valid UTF-8 out, as soon as it is certain: the bytes of a character that is not yet
/// complete are held back, and what can no longer become a character is U+FFFD.
class StreamDecoder {
 public:
  /// `continues`: the stream goes on from a prompt, so a leading space of SentencePiece is text and
  /// is kept; otherwise it is taken off as in decode().
  explicit StreamDecoder(Tokenizer tokenizer, bool skip_special = true, bool continues = true);

  /// The text that became certain with this token; may be empty.
  std::string push(TokenId id);
  /// What is still held back, as U+FFFD; the decoder is then as new.
  std::string finish();

 private:
  Tokenizer tokenizer_;
  std::string pending_;  // the start of a character, at most 3 bytes
  bool skip_special_;
  bool continues_;
  bool at_start_;
};

/// `bytes` with every maximal ill-formed part replaced by U+FFFD, as Python's
/// decode(errors="replace") does.
std::string to_valid_utf8(std::string_view bytes);

}  // namespace fathom
