// tokenizer.json, tokenizer_config.json and the chat template as GGUF's "tokenizer.*" keys.
#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <set>

#include "base/error.h"
#include "base/json_guard.h"
#include "formats/convert_parts.h"
#include "formats/file_text.h"
#include "formats/sentencepiece_model.h"
#include "tokenizer/tokenizer_file.h"

namespace fathom {
namespace {

using nlohmann::json;

enum Type : std::int32_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

struct Vocabulary {
  std::vector<std::string> tokens;
  std::vector<std::int32_t> types;
  std::vector<float> scores;        // SentencePiece only
  std::vector<std::string> merges;  // byte-level BPE only
  std::set<std::string> added;      // contents of added tokens
};

json read_config(const std::filesystem::path& path) {
  try {
    return json::parse(read_tokenizer_config(path));
  } catch (const json::exception& error) {
    fail(ErrorCode::Corrupt, "{}: not JSON: {}", path.string(), json_complaint(error.what()));
  }
}

/// Member of an object, or null.
const json& member(const json& value, const char* key) {
  static const json kNull;
  if (!value.is_object()) return kNull;
  const auto found = value.find(key);
  return found == value.end() ? kNull : *found;
}

std::string string_of(const json& value) {
  return value.is_string() ? value.get<std::string>() : std::string();
}

/// A token given as "text" or as {"content": "text"}.
std::string token_text(const json& value) {
  return value.is_object() ? string_of(member(value, "content")) : string_of(value);
}

/// The patterns of a pre-tokenizer in order, and the names of its other parts.
void collect_patterns(const json& pre, std::vector<std::string>& parts) {
  if (!pre.is_object()) return;
  const std::string type = string_of(member(pre, "type"));
  if (type == "Sequence") {
    for (const json& part : member(pre, "pretokenizers")) collect_patterns(part, parts);
  } else if (type == "Split") {
    const json& pattern = member(pre, "pattern");
    parts.push_back(string_of(member(pattern, "Regex")) + string_of(member(pattern, "String")));
  } else if (type == "ByteLevel") {
    const bool splits = member(pre, "use_regex").is_null() || member(pre, "use_regex") == true;
    if (splits) parts.emplace_back("ByteLevel");
  } else if (type == "Digits") {
    parts.emplace_back(member(pre, "individual_digits") == true ? "Digits:each" : "Digits");
  } else {
    parts.push_back(type);
  }
}

/// llama.cpp's name for the pre-tokenizer. Recognised by what it splits on; never guessed.
std::string pre_tokenizer_name(const json& tokenizer, const std::string& path) {
  std::vector<std::string> parts;
  collect_patterns(member(tokenizer, "pre_tokenizer"), parts);
  const auto part_has = [&](std::size_t i, std::string_view text) {
    return i < parts.size() && parts[i].find(text) != std::string::npos;
  };
  // The common tail of Llama 3's and Qwen2's one pattern.
  constexpr std::string_view kTail = R"(\s*[\r\n]+|\s+(?!\S)|\s+)";
  if (parts.size() == 1 && parts[0] == "ByteLevel") return "gpt-2";
  if (parts.size() == 2 && parts[0] == "Digits:each" && parts[1] == "ByteLevel") return "smollm";
  if (parts.size() == 1 && part_has(0, kTail) && part_has(0, R"(?\p{L}+|)")) {
    if (part_has(0, R"(|\p{N}{1,3}|)")) return "llama-bpe";
    if (part_has(0, R"(|\p{N}|)")) return "qwen2";
  }
  if (parts.size() == 3 && parts[0] == R"(\p{N}{1,3})" && part_has(2, R"([A-Za-z]+|[^)")) {
    return "deepseek-v3";
  }
  if (parts.size() >= 5 && parts[0] == "[\r\n]") {
    if (parts[1] == R"(\s?\p{L}+)" && parts[2] == R"(\s?\p{P}+)") return "deepseek-coder";
    if (part_has(1, R"(\s?[A-Za-z)") && part_has(2, R"(\s?[!-/:-~)")) return "deepseek-llm";
  }
  std::string seen;
  for (const std::string& part : parts) seen += " " + printable(part);
  fail(ErrorCode::Unsupported,
       "{}: splits text in a way that is not known ({}); if you know llama.cpp's name for it, give "
       "that",
       path, parts.empty() ? " no pre-tokenizer" : seen);
}

/// "<|im_start|>" and DeepSeek's fullwidth kin mark turns: they are control tokens even where
/// tokenizer.json does not call them special, lest plain text forge a turn.
bool looks_like_control(std::string_view token) {
  constexpr std::string_view kBar = "\xef\xbd\x9c";  // U+FF5C
  const auto framed = [&](std::string_view left, std::string_view right) {
    return token.size() > left.size() + right.size() && token.starts_with(left) &&
           token.ends_with(right);
  };
  return framed("<|", "|>") || framed("<" + std::string(kBar), std::string(kBar) + ">");
}

class TokenizerConverter {
 public:
  TokenizerConverter(const std::filesystem::path& folder, const ConvertModel& model,
                     std::vector<std::string>& notes)
      : folder_(folder), model_(model), notes_(notes) {}

  bool exists(const char* name) const { return is_present(folder_ / name); }
  std::filesystem::path file(const char* name) const {
    return resolve_inside(folder_, name, folder_);
  }

  void run(const ConvertOptions& options, const Checkpoint& source, GgufMetadata& metadata) {
    if (exists("tokenizer_config.json")) config_ = read_config(file("tokenizer_config.json"));
    if (exists("tokenizer.json")) tables_ = read_tokenizer_file(file("tokenizer.json"));
    const json& bpe = member(tokenizer(), "model");
    const bool byte_fallback = member(bpe, "byte_fallback") == true;
    const bool sentencepiece = exists("tokenizer.model") || byte_fallback;
    require(exists("tokenizer.model") || tokenizer().is_object(), ErrorCode::NotFound,
            "{}: has neither tokenizer.json nor tokenizer.model", folder_.string());
    if (exists("tokenizer.model")) {
      read_pieces();
    } else {
      require(string_of(member(bpe, "type")) == "BPE", ErrorCode::Unsupported,
              "{}: tokenizer.json has a model of type {}, expected BPE", folder_.string(),
              printable(string_of(member(bpe, "type"))));
      read_vocabulary(bpe);
    }
    add_added_tokens();
    fill_up();

    metadata.string("tokenizer.ggml.model", sentencepiece ? "llama" : "gpt2");
    if (sentencepiece) {
      metadata.string("tokenizer.ggml.pre", options.pre_tokenizer.value_or("default"));
      if (!exists("tokenizer.model")) derive_scores();
      vocabulary_.scores.resize(vocabulary_.tokens.size(), -1e4f);
    } else {
      metadata.string("tokenizer.ggml.pre",
                      options.pre_tokenizer ? *options.pre_tokenizer
                                            : pre_tokenizer_name(tokenizer(), folder_.string()));
      read_merges();
    }
    metadata.strings("tokenizer.ggml.tokens", vocabulary_.tokens);
    metadata.i32s("tokenizer.ggml.token_type", vocabulary_.types);
    if (sentencepiece) metadata.f32s("tokenizer.ggml.scores", vocabulary_.scores);
    if (!sentencepiece) metadata.strings("tokenizer.ggml.merges", vocabulary_.merges);
    write_special_tokens(source, metadata);
    write_space_prefix(sentencepiece, metadata);
    write_template(metadata);
  }

 private:
  void put(std::uint64_t id, std::string text, std::int32_t type) {
    require(id < model_.vocab_size, ErrorCode::Corrupt,
            "{}: the tokenizer has token {} with id {}, but config.json has vocab_size = {}",
            folder_.string(), printable(text), id, model_.vocab_size);
    if (id >= vocabulary_.tokens.size()) {
      vocabulary_.tokens.resize(id + 1);
      vocabulary_.types.resize(id + 1, kUnused);
    }
    vocabulary_.tokens[id] = std::move(text);
    vocabulary_.types[id] = type;
  }

  void read_pieces() {
    std::uint64_t id = 0;
    for (SentencePiece& piece : read_sentencepiece_model(file("tokenizer.model"))) {
      vocabulary_.scores.push_back(piece.score);
      put(id++, std::move(piece.text), piece.type);
    }
  }

  void read_vocabulary(const json& bpe) {
    require(tables_.has_vocab, ErrorCode::Corrupt, "{}: tokenizer.json has no vocabulary",
            folder_.string());
    const std::string unknown = string_of(member(bpe, "unk_token"));
    std::vector<bool> taken(model_.vocab_size, false);
    for (std::size_t i = 0; i < tables_.ids.size(); ++i) {
      const std::string_view text = tables_.pieces[i];
      require(tables_.ids[i] >= 0, ErrorCode::Corrupt,
              "{}: tokenizer.json: the id of token {} is not a number from 0 up", folder_.string(),
              printable(text));
      const auto number = static_cast<std::uint64_t>(tables_.ids[i]);
      const bool byte = text.size() == 6 && text.starts_with("<0x") && text.ends_with(">");
      const std::int32_t type = !unknown.empty() && text == unknown            ? kUnknown
                                : byte && member(bpe, "byte_fallback") == true ? kByte
                                                                               : kNormal;
      require(number >= taken.size() || !taken[number], ErrorCode::Corrupt,
              "{}: tokenizer.json gives the id {} twice", folder_.string(), number);
      put(number, std::string(text), type);
      taken[number] = true;
    }
  }

  void add_added_tokens() {
    const auto add = [&](std::uint64_t id, const json& entry) {
      const std::string content = token_text(entry);
      const bool special = member(entry, "special") == true;
      const bool unknown = id < vocabulary_.types.size() && vocabulary_.types[id] == kUnknown;
      const bool control = special || looks_like_control(content);
      vocabulary_.added.insert(content);
      put(id, content, unknown ? kUnknown : control ? kControl : kUserDefined);
    };
    for (const json& entry : member(tokenizer(), "added_tokens")) {
      require(member(entry, "id").is_number_unsigned(), ErrorCode::Corrupt,
              "{}: tokenizer.json: an added token has no id", folder_.string());
      add(member(entry, "id").get<std::uint64_t>(), entry);
    }
    if (tokenizer().is_object()) return;
    // tokenizer.model alone: what was added stands in tokenizer_config.json.
    const json& decoder = member(config_, "added_tokens_decoder");
    if (!decoder.is_object()) return;
    for (const auto& [id, entry] : decoder.items()) {
      const bool number =
          !id.empty() && id.size() < 10 && id.find_first_not_of("0123456789") == std::string::npos;
      require(number, ErrorCode::Corrupt, "{}: tokenizer_config.json: {} is not a token's id",
              folder_.string(), printable(id));
      add(std::stoul(id), entry);
    }
  }

  /// The embedding may have more rows than there are tokens: each row gets a name of its own.
  void fill_up() {
    const std::size_t before = vocabulary_.tokens.size();
    vocabulary_.tokens.resize(model_.vocab_size);
    vocabulary_.types.resize(model_.vocab_size, kUnused);
    std::size_t named = 0;
    for (std::size_t id = 0; id < vocabulary_.tokens.size(); ++id) {
      if (vocabulary_.types[id] != kUnused || !vocabulary_.tokens[id].empty()) continue;
      vocabulary_.tokens[id] = fmt::format("[PAD{}]", id);
      ++named;
    }
    if (named > 0) {
      notes_.push_back(
          fmt::format("{} ids without a token ({} tokens, vocab_size {}) are named "
                      "[PADn] and marked unused",
                      named, before, model_.vocab_size));
    }
  }

  void read_merges() {
    const StringTable& sides = tables_.merge_sides;
    for (std::size_t i = 0; i + 1 < sides.size(); i += 2) {
      require(!sides[i].empty() && !sides[i + 1].empty(), ErrorCode::Corrupt,
              "{}: tokenizer.json has a merge that is not two pieces", folder_.string());
      vocabulary_.merges.push_back(fmt::format("{} {}", sides[i], sides[i + 1]));
    }
  }

  /// tokenizer.json has no scores. SentencePiece merges the pair whose piece scores best, and
  /// trained scores are the pieces' ranks, so the rank in which merges first make a piece is one.
  /// Pieces that no merge makes (single characters) rank after all others.
  void derive_scores() {
    const StringTable& sides = tables_.merge_sides;
    std::map<std::string, float> rank;
    for (std::size_t i = 0; i + 1 < sides.size(); i += 2) {
      rank.emplace(fmt::format("{}{}", sides[i], sides[i + 1]), -static_cast<float>(rank.size()));
    }
    std::vector<float>& scores = vocabulary_.scores;
    scores.assign(vocabulary_.tokens.size(), 0.0f);
    float next = -static_cast<float>(rank.size());
    for (std::size_t id = 0; id < scores.size(); ++id) {
      if (vocabulary_.types[id] != kNormal) continue;
      const auto found = rank.find(vocabulary_.tokens[id]);
      scores[id] = found != rank.end() ? found->second : next--;
    }
  }

  std::optional<std::uint32_t> id_of(const std::string& token) const {
    if (token.empty()) return std::nullopt;
    const auto found = std::find(vocabulary_.tokens.begin(), vocabulary_.tokens.end(), token);
    if (found == vocabulary_.tokens.end()) return std::nullopt;
    return static_cast<std::uint32_t>(found - vocabulary_.tokens.begin());
  }

  void write_special_tokens(const Checkpoint& source, GgufMetadata& metadata) const {
    struct Special {
      const char* name;
      const char* key;
    };
    for (const Special& special : {Special{"bos", "tokenizer.ggml.bos_token_id"},
                                   Special{"eos", "tokenizer.ggml.eos_token_id"},
                                   Special{"unk", "tokenizer.ggml.unknown_token_id"},
                                   Special{"pad", "tokenizer.ggml.padding_token_id"}}) {
      const std::string name = std::string(special.name) + "_token";
      std::optional<std::uint32_t> id = id_of(token_text(member(config_, name.c_str())));
      if (!id) {
        // config.json may give one id, or for eos a list whose first is the main one.
        const MetaValue* value = source.metadata(name + "_id");
        const auto* one = value == nullptr ? nullptr : std::get_if<std::int64_t>(value);
        const auto* list = value == nullptr ? nullptr : std::get_if<MetaInts>(value);
        const std::int64_t given = one != nullptr                      ? *one
                                   : list != nullptr && !list->empty() ? list->front()
                                                                       : -1;
        if (given >= 0 && given < std::int64_t{model_.vocab_size}) {
          id = static_cast<std::uint32_t>(given);
        }
      }
      if (id) metadata.u32(special.key, *id);
    }
    write_added_around("bos", "add_bos_token", true, metadata);
    write_added_around("eos", "add_eos_token", false, metadata);
  }

  /// Whether encoding puts bos before (eos after) the text: what tokenizer.json's post-processor
  /// does counts, since that is what runs; else what tokenizer_config.json says.
  void write_added_around(const std::string& which, const char* config_key, bool first,
                          GgufMetadata& metadata) const {
    const std::string key = "tokenizer.ggml.add_" + which + "_token";
    const std::string token = token_text(member(config_, (which + "_token").c_str()));
    if (const json* single = template_processing(member(tokenizer(), "post_processor"))) {
      const json& edge = single->empty() ? json() : first ? single->front() : single->back();
      const std::string id = string_of(member(member(edge, "SpecialToken"), "id"));
      metadata.boolean(key, !id.empty() && (token.empty() || id == token));
      return;
    }
    const json& stated = member(config_, config_key);
    if (stated.is_boolean()) metadata.boolean(key, stated.get<bool>());
  }

  static const json* template_processing(const json& processor) {
    const std::string type = string_of(member(processor, "type"));
    if (type == "TemplateProcessing") {
      const json& single = member(processor, "single");
      return single.is_array() ? &single : nullptr;
    }
    if (type == "Sequence") {
      for (const json& part : member(processor, "processors")) {
        if (const json* found = template_processing(part)) return found;
      }
    }
    return nullptr;
  }

  void write_space_prefix(bool sentencepiece, GgufMetadata& metadata) const {
    const json& stated = member(config_, "add_prefix_space");
    if (sentencepiece && stated.is_boolean()) {
      metadata.boolean("tokenizer.ggml.add_space_prefix", stated.get<bool>());
    }
  }

  void write_template(GgufMetadata& metadata) const {
    if (exists("chat_template.jinja")) {
      metadata.string("tokenizer.chat_template",
                      read_text_file(file("chat_template.jinja"), 1u << 20));
      return;
    }
    const json& chat = member(config_, "chat_template");
    if (chat.is_string()) metadata.string("tokenizer.chat_template", chat.get<std::string>());
    if (!chat.is_array()) return;
    for (const json& entry : chat) {
      const std::string name = string_of(member(entry, "name"));
      const std::string text = string_of(member(entry, "template"));
      metadata.string(
          name == "default" ? "tokenizer.chat_template" : "tokenizer.chat_template." + name, text);
    }
  }

  /// tokenizer.json but for its vocabulary and merges; null when there is none.
  const json& tokenizer() const { return tables_.rest; }

  const std::filesystem::path& folder_;
  const ConvertModel& model_;
  std::vector<std::string>& notes_;
  TokenizerFile tables_;
  json config_;
  Vocabulary vocabulary_;
};

}  // namespace

void convert_tokenizer(const std::filesystem::path& folder, const Checkpoint& source,
                       const ConvertModel& model, const ConvertOptions& options,
                       GgufMetadata& metadata, std::vector<std::string>& notes) {
  TokenizerConverter converter(folder, model, notes);
  if (!converter.exists("tokenizer.json") && !converter.exists("tokenizer.model") &&
      options.allow_no_tokenizer) {
    metadata.string("tokenizer.ggml.model", "none");
    notes.emplace_back("the folder has no tokenizer; the file has none either");
    return;
  }
  converter.run(options, source, metadata);
}

}  // namespace fathom
