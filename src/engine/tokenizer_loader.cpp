// Implements tokenizer_loader.h.
#include "engine/tokenizer_loader.h"

#include "base/checked.h"
#include "base/error.h"
#include "formats/file_text.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/tokenizer_file.h"

namespace fathom {
namespace {

/// The array at `key`, or nullptr when it is absent. `T` is one of the MetaValue's arrays.
template <typename T>
const T* array(const Checkpoint& checkpoint, std::string_view key, std::string_view what) {
  const MetaValue* found = checkpoint.metadata(key);
  if (found == nullptr) return nullptr;
  const T* items = std::get_if<T>(found);
  require(items != nullptr, ErrorCode::Corrupt, "{}: '{}' is {}, expected an array of {}",
          checkpoint.path().string(), key, kind_of(*found), what);
  return items;
}

std::optional<TokenId> token_id(const Checkpoint& checkpoint, std::string_view key) {
  const std::optional<std::int64_t> id = checkpoint.get_int(key);
  if (!id) return std::nullopt;
  return static_cast<TokenId>(checked_cast<std::int32_t>(*id, "token id"));
}

/// `key` as one id or several, appended to `ids`.
void append_ids(const Checkpoint& checkpoint, std::string_view key, std::vector<TokenId>& ids) {
  const MetaValue* found = checkpoint.metadata(key);
  if (found == nullptr) return;
  if (const auto* several = std::get_if<MetaInts>(found)) {
    for (const std::int64_t id : *several) {
      ids.push_back(static_cast<TokenId>(checked_cast<std::int32_t>(id, "token id")));
    }
  } else if (const std::optional<TokenId> one = token_id(checkpoint, key)) {
    ids.push_back(*one);
  }
}

void read_types(const Checkpoint& checkpoint, TokenizerSpec& spec) {
  const auto* types = array<MetaInts>(checkpoint, "tokenizer.ggml.token_type", "integers");
  if (types == nullptr) return;
  spec.types.reserve(types->size());
  for (std::size_t id = 0; id < types->size(); ++id) {
    const std::int64_t type = (*types)[id];
    require(type >= 1 && type <= 6, ErrorCode::Corrupt,
            "{}: tokenizer.ggml.token_type of token {} is {}, expected 1 to 6", spec.origin, id,
            type);
    spec.types.push_back(static_cast<TokenType>(type));
  }
}

void read_scores(const Checkpoint& checkpoint, TokenizerSpec& spec) {
  const auto* scores = array<MetaFloats>(checkpoint, "tokenizer.ggml.scores", "numbers");
  if (scores == nullptr) return;
  for (const double score : *scores) spec.scores.push_back(static_cast<float>(score));
}

/// GGUF does not list added tokens; they are the control and user-defined ones, found in text as
/// they are written.
void derive_added(TokenizerSpec& spec) {
  for (std::size_t id = 0; id < spec.types.size() && id < spec.pieces.size(); ++id) {
    const TokenType type = spec.types[id];
    const bool special = type == TokenType::Control || type == TokenType::Unknown;
    if (!special && type != TokenType::UserDefined) continue;
    AddedToken token;
    token.content = spec.pieces[id];
    token.id = static_cast<TokenId>(checked_cast<std::int32_t>(id, "token id"));
    token.special = special;
    spec.added.push_back(std::move(token));
  }
}

void read_byte_level(const Checkpoint& checkpoint, TokenizerSpec& spec) {
  const std::optional<std::string_view> pre = checkpoint.get_string("tokenizer.ggml.pre");
  require(
      pre.has_value(), ErrorCode::Unsupported,
      "{}: has no tokenizer.ggml.pre, so how its text is cut into words is unknown; convert the "
      "model again with a converter that writes it",
      spec.origin);
  spec.model = TokenizerModel::ByteLevelBpe;
  spec.pre_tokenizer = pre_tokenizer_from_gguf(*pre, spec.origin);
  // GGUF says neither; these go with the pre-tokenizer in the models' own tokenizer.json.
  spec.ignore_merges = spec.pre_tokenizer == PreTokenizer::Llama3;
  if (spec.pre_tokenizer == PreTokenizer::Qwen2) spec.normaliser = Normaliser::Nfc;

  const auto* merges = array<MetaStrings>(checkpoint, "tokenizer.ggml.merges", "strings");
  require(merges != nullptr, ErrorCode::Corrupt, "{}: has a byte-level vocabulary but no merges",
          spec.origin);
  spec.merges = resolve_merges(spec.pieces, *merges, spec.origin);
}

void read_sentence_piece(const Checkpoint& checkpoint, TokenizerSpec& spec) {
  const std::optional<std::string_view> pre = checkpoint.get_string("tokenizer.ggml.pre");
  require(!pre || *pre == "default", ErrorCode::Unsupported,
          "{}: tokenizer.ggml.pre is '{}' in a SentencePiece vocabulary, which Fathom does not "
          "implement",
          spec.origin, pre.value_or(""));
  require(!checkpoint.get_bool("tokenizer.ggml.remove_extra_whitespaces").value_or(false),
          ErrorCode::Unsupported,
          "{}: tokenizer.ggml.remove_extra_whitespaces is set, which Fathom does not implement",
          spec.origin);
  spec.model = TokenizerModel::SentencePieceBpe;
  if (checkpoint.get_bool("tokenizer.ggml.add_space_prefix").value_or(true)) {
    spec.space_prefix = SpacePrefix::EverySegment;
  }
  spec.byte_fallback = true;
  spec.fuse_unknown = true;
  read_scores(checkpoint, spec);
  require(!spec.scores.empty(), ErrorCode::Corrupt,
          "{}: has a SentencePiece vocabulary but no scores", spec.origin);
}

}  // namespace

TokenizerSpec gguf_tokenizer(const Checkpoint& checkpoint) {
  TokenizerSpec spec;
  spec.origin = checkpoint.path().string();
  const auto* tokens = array<MetaStrings>(checkpoint, "tokenizer.ggml.tokens", "strings");
  require(tokens != nullptr, ErrorCode::NotFound,
          "{}: has no vocabulary (tokenizer.ggml.tokens); it is not a complete language model",
          spec.origin);
  spec.pieces.assign(tokens->begin(), tokens->end());
  read_types(checkpoint, spec);

  const std::string_view model = checkpoint.need_string("tokenizer.ggml.model");
  if (model == "gpt2") {
    read_byte_level(checkpoint, spec);
  } else if (model == "llama") {
    read_sentence_piece(checkpoint, spec);
  } else {
    fail(ErrorCode::Unsupported,
         "{}: tokenizer.ggml.model is '{}'; Fathom implements gpt2 (byte-level BPE) and llama "
         "(SentencePiece BPE)",
         spec.origin, model);
  }
  derive_added(spec);

  spec.bos = token_id(checkpoint, "tokenizer.ggml.bos_token_id");
  spec.eos = token_id(checkpoint, "tokenizer.ggml.eos_token_id");
  spec.pad = token_id(checkpoint, "tokenizer.ggml.padding_token_id");
  const bool sentence_piece = spec.model == TokenizerModel::SentencePieceBpe;
  // Byte-level models leave out bytes they have no token for, whatever unknown token a converter
  // wrote: their tokenizer.json names none.
  if (sentence_piece) spec.unk = token_id(checkpoint, "tokenizer.ggml.unknown_token_id");
  for (const char* key : {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
    append_ids(checkpoint, key, spec.end_of_generation);
  }
  // Without the keys: what the models' own tokenizers do.
  const bool by_default = sentence_piece || spec.pre_tokenizer == PreTokenizer::Llama3;
  spec.add_bos =
      checkpoint.get_bool("tokenizer.ggml.add_bos_token").value_or(by_default && spec.bos);
  spec.add_eos = checkpoint.get_bool("tokenizer.ggml.add_eos_token").value_or(false);
  return spec;
}

namespace {

TokenizerSpec spec_from_folder(const Checkpoint& checkpoint) {
  const bool is_folder = std::filesystem::is_directory(checkpoint.path());
  const auto folder = is_folder ? checkpoint.path() : checkpoint.path().parent_path();
  require(is_present(folder / "tokenizer.json"), ErrorCode::NotFound,
          "{}: has no tokenizer.json; other forms of a vocabulary are not read", folder.string());
  const auto path = resolve_inside(folder, "tokenizer.json", folder);
  std::string config;
  if (is_present(folder / "tokenizer_config.json")) {
    config = read_tokenizer_config(resolve_inside(folder, "tokenizer_config.json", folder));
  }
  TokenizerSpec spec = tokenizer_spec(read_tokenizer_file(path), config, path.string());
  append_ids(checkpoint, "generation_config.eos_token_id", spec.end_of_generation);
  append_ids(checkpoint, "eos_token_id", spec.end_of_generation);
  return spec;
}

}  // namespace

Tokenizer load_tokenizer(const Checkpoint& checkpoint) {
  switch (checkpoint.source()) {
    case CheckpointSource::Gguf:
      return Tokenizer(gguf_tokenizer(checkpoint));
    case CheckpointSource::HuggingFace:
      return Tokenizer(spec_from_folder(checkpoint));
    case CheckpointSource::Memory:
      break;
  }
  fail(ErrorCode::NotFound, "{}: a model in memory carries no tokenizer",
       checkpoint.path().string());
}

std::size_t usable_vocabulary(const ModelConfig& config, const Tokenizer& tokenizer) {
  const auto rows = static_cast<std::size_t>(config.vocab_size);
  require(tokenizer.vocab_size() <= rows, ErrorCode::Corrupt,
          "the tokenizer has {} tokens, but the model only {}; they do not belong together",
          tokenizer.vocab_size(), rows);
  return tokenizer.vocab_size();
}

}  // namespace fathom
