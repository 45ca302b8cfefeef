#include "server/messages.h"

#include <fmt/format.h>

#include <utility>

#include "server/completion_base.h"

namespace fathom::server {
namespace {

/// The text of blocks of type text; thoughts among them are dropped, as the API drops them.
std::string read_blocks(const Fields& owner, std::string_view name) {
  const Json& content = owner.need(name);
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array()) owner.refuse_type(name, "a string or an array of blocks");
  std::string text;
  for (std::size_t i = 0; i < content.size(); ++i) {
    const Fields block(content[i], fmt::format("{}[{}]", owner.path_of(name), i));
    const std::string type = block.text("type").value_or("");
    if (type == "thinking" || type == "redacted_thinking") continue;
    if (type != "text") {
      throw ApiError(
          400, fmt::format("{}: '{}' is not supported, only text", block.path_of("type"), type));
    }
    block.need("text");
    text += *block.text("text");
  }
  return text;
}

const char* stop_reason(const Finished& end) {
  if (!end.stop_string.empty()) return "stop_sequence";
  return end.reason == FinishReason::Length ? "max_tokens" : "end_turn";
}

Json stop_sequence(const Finished& end) {
  return end.stop_string.empty() ? Json() : Json(end.stop_string);
}

Json usage_json(const UsageSum& sum) {
  // What came from the cache does not count as input here.
  return {{"input_tokens", sum.prompt - sum.cached},
          {"cache_creation_input_tokens", 0},
          {"cache_read_input_tokens", sum.cached},
          {"output_tokens", sum.completion}};
}

std::string event(const char* type, Json data) {
  Json json{{"type", type}};
  json.update(data);
  return fmt::format("event: {}\ndata: {}\n\n", type, dump(json));
}

class MessagesCompletion final : public Completion {
 public:
  MessagesCompletion(const ServedModel& model, const ChatRequest& asked, std::uint64_t cache_scope,
                     AnswerObserver observer)
      : Completion(model, asked, std::move(observer)), id_(new_id("msg_")) {
    const ChatPrompt prompt = chat_prompt(model, asked);
    add_request(prompt.tokens, prompt.reasoning, asked.continues, cache_scope,
                asked.max_thinking_tokens);
  }

  HttpResponse refusal(const ApiError& error) const override {
    return error.response(ErrorForm::Anthropic);
  }

 private:
  Json message(Json content, Json reason, Json sequence, Json usage) const {
    return {{"id", id_},
            {"type", "message"},
            {"role", "assistant"},
            {"model", model_.name},
            {"content", std::move(content)},
            {"stop_reason", std::move(reason)},
            {"stop_sequence", std::move(sequence)},
            {"usage", std::move(usage)}};
  }

  std::string begin() {
    if (std::exchange(begun_, true)) return {};
    // How much of the prompt the cache had is known at the end, and told there.
    const UsageSum known{prompt_tokens(), 0, 0, 0};
    return event("message_start",
                 {{"message", message(Json::array(), nullptr, nullptr, usage_json(known))}});
  }
  std::string close_block() {
    if (!open_) return {};
    open_.reset();
    return event("content_block_stop", {{"index", blocks_++}});
  }

  std::string stream_delta(std::size_t, const Delta& delta) override {
    if (delta.text.empty()) return {};
    const bool thinking = delta.channel == Channel::Reasoning;
    std::string out = begin();
    if (open_ != delta.channel) {
      out += close_block();
      open_ = delta.channel;
      Json block = thinking ? Json{{"type", "thinking"}, {"thinking", ""}, {"signature", ""}}
                            : Json{{"type", "text"}, {"text", ""}};
      out +=
          event("content_block_start", {{"index", blocks_}, {"content_block", std::move(block)}});
    }
    Json piece_of = thinking ? Json{{"type", "thinking_delta"}, {"thinking", delta.text}}
                             : Json{{"type", "text_delta"}, {"text", delta.text}};
    return out + event("content_block_delta", {{"index", blocks_}, {"delta", std::move(piece_of)}});
  }
  std::string stream_end(std::size_t, const Finished& end) override {
    return begin() + close_block() +
           event("message_delta",
                 {{"delta",
                   {{"stop_reason", stop_reason(end)}, {"stop_sequence", stop_sequence(end)}}},
                  {"usage", usage_json(usage())}});
  }
  std::string stream_error(const ApiError& error) override {
    failed_ = true;
    return "event: error\ndata: " + error.response(ErrorForm::Anthropic).body + "\n\n";
  }
  std::string stream_close() override {
    return failed_ ? std::string() : event("message_stop", Json::object());
  }

  void keep(std::size_t, const Delta& delta) override {
    (delta.channel == Channel::Reasoning ? thinking_ : text_) += delta.text;
  }
  Json body() override {
    Json content = Json::array();
    if (!thinking_.empty()) {
      content.push_back({{"type", "thinking"}, {"thinking", thinking_}, {"signature", ""}});
    }
    content.push_back({{"type", "text"}, {"text", text_}});
    const Finished& end = ends()[0];
    return message(std::move(content), stop_reason(end), stop_sequence(end), usage_json(usage()));
  }
  std::string id_;
  std::string thinking_, text_;  // whole
  bool begun_ = false;           // streamed, as the rest
  bool failed_ = false;
  std::optional<Channel> open_;
  std::size_t blocks_ = 0;  // closed
};

}  // namespace

ChatRequest read_messages_request(const Json& json, const ServedModel& model) {
  const Fields body(json);
  // Into the other API's words, whose reader checks them.
  Json chat = Json::object();
  for (const char* same : {"model", "stream", "temperature", "top_p", "top_k", "tools"}) {
    if (const Json* value = body.find(same)) chat[same] = *value;
  }
  body.need("max_tokens");
  chat["max_tokens"] = *body.find("max_tokens");
  if (const Json* stops = body.array("stop_sequences")) chat["stop"] = *stops;
  if (const auto thinking = body.object("thinking")) {
    const std::string type = thinking->text("type").value_or("");
    chat["thinking"] = {{"type", type == "adaptive" ? "enabled" : type}};
    const auto budget = thinking->integer("budget_tokens", 1, std::int64_t{1} << 40);
    const bool thinks = model.chat != nullptr && model.chat->has_reasoning();
    if (budget && thinks) chat["max_thinking_tokens"] = *budget;
  }
  Json messages = Json::array();
  if (body.find("system") != nullptr) {
    messages.push_back({{"role", "system"}, {"content", read_blocks(body, "system")}});
  }
  body.need("messages");
  const Json& asked = *body.array("messages");
  for (std::size_t i = 0; i < asked.size(); ++i) {
    const Fields message(asked[i], fmt::format("messages[{}]", i));
    message.need("role");
    const std::string role = *message.text("role");
    if (role != "user" && role != "assistant") {
      throw ApiError(400, fmt::format("{} is '{}', but must be user or assistant",
                                      message.path_of("role"), role));
    }
    Json out{{"role", role}, {"content", read_blocks(message, "content")}};
    if (role == "assistant" && i + 1 == asked.size()) out["prefix"] = true;
    messages.push_back(std::move(out));
  }
  chat["messages"] = std::move(messages);
  return read_chat_request(chat, model, {});
}

std::unique_ptr<Generation> messages_completion(const ServedModel& model, ChatRequest request,
                                                std::uint64_t cache_scope,
                                                AnswerObserver observer) {
  try {
    return std::make_unique<MessagesCompletion>(model, request, cache_scope, std::move(observer));
  } catch (const Error& error) {
    throw to_api_error(error);
  }
}

}  // namespace fathom::server
