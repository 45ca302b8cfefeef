// What a client asked for, as typed values: the body of /chat/completions or /completions.
//
// The fields are DeepSeek's (api-docs.deepseek.com) and OpenAI's (platform.openai.com/docs/
// api-reference); a field that neither knows is ignored, as they do. One that they know and this
// server does not act on yet is refused by name: never quietly left out.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/request.h"
#include "server/fields.h"
#include "server/grammar_cache.h"
#include "server/served_model.h"
#include "server/tools.h"

namespace fathom::server {

/// What both kinds of completion have.
struct CompletionRequest {
  std::string model;
  std::size_t choices = 1;  // n
  bool stream = false;
  bool include_usage = false;  // stream_options.include_usage
  SamplingParams sampling;     // the model's own where nothing was said
  std::size_t max_tokens = 0;  // 0: until the context is full
  std::vector<std::string> stop;
  std::optional<OutputForm> form;  // response_format, grammar
};

struct ChatRequest : CompletionRequest {
  Json messages;              // as the template wants them: text contents, no old thoughts
  std::optional<bool> think;  // thinking.type, reasoning_effort
  std::optional<std::size_t> max_thinking_tokens;
  std::optional<ToolUse> tools;
  bool votes = false;      // self_consistency: `choices` answers, of which one is given
  bool continues = false;  // the last message, an assistant's, is to be gone on with
};

struct TextRequest : CompletionRequest {
  std::vector<std::string> prompts;  // or
  std::vector<std::vector<TokenId>> token_prompts;
  bool echo = false;
  std::optional<std::string> suffix;  // text after a gap that the answer fills
};

struct RequestRules {
  /// Reasoning that a client sends back is an error, as R1's API had it, rather than dropped.
  bool refuse_reasoning_content = false;
};

/// Throw ApiError. `model` gives the defaults.
ChatRequest read_chat_request(const Json& body, const ServedModel& model,
                              const RequestRules& rules);
TextRequest read_text_request(const Json& body, const ServedModel& model);

}  // namespace fathom::server
