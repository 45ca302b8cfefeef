#include "server/responses.h"

#include <fmt/format.h>

#include <utility>

#include "engine/tool_parser.h"
#include "server/completion_base.h"
#include "server/openai_completion.h"

namespace fathom::server {
namespace {

/// An answer becomes a list of items: a thought, a message, calls. Streamed or whole, they are
/// built in one way; streamed, each step is told by an event.
class ResponsesCompletion final : public Completion {
 public:
  ResponsesCompletion(const ServedModel& model, const ResponsesRequest& asked,
                      std::uint64_t cache_scope, AnswerObserver observer)
      : Completion(model, asked.chat, std::move(observer)),
        echoed_(asked.echoed),
        id_(new_id("resp_")),
        created_(unix_time()) {
    if (asked.chat.tools) parser_.emplace(model.chat->tool_format());
    const ChatPrompt prompt = chat_prompt(model, asked.chat);
    add_request(prompt.tokens, prompt.reasoning, asked.chat.continues, cache_scope,
                asked.chat.max_thinking_tokens);
  }

  HttpResponse refusal(const ApiError& error) const override { return error.response(); }

 private:
  enum class Item { None, Thought, Message, Call };

  // ---- events -------------------------------------------------------------------------------

  std::string event(const char* type, Json data) {
    if (!asked_.stream) return {};
    Json json{{"type", type}, {"sequence_number", sequence_++}};
    json.update(data);
    return fmt::format("event: {}\ndata: {}\n\n", type, dump(json));
  }
  /// An event of the open item, which is the last.
  std::string item_event(const char* type, Json data) {
    Json json{{"item_id", output_.back().at("id")}, {"output_index", output_.size() - 1}};
    json.update(data);
    return event(type, std::move(json));
  }

  std::string begin() {
    if (std::exchange(begun_, true)) return {};
    std::string out = event("response.created", {{"response", response("in_progress")}});
    return out += event("response.in_progress", {{"response", response("in_progress")}});
  }

  std::string open(Item kind, Json item) {
    std::string out = begin();
    if (open_ == kind && kind != Item::Call) return out;
    out += close("completed");
    open_ = kind;
    output_.push_back(std::move(item));
    out += event("response.output_item.added",
                 {{"output_index", output_.size() - 1}, {"item", output_.back()}});
    if (kind == Item::Call) return out;
    Json part = kind == Item::Message
                    ? Json{{"type", "output_text"}, {"text", ""}, {"annotations", Json::array()}}
                    : Json{{"type", "reasoning_text"}, {"text", ""}};
    out += item_event("response.content_part.added", {{"content_index", 0}, {"part", part}});
    output_.back()["content"] = Json::array({std::move(part)});
    return out;
  }

  std::string close(const char* status) {
    std::string out;
    const Item kind = std::exchange(open_, Item::None);
    if (kind == Item::None) return out;
    Json& item = output_.back();
    if (kind == Item::Call) {
      out += item_event("response.function_call_arguments.done",
                        {{"arguments", item.at("arguments")}});
    } else {
      const Json& part = item.at("content")[0];
      const bool message = kind == Item::Message;
      Json done{{"content_index", 0}, {"text", part.at("text")}};
      if (message) done["logprobs"] = Json::array();
      out += item_event(message ? "response.output_text.done" : "response.reasoning_text.done",
                        std::move(done));
      out += item_event("response.content_part.done", {{"content_index", 0}, {"part", part}});
    }
    item["status"] = status;
    out +=
        event("response.output_item.done", {{"output_index", output_.size() - 1}, {"item", item}});
    return out;
  }

  std::string say(Item kind, const std::string& text) {
    const bool message = kind == Item::Message;
    Json item = message ? Json{{"type", "message"},
                               {"id", new_id("msg_")},
                               {"status", "in_progress"},
                               {"role", "assistant"},
                               {"content", Json::array()}}
                        : Json{{"type", "reasoning"},
                               {"id", new_id("rs_")},
                               {"summary", Json::array()},
                               {"content", Json::array()},
                               {"status", "in_progress"}};
    std::string out = open(kind, std::move(item));
    output_.back().at("content")[0].at("text").get_ref<std::string&>() += text;
    Json data{{"content_index", 0}, {"delta", text}};
    if (message) data["logprobs"] = Json::array();
    return out +=
           item_event(message ? "response.output_text.delta" : "response.reasoning_text.delta",
                      std::move(data));
  }

  std::string pieces(const std::vector<ToolPiece>& parts) {
    std::string out;
    for (const ToolPiece& piece : parts) {
      if (piece.kind == ToolPiece::Kind::Text) out += say(Item::Message, piece.text);
      if (piece.kind == ToolPiece::Kind::Begin) {
        out += open(Item::Call, {{"type", "function_call"},
                                 {"id", new_id("fc_")},
                                 {"call_id", new_call_id(model_.chat->tool_format())},
                                 {"name", piece.text},
                                 {"arguments", ""},
                                 {"status", "in_progress"}});
      }
      if (piece.kind == ToolPiece::Kind::Arguments) {
        output_.back().at("arguments").get_ref<std::string&>() += piece.text;
        out += item_event("response.function_call_arguments.delta", {{"delta", piece.text}});
      }
      if (piece.kind == ToolPiece::Kind::End) out += close("completed");
    }
    return out;
  }

  std::string take_delta(const Delta& delta) {
    if (delta.text.empty()) return {};
    if (delta.channel == Channel::Reasoning) return say(Item::Thought, delta.text);
    return parser_ ? pieces(screened(0, parser_->push(delta.text)))
                   : say(Item::Message, delta.text);
  }
  std::string end_text(std::size_t) override {
    return parser_ ? pieces(screened(0, parser_->finish(), true)) : std::string();
  }

  static bool incomplete(const Finished& end) {
    return end.reason == FinishReason::Length || end.reason == FinishReason::Filtered;
  }

  std::string finish(const Finished& end) {
    std::string out = begin();
    // An answer without a word is an empty message.
    if (output_.empty() && !incomplete(end)) out += say(Item::Message, "");
    return out += close(incomplete(end) ? "incomplete" : "completed");
  }

  // ---- the response -------------------------------------------------------------------------

  Json response(const char* status) const {
    Json json{{"id", id_},
              {"object", "response"},
              {"created_at", created_},
              {"status", status},
              {"background", false},
              {"error", nullptr},
              {"incomplete_details", nullptr}};
    json.update(echoed_);
    json["model"] = model_.name;
    json["output"] = output_;
    json["previous_response_id"] = nullptr;
    json["store"] = false;
    json["truncation"] = "disabled";
    json["usage"] = nullptr;
    return json;
  }
  Json ended(const Finished& end) const {
    const bool cancelled = end.reason == FinishReason::Cancelled;
    Json json = response(incomplete(end) ? "incomplete" : cancelled ? "cancelled" : "completed");
    if (incomplete(end)) json["incomplete_details"] = {{"reason", "max_output_tokens"}};
    const Json why = filtered(0, {"reasoning_text", "output_text", "function_call"});
    if (!why.is_null()) {
      json["incomplete_details"] = {{"reason", "content_filter"},
                                    {"rule", why.at("rule")},
                                    {"rule_reason", why.at("reason")},
                                    {"in", why.at("in")}};
    }
    const UsageSum sum = usage();
    json["usage"] = {{"input_tokens", sum.prompt},
                     {"input_tokens_details", {{"cached_tokens", sum.cached}}},
                     {"output_tokens", sum.completion},
                     {"output_tokens_details", {{"reasoning_tokens", sum.reasoning}}},
                     {"total_tokens", sum.prompt + sum.completion}};
    add_cost(json["usage"], sum);
    return json;
  }

  std::string stream_delta(std::size_t, const Delta& delta) override { return take_delta(delta); }
  std::string stream_end(std::size_t, const Finished& end) override {
    std::string out = finish(end);
    return out += event(incomplete(end) ? "response.incomplete" : "response.completed",
                        {{"response", ended(end)}});
  }
  std::string stream_error(const ApiError& error) override {
    std::string out = begin();
    Json failed = response("failed");
    failed["error"] = {{"code", "server_error"}, {"message", error.what()}};
    return out += event("response.failed", {{"response", std::move(failed)}});
  }
  std::string stream_close() override { return {}; }

  void keep(std::size_t, const Delta& delta) override { take_delta(delta); }
  Json body() override {
    finish(ends()[0]);
    return ended(ends()[0]);
  }

  const Json echoed_;
  std::string id_;
  std::int64_t created_;
  std::optional<ToolParser> parser_;
  Json output_ = Json::array();
  Item open_ = Item::None;
  bool begun_ = false;
  std::size_t sequence_ = 0;
};

// ---- requests -------------------------------------------------------------------------------

[[noreturn]] void refuse(const std::string& field, const std::string& why) {
  throw ApiError(400, fmt::format("{}: {}", field, why), field, "unsupported_parameter");
}

/// The text of input_text and output_text parts, or a string.
std::string read_parts(const Fields& owner, std::string_view name) {
  const Json& content = owner.need(name);
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array()) owner.refuse_type(name, "a string or an array of parts");
  std::string text;
  for (std::size_t i = 0; i < content.size(); ++i) {
    const Fields part(content[i], fmt::format("{}[{}]", owner.path_of(name), i));
    const std::string type = part.text("type").value_or("");
    if (type != "input_text" && type != "output_text" && type != "text" && type != "refusal") {
      refuse(part.path_of("type"),
             fmt::format("'{}' cannot be read by this model: only text", type));
    }
    const char* field = type == "refusal" ? "refusal" : "text";
    part.need(field);
    text += *part.text(field);
  }
  return text;
}

void read_item(const Fields& item, Json& messages) {
  const std::string type = item.text("type").value_or("message");
  if (type == "reasoning") return;  // dropped, as templates drop old thoughts
  if (type == "message") {
    item.need("role");
    messages.push_back({{"role", *item.text("role")}, {"content", read_parts(item, "content")}});
  } else if (type == "function_call") {
    item.need("name");
    Json call{
        {"id", item.text("call_id").value_or("")},
        {"type", "function"},
        {"function",
         {{"name", *item.text("name")}, {"arguments", item.text("arguments").value_or("{}")}}}};
    // Calls of one turn belong to one message, with the words before them.
    const bool joins = !messages.empty() && messages.back().at("role") == "assistant";
    if (!joins) messages.push_back({{"role", "assistant"}, {"content", ""}});
    messages.back()["tool_calls"].push_back(std::move(call));
  } else if (type == "function_call_output") {
    messages.push_back({{"role", "tool"},
                        {"tool_call_id", item.text("call_id").value_or("")},
                        {"content", read_parts(item, "output")}});
  } else {
    refuse(item.path_of("type"), fmt::format("'{}' is not supported", type));
  }
}

Json read_input(const Fields& body) {
  Json messages = Json::array();
  if (const auto instructions = body.text("instructions")) {
    messages.push_back({{"role", "system"}, {"content", *instructions}});
  }
  const Json& input = body.need("input");
  if (input.is_string()) {
    messages.push_back({{"role", "user"}, {"content", input}});
  } else if (input.is_array()) {
    for (std::size_t i = 0; i < input.size(); ++i) {
      read_item(Fields(input[i], fmt::format("input[{}]", i)), messages);
    }
  } else {
    body.refuse_type("input", "a string or an array of items");
  }
  return messages;
}

/// Tools are flat here, and nested in the other API.
void read_tools_into(const Fields& body, Json& chat) {
  if (const Json* tools = body.array("tools"); tools != nullptr) {
    Json nested = Json::array();
    for (std::size_t i = 0; i < tools->size(); ++i) {
      const Fields tool((*tools)[i], fmt::format("tools[{}]", i));
      const std::string type = tool.text("type").value_or("");
      if (type != "function") {
        refuse(tool.path_of("type"), fmt::format("'{}' is not there: only function", type));
      }
      Json function = Json::object();
      for (const char* name : {"name", "description", "parameters", "strict"}) {
        if (const Json* value = tool.find(name)) function[name] = *value;
      }
      nested.push_back({{"type", "function"}, {"function", std::move(function)}});
    }
    chat["tools"] = std::move(nested);
  }
  const Json* choice = body.find("tool_choice");
  if (choice == nullptr) return;
  if (choice->is_object()) {
    const Fields named(*choice, "tool_choice");
    const std::string type = named.text("type").value_or("");
    if (type != "function") {
      refuse("tool_choice.type", fmt::format("'{}' is not there: only function", type));
    }
    chat["tool_choice"] = {{"type", "function"}, {"function", {{"name", named.need("name")}}}};
  } else {
    chat["tool_choice"] = *choice;
  }
}

}  // namespace

ResponsesRequest read_responses_request(const Json& json, const ServedModel& model) {
  const Fields body(json);
  for (const char* name : {"previous_response_id", "conversation"}) {
    if (body.find(name) != nullptr) {
      refuse(name, "this server keeps no responses: send the conversation's items as input");
    }
  }
  if (body.boolean("background").value_or(false))
    refuse("background", "answers come as they are made");
  if (const Json* include = body.array("include"); include != nullptr) {
    for (const Json& one : *include) {
      if (one == "message.output_text.logprobs")
        refuse("include", "log-probabilities are not here");
    }
  }
  ResponsesRequest request;
  Json chat = Json::object();
  for (const char* same : {"model", "stream", "temperature", "top_p", "parallel_tool_calls"}) {
    if (const Json* value = body.find(same)) chat[same] = *value;
  }
  if (const auto most = body.integer("max_output_tokens", 1, std::int64_t{1} << 40)) {
    chat["max_tokens"] = *most;
  }
  chat["messages"] = read_input(body);
  read_tools_into(body, chat);
  if (const auto reasoning = body.object("reasoning")) {
    if (const Json* effort = reasoning->find("effort")) chat["reasoning_effort"] = *effort;
  }
  Json format{{"type", "text"}};
  if (const auto text = body.object("text")) {
    if (const auto asked = text->object("format")) {
      format = *text->find("format");
      const std::string type = asked->text("type").value_or("");
      chat["response_format"] = {{"type", type}};
      if (type == "json_schema") {
        chat["response_format"]["json_schema"] = {{"name", asked->text("name").value_or("")},
                                                  {"schema", asked->need("schema")}};
      }
    }
  }
  request.chat = read_chat_request(chat, model, {});
  // These are only repeated, but a response has no other types either.
  body.object("metadata");
  body.text("user");
  const auto echo = [&](const char* name, Json otherwise) {
    const Json* value = body.find(name);
    request.echoed[name] = value == nullptr ? std::move(otherwise) : *value;
  };
  echo("instructions", nullptr);
  echo("max_output_tokens", nullptr);
  echo("metadata", Json::object());
  echo("parallel_tool_calls", true);
  echo("reasoning", {{"effort", nullptr}, {"summary", nullptr}});
  request.echoed["temperature"] = request.chat.sampling.temperature;
  request.echoed["top_p"] = request.chat.sampling.top_p;
  request.echoed["text"] = {{"format", std::move(format)}};
  echo("tool_choice", "auto");
  echo("tools", Json::array());
  echo("user", nullptr);
  return request;
}

std::unique_ptr<Generation> responses_completion(const ServedModel& model, ResponsesRequest request,
                                                 std::uint64_t cache_scope,
                                                 AnswerObserver observer) {
  try {
    return std::make_unique<ResponsesCompletion>(model, request, cache_scope, std::move(observer));
  } catch (const Error& error) {
    throw to_api_error(error);
  }
}

}  // namespace fathom::server
