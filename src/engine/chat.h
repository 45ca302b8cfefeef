// From a conversation to the prompt that the model was trained on, as tokens.
//
// Joins the chat template and the tokenizer, and guards the seam: a message that holds the text of
// a control token ("<|im_end|>") is encoded as plain text, so that nobody can forge a turn by
// writing one.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "engine/reasoning.h"
#include "engine/request.h"
#include "engine/tool_format.h"
#include "formats/checkpoint.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/tokenizer.h"

namespace fathom {

struct ChatOptions {
  const nlohmann::ordered_json* tools = nullptr;  // as with_tools() has them
  std::optional<bool> think;  // for models that can do both; absent: as the template has it
  std::string now;            // "YYYY-MM-DD HH:MM:SS", for templates that print the date
  bool add_generation_prompt = true;
};

/// "2026-11-21 19:24:05": ChatOptions::now of a conversation that happens now.
std::string local_time();

struct ChatPrompt {
  std::string text;
  std::vector<TokenId> tokens;
  std::optional<ReasoningSetup> reasoning;  // absent when the model has no way to mark thinking
};

/// How one model is talked to. Immutable; any number of threads may use it.
class ChatFormat {
 public:
  /// `source`: the Jinja template. Throws as ChatTemplate does.
  ChatFormat(std::string_view source, Tokenizer tokenizer);

  /// The template in GGUF's tokenizer.chat_template, or in the folder's chat_template.jinja or
  /// tokenizer_config.json. nullptr when the model has none: then it is a base model, which only
  /// continues text.
  static std::unique_ptr<ChatFormat> load(const Checkpoint& checkpoint, const Tokenizer& tokenizer);

  /// messages: array of {"role", "content", ...}, with `tool_calls` as with_tools() has them.
  /// Throws Error(InvalidArgument) when the template refuses them, and when a tool or a call of one
  /// holds the text of a control token.
  ChatPrompt prompt(const nlohmann::ordered_json& messages, const ChatOptions& options = {}) const;

  /// Whether the model marks its thinking, by tokens or, if its template knows them, by text.
  bool has_reasoning() const { return markers_.has_value(); }
  /// How the model writes calls of tools.
  const ToolFormat& tool_format() const { return tool_format_; }
  /// Whether the template looks at a switch for thinking.
  bool can_switch_thinking() const { return can_switch_thinking_; }

 private:
  void refuse_control_tokens(const nlohmann::ordered_json& tools,
                             const nlohmann::ordered_json& messages) const;
  std::vector<TokenId> encode(const std::string& text,
                              const nlohmann::ordered_json& messages) const;

  ChatTemplate template_;
  Tokenizer tokenizer_;
  std::optional<ReasoningMarkers> markers_;
  ToolFormat tool_format_;
  bool can_switch_thinking_ = false;
};

/// The markers that a vocabulary has as tokens.
std::optional<ReasoningMarkers> reasoning_markers(const Tokenizer& tokenizer);

/// The template's source, if the model carries one; see ChatFormat::load.
std::optional<std::string> chat_template_source(const Checkpoint& checkpoint);

}  // namespace fathom
