#include "server/completion_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <random>

#include "engine/fim.h"
#include "server/api_error.h"

namespace fathom::server {
namespace {

constexpr std::size_t kMostStops = 16;
constexpr std::size_t kMostStopBytes = 1024;
constexpr std::size_t kMostChoices = 16;
constexpr std::size_t kMostPrompts = 64;
constexpr std::int64_t kMostVoters = 64;
constexpr std::int64_t kMostLogprobs = 20;

[[noreturn]] void refuse(const std::string& field, const std::string& why) {
  throw ApiError(400, fmt::format("{}: {}", field, why), field, "unsupported_parameter");
}

/// Fields whose effect a client would miss.
void refuse_unsupported(const Fields& body, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    const Json* value = body.find(name);
    const bool empty = value == nullptr || (value->is_array() && value->empty()) ||
                       (value->is_boolean() && !value->get<bool>());
    if (!empty) refuse(name, "this server does not support it yet");
  }
}

std::vector<std::string> read_stops(const Fields& body) {
  const Json* stop = body.find("stop");
  if (stop == nullptr) return {};
  std::vector<std::string> stops;
  if (stop->is_string()) {
    stops.push_back(stop->get<std::string>());
  } else if (stop->is_array()) {
    for (const Json& one : *stop) {
      if (!one.is_string()) body.refuse_type("stop", "a string or an array of strings");
      stops.push_back(one.get<std::string>());
    }
  } else {
    body.refuse_type("stop", "a string or an array of strings");
  }
  if (stops.size() > kMostStops) {
    throw ApiError(
        400, fmt::format("stop has {} strings, but may have {}", stops.size(), kMostStops), "stop");
  }
  for (const std::string& one : stops) {
    if (one.empty() || one.size() > kMostStopBytes) {
      throw ApiError(400,
                     fmt::format("stop: a string of {} bytes, but from 1 to {} are possible",
                                 one.size(), kMostStopBytes),
                     "stop");
    }
  }
  return stops;
}

void read_logit_bias(const Fields& body, const ServedModel& model, SamplingParams& sampling) {
  const auto bias = body.object("logit_bias");
  if (!bias) return;
  const auto vocabulary = static_cast<std::int64_t>(model.engine->config().vocab_size);
  for (const auto& [name, value] : body.find("logit_bias")->items()) {
    const bool digits = !name.empty() && name.size() < 10 &&
                        std::ranges::all_of(name, [](char c) { return c >= '0' && c <= '9'; });
    const std::int64_t id = digits ? std::stoll(name) : -1;
    if (id < 0 || id >= vocabulary) {
      throw ApiError(
          400, fmt::format("logit_bias: '{}' is no token's id (0 to {})", name, vocabulary - 1),
          "logit_bias");
    }
    const double amount = bias->number(name, -100, 100).value_or(0);
    // As OpenAI documents it, -100 bans.
    const float added =
        amount <= -100 ? -std::numeric_limits<float>::infinity() : static_cast<float>(amount);
    sampling.logit_bias.emplace_back(TokenId{static_cast<std::int32_t>(id)}, added);
  }
}

/// response_format as OpenAI and DeepSeek have it, grammar as llama.cpp's server does.
std::optional<OutputForm> read_form(const Fields& body) {
  std::optional<OutputForm> form;
  if (const auto format = body.object("response_format")) {
    const std::string type = format->text("type").value_or("");
    if (type == "json_object") {
      form = {OutputForm::Kind::JsonObject, {}, {}, "response_format"};
    } else if (type == "json_schema") {
      format->need("json_schema");
      const Fields named = *format->object("json_schema");
      form = {OutputForm::Kind::JsonSchema,
              named.need("schema"),
              {},
              "response_format.json_schema.schema"};
    } else if (type != "text") {
      throw ApiError(400,
                     fmt::format("response_format.type is '{}', but must be text, json_object or "
                                 "json_schema",
                                 type),
                     "response_format.type");
    }
  }
  if (const auto grammar = body.text("grammar"); grammar && !grammar->empty()) {
    if (form) throw ApiError(400, "grammar and response_format exclude each other", "grammar");
    form = {OutputForm::Kind::Gbnf, {}, *grammar, "grammar"};
  }
  return form;
}

void read_shared(const Fields& body, const ServedModel& model, CompletionRequest& request) {
  request.model = body.text("model").value_or(model.name);
  request.choices = static_cast<std::size_t>(
      body.integer("n", 1, static_cast<std::int64_t>(kMostChoices)).value_or(1));
  request.stream = body.boolean("stream").value_or(false);
  if (const auto options = body.object("stream_options")) {
    request.include_usage = options->boolean("include_usage").value_or(false);
    if (!request.stream) {
      throw ApiError(400, "stream_options are only for stream: true", "stream_options");
    }
  }
  SamplingParams& sampling = request.sampling = model.sampling;
  const auto set = [&](const char* name, double least, double most, float& to) {
    if (const auto value = body.number(name, least, most)) to = static_cast<float>(*value);
  };
  set("temperature", 0, 2, sampling.temperature);
  set("top_p", 0, 1, sampling.top_p);
  // The API allows 0, which leaves the best token alone.
  if (sampling.top_p <= 0) sampling.top_p = std::numeric_limits<float>::min();
  set("min_p", 0, 1, sampling.min_p);
  set("repetition_penalty", 0.01, 100, sampling.repetition_penalty);
  set("frequency_penalty", -2, 2, sampling.frequency_penalty);
  set("presence_penalty", -2, 2, sampling.presence_penalty);
  if (const auto top_k = body.integer("top_k", -1, 1 << 30)) {
    sampling.top_k = static_cast<std::int32_t>(std::max<std::int64_t>(*top_k, 0));
  }
  read_logit_bias(body, model, sampling);
  const auto seed = body.integer("seed", std::numeric_limits<std::int64_t>::min(),
                                 std::numeric_limits<std::int64_t>::max());
  sampling.seed = seed ? static_cast<std::uint64_t>(*seed)
                       : (std::uint64_t{std::random_device{}()} << 32 | std::random_device{}());
  request.stop = read_stops(body);
  request.form = read_form(body);
  const auto most = static_cast<std::int64_t>(model.engine->context_tokens());
  const auto limit = [&](const char* name) {
    // More than the context is no error: it is then the limit.
    return body.integer(name, 1, std::int64_t{1} << 40);
  };
  auto max_tokens = limit("max_completion_tokens");
  if (!max_tokens) max_tokens = limit("max_tokens");
  request.max_tokens = static_cast<std::size_t>(std::min(max_tokens.value_or(most), most));
}

/// The text of a message's content: a string, or parts of type text.
std::string read_content(const Fields& message) {
  const Json* content = message.find("content");
  if (content == nullptr) return {};
  if (content->is_string()) return content->get<std::string>();
  if (!content->is_array()) message.refuse_type("content", "a string or an array of parts");
  std::string text;
  for (std::size_t i = 0; i < content->size(); ++i) {
    const Fields part((*content)[i], fmt::format("{}[{}]", message.path_of("content"), i));
    const std::string type = part.text("type").value_or("");
    if (type != "text") {
      refuse(part.path_of("type"),
             fmt::format("'{}' cannot be read by this model: only text", type));
    }
    part.need("text");
    text += *part.text("text");
  }
  return text;
}

Json read_messages(const Fields& body, const RequestRules& rules, bool& continues) {
  body.need("messages");
  const Json& messages = *body.array("messages");
  if (messages.empty()) throw ApiError(400, "messages: there must be one at least", "messages");
  Json read = Json::array();
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const Fields message(messages[i], fmt::format("messages[{}]", i));
    message.need("role");
    std::string role = *message.text("role");
    if (role == "developer") role = "system";
    if (role != "system" && role != "user" && role != "assistant" && role != "tool") {
      throw ApiError(400,
                     fmt::format("{} is '{}', but must be system, user, assistant or tool",
                                 message.path_of("role"), role),
                     message.path_of("role"));
    }
    if (message.text("reasoning_content") && rules.refuse_reasoning_content) {
      throw ApiError(400,
                     fmt::format("{}: thoughts may not be sent back (--strict-reasoning)",
                                 message.path_of("reasoning_content")),
                     message.path_of("reasoning_content"));
    }
    if (role != "assistant") message.need("content");
    Json out{{"role", role}, {"content", read_content(message)}};
    if (role == "assistant" && message.array("tool_calls") != nullptr) {
      out["tool_calls"] = read_tool_calls(message);
    }
    if (role == "tool") {
      if (const auto id = message.text("tool_call_id")) out["tool_call_id"] = *id;
    }
    if (const auto name = message.text("name")) out["name"] = *name;
    if (message.boolean("prefix").value_or(false)) {
      if (role != "assistant" || i + 1 != messages.size()) {
        throw ApiError(400,
                       fmt::format("{}: only the last message, an assistant's, can be a prefix",
                                   message.path_of("prefix")),
                       message.path_of("prefix"));
      }
      continues = true;
    }
    read.push_back(std::move(out));
  }
  return read;
}

/// thinking.type and reasoning_effort: whether to think at all.
std::optional<bool> read_thinking(const Fields& body) {
  std::optional<bool> think;
  if (const auto effort = body.text("reasoning_effort")) {
    constexpr const char* kEfforts[] = {"none", "minimal", "low", "medium", "high"};
    if (std::ranges::find(kEfforts, *effort) == std::end(kEfforts)) {
      throw ApiError(400,
                     fmt::format("reasoning_effort is '{}', but must be none, minimal, low, medium "
                                 "or high",
                                 *effort),
                     "reasoning_effort");
    }
    think = *effort != "none" && *effort != "minimal";
  }
  if (const auto thinking = body.object("thinking")) {
    const std::string type = thinking->text("type").value_or("");
    if (type != "enabled" && type != "disabled") {
      throw ApiError(400,
                     fmt::format("thinking.type is '{}', but must be enabled or disabled", type),
                     "thinking.type");
    }
    think = type == "enabled";
  }
  return think;
}

}  // namespace

ChatRequest read_chat_request(const Json& json, const ServedModel& model,
                              const RequestRules& rules) {
  const Fields body(json);
  ChatRequest request;
  read_shared(body, model, request);
  request.messages = read_messages(body, rules, request.continues);
  request.think = read_thinking(body);
  if (const auto most = body.integer("max_thinking_tokens", 0, std::int64_t{1} << 40)) {
    if (model.chat != nullptr && !model.chat->has_reasoning()) {
      refuse("max_thinking_tokens", fmt::format("{} does not mark its thinking", model.name));
    }
    request.max_thinking_tokens = static_cast<std::size_t>(*most);
  }
  request.tools = read_tools(body);
  if (request.tools && request.continues) refuse("prefix", "not beside tools");
  if (request.tools && model.chat != nullptr) {
    request.form = tools_form(*request.tools, model.chat->tool_format(), request.form);
  }
  refuse_unsupported(body, {"functions", "audio", "prediction", "chat_template",
                            "chat_template_kwargs", "guided_json"});
  if (const auto voters = body.integer("self_consistency", 1, kMostVoters); voters) {
    if (request.choices != 1) refuse("n", "not beside self_consistency, which gives one answer");
    if (request.tools) refuse("tools", "not beside self_consistency: calls cannot be voted on");
    request.votes = true;
    request.choices = static_cast<std::size_t>(*voters);
  }
  const bool logprobs = body.boolean("logprobs").value_or(false);
  const auto top = body.integer("top_logprobs", 0, kMostLogprobs);
  if (top && !logprobs) throw ApiError(400, "top_logprobs wants logprobs: true", "top_logprobs");
  if (logprobs) request.sampling.logprobs = static_cast<std::int32_t>(top.value_or(0));
  return request;
}

TextRequest read_text_request(const Json& json, const ServedModel& model) {
  const Fields body(json);
  TextRequest request;
  read_shared(body, model, request);
  const auto refuse_prompt = [&] {
    body.refuse_type("prompt", "a string, token ids, or an array of either");
  };
  const auto read_ids = [&](const Json& list) {
    return read_token_ids(list, "prompt",
                          static_cast<std::int64_t>(model.engine->config().vocab_size));
  };
  const Json& prompt = body.need("prompt");
  if (prompt.is_string()) {
    request.prompts.push_back(prompt.get<std::string>());
  } else if (!prompt.is_array() || prompt.empty()) {
    refuse_prompt();
  } else if (prompt[0].is_number()) {
    request.token_prompts.push_back(read_ids(prompt));
  } else {
    for (const Json& one : prompt) {
      if (one.is_string() && request.token_prompts.empty()) {
        request.prompts.push_back(one.get<std::string>());
      } else if (one.is_array() && request.prompts.empty()) {
        request.token_prompts.push_back(read_ids(one));
      } else {
        refuse_prompt();
      }
    }
  }
  const std::size_t prompts = std::max(request.prompts.size(), request.token_prompts.size());
  if (prompts * request.choices > kMostPrompts) {
    throw ApiError(400,
                   fmt::format("{} prompts of {} choices each, but {} answers are possible",
                               prompts, request.choices, kMostPrompts),
                   "prompt");
  }
  request.echo = body.boolean("echo").value_or(false);
  if (const auto suffix = body.text("suffix"); suffix && !suffix->empty()) {
    if (!fim_tokens(model.engine->tokenizer())) {
      refuse("suffix", fmt::format("{} has no tokens for filling in the middle", model.name));
    }
    if (!request.token_prompts.empty()) refuse("suffix", "only beside a prompt of text");
    request.suffix = *suffix;
  }
  body.integer("best_of", 1, 1);  // more would be paid for and thrown away
  if (const auto logprobs = body.integer("logprobs", 0, kMostLogprobs)) {
    request.sampling.logprobs = static_cast<std::int32_t>(*logprobs);
    if (request.echo) refuse("logprobs", "not of the prompt: leave out echo");
  }
  return request;
}

}  // namespace fathom::server
