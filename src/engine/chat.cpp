#include "engine/chat.h"

#include <fmt/chrono.h>

#include <ctime>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "base/json_guard.h"
#include "formats/file_text.h"
#include "tokenizer/tokenizer_file.h"

namespace fathom {
namespace {

namespace fs = std::filesystem;
constexpr std::string_view kSpace = " \t\r\n\v\f";
constexpr std::size_t kMaxTemplateFile = std::size_t{1} << 20;

/// Templates trim what they insert, so the ends of a message are not looked for.
std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

void append(std::vector<TokenId>& tokens, const std::vector<TokenId>& more) {
  tokens.insert(tokens.end(), more.begin(), more.end());
}

std::string token_text(const Tokenizer& tokenizer, std::optional<TokenId> id) {
  return id ? std::string(tokenizer.piece(*id)) : std::string();
}

/// Texts that a message puts into the prompt: its content, or the text parts of it.
std::vector<std::string> texts_of(const nlohmann::ordered_json& message) {
  const auto content = message.find("content");
  if (content == message.end()) return {};
  if (content->is_string()) return {content->get<std::string>()};
  std::vector<std::string> texts;
  if (content->is_array()) {
    for (const auto& part : *content) {
      const auto text = part.is_object() ? part.find("text") : part.end();
      if (part.is_object() && text != part.end() && text->is_string()) {
        texts.push_back(text->get<std::string>());
      }
    }
  }
  return texts;
}

/// tokenizer_config.json's "chat_template": a string, or a list of named ones.
std::optional<std::string> template_of_config(const fs::path& file) {
  const auto config = nlohmann::json::parse(read_tokenizer_config(file), nullptr, false);
  require(config.is_object(), ErrorCode::Corrupt, "{}: not a JSON object", file.string());
  const auto entry = config.find("chat_template");
  if (entry == config.end()) return {};
  if (entry->is_string()) return entry->get<std::string>();
  if (entry->is_array()) {
    for (const auto& named : *entry) {
      if (named.is_object() && named.value("name", "") == "default") {
        return named.value("template", "");
      }
    }
  }
  return {};
}

}  // namespace

std::optional<ReasoningMarkers> reasoning_markers(const Tokenizer& tokenizer) {
  ReasoningMarkers markers;
  markers.open = tokenizer.token_to_id(markers.open_text);
  markers.close = tokenizer.token_to_id(markers.close_text);
  if (!markers.open || !markers.close) return {};
  return markers;
}

std::optional<std::string> chat_template_source(const Checkpoint& checkpoint) {
  if (const auto text = checkpoint.get_string("tokenizer.chat_template")) return std::string(*text);
  if (checkpoint.source() != CheckpointSource::HuggingFace) return {};
  const fs::path folder =
      fs::is_directory(checkpoint.path()) ? checkpoint.path() : checkpoint.path().parent_path();
  const auto inside = [&](const char* name) { return resolve_inside(folder, name, folder); };
  if (is_present(folder / "chat_template.jinja")) {
    return read_text_file(inside("chat_template.jinja"), kMaxTemplateFile);
  }
  if (is_present(folder / "tokenizer_config.json")) {
    return template_of_config(inside("tokenizer_config.json"));
  }
  return {};
}

ChatFormat::ChatFormat(std::string_view source, Tokenizer tokenizer)
    : template_(source),
      tokenizer_(std::move(tokenizer)),
      markers_(reasoning_markers(tokenizer_)),
      tool_format_(fathom::tool_format(source)) {
  if (!markers_ && source.find("<think>") != std::string_view::npos) markers_.emplace();
  // Qwen3's switch, and DeepSeek-V3.1's.
  can_switch_thinking_ = source.find("enable_thinking") != std::string_view::npos ||
                         source.find("thinking is defined") != std::string_view::npos ||
                         source.find("not thinking") != std::string_view::npos;
}

std::unique_ptr<ChatFormat> ChatFormat::load(const Checkpoint& checkpoint,
                                             const Tokenizer& tokenizer) {
  const auto source = chat_template_source(checkpoint);
  if (!source) return nullptr;
  try {
    return std::make_unique<ChatFormat>(*source, tokenizer);
  } catch (const Error& error) {
    fail(error.code(), "{}: chat template: {}", checkpoint.path().string(), error.what());
  }
}

ChatPrompt ChatFormat::prompt(const nlohmann::ordered_json& asked,
                              const ChatOptions& options) const {
  const nlohmann::ordered_json none = nlohmann::ordered_json::array();
  const nlohmann::ordered_json& tools = options.tools == nullptr ? none : *options.tools;
  refuse_control_tokens(tools, asked);
  const nlohmann::ordered_json messages = with_tools(tool_format_, asked, tools);
  nlohmann::ordered_json extra = nlohmann::ordered_json::object();
  if (!options.now.empty()) extra["now"] = options.now;
  if (options.think) {
    extra["enable_thinking"] = *options.think;
    extra["thinking"] = *options.think;
  }
  ChatInput input;
  input.messages = &messages;
  if (!tools.empty() && tool_format_.template_lists_tools) input.tools = &tools;
  input.extra = &extra;
  input.add_generation_prompt = options.add_generation_prompt;
  input.bos_token = token_text(tokenizer_, tokenizer_.bos());
  input.eos_token = token_text(tokenizer_, tokenizer_.eos());

  ChatPrompt prompt;
  prompt.text = template_.render_chat(input);
  prompt.tokens = encode(prompt.text, messages);
  if (markers_) {
    prompt.reasoning = ReasoningSetup{
        *markers_, markers_->open ? prompt_ends_in_reasoning(*markers_, prompt.tokens)
                                  : prompt_ends_in_reasoning(*markers_, prompt.text)};
  }
  return prompt;
}

/// What a client puts into the prompt beside messages' contents: it could forge a turn there.
void ChatFormat::refuse_control_tokens(const nlohmann::ordered_json& tools,
                                       const nlohmann::ordered_json& messages) const {
  const auto check = [&](const std::string& text, const char* what) {
    const EncodeOptions control{.add_special = false, .parse_special = true};
    const EncodeOptions plain{.add_special = false, .parse_special = false};
    require(tokenizer_.encode(text, control) == tokenizer_.encode(text, plain),
            ErrorCode::InvalidArgument, "{} holds the text of one of this model's control tokens",
            what);
  };
  for (const auto& tool : tools) check(tool.dump(), "a tool");
  for (const auto& message : messages) {
    if (!message.contains("tool_calls")) continue;
    check(message.at("tool_calls").dump(), "a call of a tool");
    for (const auto& call : message.at("tool_calls")) {
      check(call.at("function").at("arguments").get<std::string>(), "a call of a tool");
    }
  }
}

std::vector<TokenId> ChatFormat::encode(const std::string& text,
                                        const nlohmann::ordered_json& messages) const {
  // The template writes its own control tokens, bos among them; nothing is to be added.
  const EncodeOptions control{.add_special = false, .parse_special = true};
  const EncodeOptions plain{.add_special = false, .parse_special = false};
  std::vector<TokenId> tokens;
  std::size_t at = 0;
  for (const auto& message : messages) {
    for (const std::string& content : texts_of(message)) {
      const std::string_view words = trimmed(content);
      // The rule costs nothing where it is not needed: other messages are encoded with their
      // surroundings, exactly as Hugging Face does it.
      if (words.empty() || tokenizer_.encode(words, control) == tokenizer_.encode(words, plain)) {
        continue;
      }
      const std::size_t found = text.find(words, at);
      if (found == std::string::npos) {
        // A template may drop an earlier answer's thinking, or a whole message.
        require(message.value("role", "") == "assistant", ErrorCode::InvalidArgument,
                "a message holds the text of one of this model's control tokens, and the chat "
                "template changes the message, so that the two cannot be told apart");
        continue;
      }
      append(tokens, tokenizer_.encode(std::string_view(text).substr(at, found - at), control));
      append(tokens, tokenizer_.encode(words, plain));
      at = found + words.size();
    }
  }
  append(tokens, tokenizer_.encode(std::string_view(text).substr(at), control));
  return tokens;
}

std::string local_time() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::localtime_r(&now, &parts);
  return fmt::format("{:%Y-%m-%d %H:%M:%S}", parts);
}

}  // namespace fathom
