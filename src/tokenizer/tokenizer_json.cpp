// Reads Hugging Face's tokenizer.json and tokenizer_config.json into a TokenizerSpec.
//
// Such a file is a small program: normaliser, pre-tokenizer, model, post-processor, each with
// options. What is understood is recognised exactly, regular expressions by their text; anything
// else is Error(Unsupported) that names it, because a near miss gives plausible but wrong ids.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/checked.h"
#include "base/error.h"
#include "base/json_guard.h"
#include "tokenizer/bpe.h"
#include "tokenizer/hf_pre_tokenizers.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/tokenizer_file.h"

namespace fathom {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kSpaceSign = "\xE2\x96\x81";  // U+2581, SentencePiece's space
constexpr std::size_t kMostTokens = std::size_t{64} << 20;

class Reader {
 public:
  Reader(const TokenizerFile& tables, const Json& config, std::string_view origin)
      : tables_(tables), file_(tables.rest), config_(config), origin_(origin) {}

  TokenizerSpec read();

 private:
  template <typename... Args>
  [[noreturn]] void unsupported(fmt::format_string<Args...> format, Args&&... args) const {
    fail(ErrorCode::Unsupported, "{}: {}; Fathom does not implement it and will not guess", origin_,
         fmt::format(format, std::forward<Args>(args)...));
  }
  template <typename... Args>
  [[noreturn]] void corrupt(fmt::format_string<Args...> format, Args&&... args) const {
    fail(ErrorCode::Corrupt, "{}: {}", origin_, fmt::format(format, std::forward<Args>(args)...));
  }

  // Fields by type; absent and null are the same.
  static const Json* field(const Json& object, const char* key);
  std::string text(const Json& object, const char* key) const;
  bool flag(const Json& object, const char* key, bool otherwise) const;
  TokenId token_id(const Json& value, std::string_view what) const;
  std::vector<const Json*> steps(const char* key, const char* list) const;

  void read_vocabulary();
  void read_added();
  void read_normaliser();
  void read_pre_tokenizer();
  void read_metaspace(const Json& step);
  void read_merges();
  void read_post_processor();
  void read_config();
  std::optional<TokenId> find(std::string_view piece) const;

  const TokenizerFile& tables_;
  const Json& file_;
  const Json& config_;
  const std::string origin_;
  TokenizerSpec spec_;
  std::vector<bool> present_;  // [vocab_size]
  StringTable table_;          // spec_.pieces again, as ids_ wants them
  std::optional<PieceIndex> ids_;
};

const Json* Reader::field(const Json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

std::string Reader::text(const Json& object, const char* key) const {
  const Json* value = field(object, key);
  if (value == nullptr) return {};
  if (!value->is_string()) corrupt("'{}' is a {}, not a string", key, value->type_name());
  return value->get<std::string>();
}

bool Reader::flag(const Json& object, const char* key, bool otherwise) const {
  const Json* value = field(object, key);
  if (value == nullptr) return otherwise;
  if (!value->is_boolean()) corrupt("'{}' is a {}, not true or false", key, value->type_name());
  return value->get<bool>();
}

TokenId Reader::token_id(const Json& value, std::string_view what) const {
  if (!value.is_number_integer()) corrupt("the id of {} is not an integer", what);
  const bool fits = value.is_number_unsigned()
                        ? value.get<std::uint64_t>() < kMostTokens
                        : value.get<std::int64_t>() >= 0 &&
                              value.get<std::int64_t>() < static_cast<std::int64_t>(kMostTokens);
  if (!fits) corrupt("the id of {} is {}, not in 0 to {}", what, value.dump(), kMostTokens - 1);
  return static_cast<TokenId>(value.get<std::int32_t>());
}

/// The parts of a component: those of a Sequence (however nested), or the one itself.
std::vector<const Json*> Reader::steps(const char* key, const char* list) const {
  std::vector<const Json*> flat;
  std::vector<const Json*> open;
  if (const Json* component = field(file_, key)) open.push_back(component);
  while (!open.empty()) {
    const Json& component = *open.back();
    open.pop_back();
    if (!component.is_object()) corrupt("'{}' is not an object", key);
    if (text(component, "type") != "Sequence") {
      flat.push_back(&component);
      continue;
    }
    const Json* parts = field(component, list);
    if (parts == nullptr || !parts->is_array()) corrupt("'{}' has no list '{}'", key, list);
    for (auto part = parts->rbegin(); part != parts->rend(); ++part) open.push_back(&*part);
  }
  return flat;
}

std::optional<TokenId> Reader::find(std::string_view piece) const {
  const std::uint32_t id = ids_->find(piece);
  if (id == kNoSymbol) return std::nullopt;
  return static_cast<TokenId>(id);
}

void Reader::read_vocabulary() {
  if (!tables_.has_vocab) corrupt("there is no object 'model.vocab'");
  const Json* added = field(file_, "added_tokens");
  if (added != nullptr && !added->is_array()) corrupt("'added_tokens' is not an array");

  std::size_t size = 0;
  for (std::size_t i = 0; i < tables_.ids.size(); ++i) {
    const std::int64_t id = tables_.ids[i];
    if (id < 0 || id >= static_cast<std::int64_t>(kMostTokens)) {
      corrupt("the id of token '{}' is not in 0 to {}", tables_.pieces[i], kMostTokens - 1);
    }
    size = std::max(size, static_cast<std::size_t>(id) + 1);
  }
  std::size_t count = tables_.ids.size();
  if (added != nullptr) {
    count += added->size();
    for (const Json& token : *added) {
      const Json* id = field(token, "id");
      if (id == nullptr) corrupt("an added token has no id");
      size = std::max(size, static_cast<std::size_t>(value(token_id(*id, "an added token"))) + 1);
    }
  }
  // Ids may have holes, but a few tokens must not claim gigabytes of table.
  if (size > 2 * count + 1024) {
    corrupt("the highest token id is {}, but there are only {} tokens", size - 1, count);
  }
  spec_.pieces.resize(size);
  spec_.types.assign(size, TokenType::Unused);
  present_.assign(size, false);
  for (std::size_t i = 0; i < tables_.ids.size(); ++i) {
    const auto id = static_cast<std::size_t>(tables_.ids[i]);
    if (present_[id]) {
      corrupt("tokens '{}' and '{}' have the same id {}", spec_.pieces[id], tables_.pieces[i], id);
    }
    present_[id] = true;
    spec_.pieces[id] = tables_.pieces[i];
    spec_.types[id] = TokenType::Normal;
  }
}

void Reader::read_added() {
  const Json* added = field(file_, "added_tokens");
  if (added == nullptr) return;
  for (const Json& entry : *added) {
    AddedToken token;
    token.content = text(entry, "content");
    token.id = token_id(entry["id"], "an added token");
    token.special = flag(entry, "special", false);
    token.lstrip = flag(entry, "lstrip", false);
    token.rstrip = flag(entry, "rstrip", false);
    token.normalized = flag(entry, "normalized", !token.special);
    token.single_word = flag(entry, "single_word", false);
    const auto index = static_cast<std::size_t>(value(token.id));
    if (present_[index] && spec_.pieces[index] != token.content) {
      corrupt("added token '{}' has the id {} of '{}'", token.content, index, spec_.pieces[index]);
    }
    if (token.special) {
      spec_.types[index] = TokenType::Control;
    } else if (!present_[index]) {
      spec_.types[index] = TokenType::UserDefined;
    }
    present_[index] = true;
    spec_.pieces[index] = token.content;
    spec_.added.push_back(std::move(token));
  }
}

void Reader::read_normaliser() {
  std::vector<std::string> names;
  for (const Json* step : steps("normalizer", "normalizers")) {
    const std::string type = text(*step, "type");
    const Json* pattern = field(*step, "pattern");
    if (type == "NFC") {
      names.push_back(type);
    } else if (type == "Prepend" && text(*step, "prepend") == kSpaceSign) {
      names.push_back(type);
    } else if (type == "Replace" && pattern != nullptr && text(*pattern, "String") == " " &&
               text(*step, "content") == kSpaceSign) {
      names.push_back(type);
    } else {
      unsupported("the normalizer {}", step->dump());
    }
  }
  using Names = std::vector<std::string>;
  if (names.empty()) return;
  if (names == Names{"NFC"}) {
    spec_.normaliser = Normaliser::Nfc;
  } else if (names == Names{"Prepend", "Replace"}) {
    spec_.model = TokenizerModel::SentencePieceBpe;
    spec_.space_prefix = SpacePrefix::EverySegment;
  } else if (names == Names{"Replace"}) {
    spec_.model = TokenizerModel::SentencePieceBpe;
  } else {
    unsupported("the normalizer {}", file_["normalizer"].dump());
  }
}

/// SentencePiece's spaces done by a pre-tokenizer instead of a normaliser (newer files).
void Reader::read_metaspace(const Json& step) {
  const bool split = flag(step, "split", true);
  const std::string scheme = field(step, "prepend_scheme") != nullptr ? text(step, "prepend_scheme")
                             : flag(step, "add_prefix_space", true)   ? "always"
                                                                      : "never";
  if (text(step, "replacement") != kSpaceSign || split || spec_.space_prefix != SpacePrefix::None) {
    unsupported("the pre_tokenizer {}", step.dump());
  }
  spec_.model = TokenizerModel::SentencePieceBpe;
  if (scheme == "always") {
    spec_.space_prefix = SpacePrefix::EverySegmentIfNone;
  } else if (scheme == "first") {
    spec_.space_prefix = SpacePrefix::FirstSegmentIfNone;
  } else if (scheme != "never") {
    unsupported("the prepend_scheme '{}'", scheme);
  }
}

void Reader::read_pre_tokenizer() {
  const std::vector<const Json*> parts = steps("pre_tokenizer", "pretokenizers");
  std::vector<std::string> names;
  for (const Json* part : parts) {
    const std::string type = text(*part, "type");
    const Json* pattern = field(*part, "pattern");
    if (type == "Metaspace" && parts.size() == 1) {
      return read_metaspace(*part);
    } else if (type == "Split" && pattern != nullptr && text(*part, "behavior") == "Isolated" &&
               !flag(*part, "invert", false) && field(*pattern, "Regex") != nullptr) {
      names.push_back(text(*pattern, "Regex"));
    } else if (type == "Digits" && flag(*part, "individual_digits", false)) {
      names.emplace_back(kDigitsStep);
    } else if (type == "ByteLevel" && !flag(*part, "add_prefix_space", true)) {
      names.emplace_back(flag(*part, "use_regex", true) ? kByteLevelGpt2Step : kByteLevelStep);
    } else {
      unsupported("the pre_tokenizer {}", part->dump());
    }
  }
  if (spec_.model == TokenizerModel::SentencePieceBpe) {
    if (!names.empty()) unsupported("the pre_tokenizer {}", file_["pre_tokenizer"].dump());
    return;
  }
  for (const HfPreTokenizer& known : hf_pre_tokenizers()) {
    if (std::equal(names.begin(), names.end(), known.steps.begin(), known.steps.end())) {
      spec_.pre_tokenizer = known.kind;
      return;
    }
  }
  unsupported("the pre_tokenizer {}",
              field(file_, "pre_tokenizer") ? file_["pre_tokenizer"].dump() : "null");
}

void Reader::read_merges() {
  if (!tables_.has_merges) corrupt("there is no array 'model.merges'");
  const StringTable& sides = tables_.merge_sides;
  spec_.merges.reserve(sides.size() / 2);
  for (std::size_t i = 0; i + 1 < sides.size(); i += 2) {
    const std::optional<TokenId> left = find(sides[i]);
    const std::optional<TokenId> right = find(sides[i + 1]);
    if (!left || !right) {
      corrupt("merge {} is of '{:.40}' and '{:.40}', which are not both tokens", i / 2, sides[i],
              sides[i + 1]);
    }
    spec_.merges.emplace_back(*left, *right);
  }
}

/// Which special tokens encode adds. Only "bos? text eos?" is known.
void Reader::read_post_processor() {
  for (const Json* step : steps("post_processor", "processors")) {
    const std::string type = text(*step, "type");
    if (type == "ByteLevel") continue;  // trims offsets, which are not ours
    const Json* single = field(*step, "single");
    if (type != "TemplateProcessing" || single == nullptr || !single->is_array()) {
      unsupported("the post_processor {}", type);
    }
    bool after_text = false;
    for (const Json& item : *single) {
      if (field(item, "Sequence") != nullptr) {
        after_text = true;
        continue;
      }
      const Json* token = field(item, "SpecialToken");
      const std::optional<TokenId> id = token ? find(text(*token, "id")) : std::nullopt;
      bool& already = after_text ? spec_.add_eos : spec_.add_bos;
      if (!id || already) unsupported("the post_processor's template {}", single->dump());
      (after_text ? spec_.eos : spec_.bos) = *id;
      already = true;
    }
  }
}

void Reader::read_config() {
  // A special token is a string, or an object with its "content".
  const auto special = [&](const char* key) -> std::optional<TokenId> {
    const Json* value = field(config_, key);
    if (value == nullptr) return std::nullopt;
    const std::string content = value->is_object() ? text(*value, "content") : text(config_, key);
    return find(content);
  };
  const auto required = [&](const char* key, std::optional<TokenId>& id) {
    if (field(config_, key) == nullptr) return;
    const std::optional<TokenId> found = special(key);
    if (!found) corrupt("the configuration's {} is not in the vocabulary", key);
    id = found;
  };
  required("bos_token", spec_.bos);
  required("eos_token", spec_.eos);
  if (const auto pad = special("pad_token")) spec_.pad = pad;
  spec_.add_bos = flag(config_, "add_bos_token", spec_.add_bos) && spec_.bos;
  spec_.add_eos = flag(config_, "add_eos_token", spec_.add_eos) && spec_.eos;
}

TokenizerSpec Reader::read() {
  spec_.origin = origin_;
  const Json* model = field(file_, "model");
  if (model == nullptr || !model->is_object()) corrupt("there is no 'model'");
  const std::string type = text(*model, "type");
  if (type != "BPE" && !(type.empty() && tables_.has_merges)) {
    unsupported("the model type '{}'", type);
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!text(*model, key).empty()) unsupported("the {} '{}'", key, text(*model, key));
  }
  if (const Json* dropout = field(*model, "dropout"); dropout != nullptr && *dropout != 0) {
    unsupported("a dropout of {}", dropout->dump());
  }
  read_vocabulary();
  read_added();
  for (const std::string& piece : spec_.pieces) table_.push_back(piece);
  ids_.emplace(table_);
  for (std::uint32_t id = 0; id < table_.size(); ++id) {
    if (present_[id]) ids_->insert(id);
  }
  read_normaliser();
  read_pre_tokenizer();
  read_merges();
  spec_.ignore_merges = flag(*model, "ignore_merges", false);
  spec_.byte_fallback = flag(*model, "byte_fallback", false);
  spec_.fuse_unknown = flag(*model, "fuse_unk", false);
  if (const std::string unk = text(*model, "unk_token"); !unk.empty()) {
    spec_.unk = find(unk);
    if (!spec_.unk) corrupt("the unknown token '{}' is not in the vocabulary", unk);
  }
  if (spec_.byte_fallback && spec_.model == TokenizerModel::ByteLevelBpe) {
    unsupported("byte_fallback in a byte-level model");
  }
  if (spec_.byte_fallback) {
    for (unsigned byte = 0; byte < 256; ++byte) {
      const std::optional<TokenId> id = find(fmt::format("<0x{:02X}>", byte));
      if (id) spec_.types[static_cast<std::size_t>(value(*id))] = TokenType::Byte;
    }
  }
  read_post_processor();
  read_config();
  return std::move(spec_);
}

}  // namespace

TokenizerSpec tokenizer_spec(const TokenizerFile& file, std::string_view tokenizer_config_json,
                             std::string_view origin) {
  Json config = Json::object();
  try {
    if (!tokenizer_config_json.empty()) config = Json::parse(tokenizer_config_json);
    require(config.is_object(), ErrorCode::Corrupt,
            "{}: the tokenizer_config.json beside it is not a JSON object", origin);
    return Reader(file, config, origin).read();
  } catch (const Json::exception& e) {  // bad JSON, or a shape that no check above foresaw
    fail(ErrorCode::Corrupt, "{}, with its tokenizer_config.json: {}", origin,
         json_complaint(e.what()));
  }
}

TokenizerSpec parse_tokenizer_json(std::string_view tokenizer_json,
                                   std::string_view tokenizer_config_json,
                                   std::string_view origin) {
  return tokenizer_spec(parse_tokenizer_file(tokenizer_json, origin), tokenizer_config_json,
                        origin);
}

}  // namespace fathom
