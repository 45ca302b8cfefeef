#include "server/messages.h"

#include <fmt/format.h>

#include <utility>

#include "engine/tool_parser.h"
#include "server/completion_base.h"

namespace fathom::server {
namespace {

/// The text of blocks of type text; thoughts among them are dropped, as the API drops them.
/// `other`: takes a block of another type, or says by false that it is not supported.
template <typename Other>
std::string read_blocks(const Fields& owner, std::string_view name, const Other& other) {
  const Json* content = owner.find(name);
  if (content == nullptr) owner.need(name);
  if (content->is_string()) return content->get<std::string>();
  if (!content->is_array()) owner.refuse_type(name, "a string or an array of blocks");
  std::string text;
  for (std::size_t i = 0; i < content->size(); ++i) {
    const Fields block((*content)[i], fmt::format("{}[{}]", owner.path_of(name), i));
    const std::string type = block.text("type").value_or("");
    if (type == "thinking" || type == "redacted_thinking") continue;
    if (type == "text") {
      block.need("text");
      text += *block.text("text");
    } else if (!other(type, block)) {
      throw ApiError(400,
                     fmt::format("{}: '{}' is not supported here", block.path_of("type"), type),
                     block.path_of("type"));
    }
  }
  return text;
}
std::string read_blocks(const Fields& owner, std::string_view name) {
  return read_blocks(owner, name, [](const std::string&, const Fields&) { return false; });
}

/// A message's blocks as messages of the other API: results of tools come first, as they answer the
/// turn before.
void read_message(const Fields& message, const std::string& role, bool last, Json& messages) {
  Json calls = Json::array();
  Json out{{"role", role}, {"content", ""}};
  out["content"] =
      read_blocks(message, "content", [&](const std::string& type, const Fields& block) {
        if (type == "tool_use" && role == "assistant") {
          block.need("name");
          const auto input = block.object("input");
          calls.push_back(
              {{"id", block.text("id").value_or("")},
               {"type", "function"},
               {"function",
                {{"name", *block.text("name")},
                 {"arguments", input ? block.find("input")->dump() : std::string("{}")}}}});
          return true;
        }
        if (type == "tool_result" && role == "user") {
          const bool has_content = block.find("content") != nullptr;
          messages.push_back({{"role", "tool"},
                              {"tool_call_id", block.text("tool_use_id").value_or("")},
                              {"content", has_content ? read_blocks(block, "content") : ""}});
          return true;
        }
        return false;
      });
  const bool results_only = role == "user" && out.at("content") == "" && !messages.empty() &&
                            messages.back().at("role") == "tool";
  if (results_only) return;
  if (!calls.empty()) {
    out["tool_calls"] = std::move(calls);
  } else if (role == "assistant" && last) {
    out["prefix"] = true;
  }
  messages.push_back(std::move(out));
}

/// In the other API's words, as the choice among them below.
void read_tools(const Fields& body, Json& chat) {
  const Json* tools = body.array("tools");
  if (tools == nullptr) return;
  Json list = Json::array();
  for (std::size_t i = 0; i < tools->size(); ++i) {
    const Fields tool((*tools)[i], fmt::format("tools[{}]", i));
    const std::string type = tool.text("type").value_or("custom");
    if (type != "custom") {
      throw ApiError(400,
                     fmt::format("{}: '{}' runs on somebody else's servers: only custom tools",
                                 tool.path_of("type"), type),
                     tool.path_of("type"));
    }
    Json function{{"name", tool.need("name")}};
    if (const auto description = tool.text("description")) function["description"] = *description;
    if (const Json* schema = tool.find("input_schema")) function["parameters"] = *schema;
    list.push_back({{"type", "function"}, {"function", std::move(function)}});
  }
  chat["tools"] = std::move(list);
}

void read_tool_choice(const Fields& body, Json& chat) {
  const auto choice = body.object("tool_choice");
  if (!choice) return;
  const std::string type = choice->text("type").value_or("");
  if (choice->boolean("disable_parallel_tool_use").value_or(false)) {
    chat["parallel_tool_calls"] = false;
  }
  if (type == "any") {
    chat["tool_choice"] = "required";
  } else if (type == "tool") {
    chat["tool_choice"] = {{"type", "function"}, {"function", {{"name", choice->need("name")}}}};
  } else if (type == "auto" || type == "none") {
    chat["tool_choice"] = type;
  } else {
    throw ApiError(
        400, fmt::format("tool_choice.type is '{}', but must be auto, any, tool or none", type),
        "tool_choice.type");
  }
}

const char* stop_reason(const Finished& end, bool called) {
  if (end.reason == FinishReason::Filtered) return "refusal";
  if (called && end.reason == FinishReason::Stop) return "tool_use";
  if (!end.stop_string.empty()) return "stop_sequence";
  return end.reason == FinishReason::Length ? "max_tokens" : "end_turn";
}

Json stop_sequence(const Finished& end) {
  return end.stop_string.empty() ? Json() : Json(end.stop_string);
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
    if (asked.tools) parser_.emplace(model.chat->tool_format());
    const ChatPrompt prompt = chat_prompt(model, asked);
    add_request(prompt.tokens, prompt.reasoning, asked.continues, cache_scope,
                asked.max_thinking_tokens);
  }

  HttpResponse refusal(const ApiError& error) const override {
    return error.response(ErrorForm::Anthropic);
  }

 private:
  enum class Block { Thinking, Text, Tool };

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

  /// `ended`: then also what it cost.
  Json usage_json(const UsageSum& sum, bool ended) const {
    // What came from the cache does not count as input here.
    Json json{{"input_tokens", sum.prompt - sum.cached},
              {"cache_creation_input_tokens", 0},
              {"cache_read_input_tokens", sum.cached},
              {"output_tokens", sum.completion}};
    if (ended) add_cost(json, sum);
    return json;
  }

  std::string begin() {
    if (std::exchange(begun_, true)) return {};
    // How much of the prompt the cache had is known at the end, and told there.
    const UsageSum known{prompt_tokens(), 0, 0, 0};
    return event("message_start",
                 {{"message", message(Json::array(), nullptr, nullptr, usage_json(known, false))}});
  }
  std::string close_block() {
    if (!open_) return {};
    open_.reset();
    return event("content_block_stop", {{"index", blocks_++}});
  }

  std::string open_block(Block kind, Json block) {
    std::string out = begin();
    if (open_ == kind && kind != Block::Tool) return out;
    out += close_block();
    open_ = kind;
    return out +
           event("content_block_start", {{"index", blocks_}, {"content_block", std::move(block)}});
  }
  std::string block_delta(Json delta) const {
    return event("content_block_delta", {{"index", blocks_}, {"delta", std::move(delta)}});
  }
  std::string stream_text(const std::string& text) {
    std::string out = open_block(Block::Text, {{"type", "text"}, {"text", ""}});
    return out += block_delta({{"type", "text_delta"}, {"text", text}});
  }
  std::string stream_pieces(const std::vector<ToolPiece>& pieces) {
    std::string out;
    for (const ToolPiece& piece : pieces) {
      if (piece.kind == ToolPiece::Kind::Text) out += stream_text(piece.text);
      if (piece.kind == ToolPiece::Kind::Begin) {
        called_ = true;
        out += open_block(Block::Tool, tool_block(piece.text));
      }
      if (piece.kind == ToolPiece::Kind::Arguments) {
        out += block_delta({{"type", "input_json_delta"}, {"partial_json", piece.text}});
      }
      if (piece.kind == ToolPiece::Kind::End) out += close_block();
    }
    return out;
  }

  std::string stream_delta(std::size_t, const Delta& delta) override {
    if (delta.text.empty()) return {};
    if (delta.channel == Channel::Reasoning) {
      std::string out =
          open_block(Block::Thinking, {{"type", "thinking"}, {"thinking", ""}, {"signature", ""}});
      return out += block_delta({{"type", "thinking_delta"}, {"thinking", delta.text}});
    }
    return parser_ ? stream_pieces(screened(0, parser_->push(delta.text)))
                   : stream_text(delta.text);
  }
  std::string end_text(std::size_t) override {
    if (!parser_) return {};
    const auto rest = screened(0, parser_->finish(), true);
    if (asked_.stream) return stream_pieces(rest);
    keep_pieces(rest);
    return {};
  }
  std::string stream_end(std::size_t, const Finished& end) override {
    std::string out = begin();
    out += close_block();
    Json delta{{"stop_reason", stop_reason(end, called_)}, {"stop_sequence", stop_sequence(end)}};
    tell_filtered(delta);
    return out + event("message_delta",
                       {{"delta", std::move(delta)}, {"usage", usage_json(usage(), true)}});
  }
  /// Beside the stop reason, as the API tells of refusals.
  void tell_filtered(Json& json) const {
    const Json why = filtered(0, {"thinking", "text", "tool_use"});
    if (why.is_null()) return;
    json["stop_details"] = {
        {"type", "refusal"}, {"category", nullptr}, {"explanation", why.at("reason")}};
    json["stop_details"]["rule"] = why.at("rule");
    json["stop_details"]["in"] = why.at("in");
  }
  std::string stream_error(const ApiError& error) override {
    failed_ = true;
    return "event: error\ndata: " + error.response(ErrorForm::Anthropic).body + "\n\n";
  }
  std::string stream_close() override {
    return failed_ ? std::string() : event("message_stop", Json::object());
  }

  static Json tool_block(const std::string& name) {
    return {
        {"type", "tool_use"}, {"id", new_id("toolu_")}, {"name", name}, {"input", Json::object()}};
  }
  void keep_pieces(const std::vector<ToolPiece>& pieces) {
    for (const ToolPiece& piece : pieces) {
      if (piece.kind == ToolPiece::Kind::Text) text_ += piece.text;
      if (piece.kind == ToolPiece::Kind::Begin) {
        calls_.push_back(tool_block(piece.text));
        arguments_.emplace_back();
      }
      if (piece.kind == ToolPiece::Kind::Arguments) arguments_.back() += piece.text;
    }
  }
  void keep(std::size_t, const Delta& delta) override {
    if (delta.channel == Channel::Reasoning) {
      thinking_ += delta.text;
    } else if (parser_) {
      keep_pieces(screened(0, parser_->push(delta.text)));
    } else {
      text_ += delta.text;
    }
  }
  Json body() override {
    Json content = Json::array();
    if (!thinking_.empty()) {
      content.push_back({{"type", "thinking"}, {"thinking", thinking_}, {"signature", ""}});
    }
    if (!text_.empty() || calls_.empty()) content.push_back({{"type", "text"}, {"text", text_}});
    for (std::size_t i = 0; i < calls_.size(); ++i) {
      // An answer that was cut off may have but the beginning of its arguments.
      std::optional<Json> input = parse_inner(arguments_[i]);
      if (!input) continue;
      calls_[i]["input"] = std::move(*input);
      content.push_back(std::move(calls_[i]));
    }
    const Finished& end = ends()[0];
    Json json = message(std::move(content), stop_reason(end, !calls_.empty()), stop_sequence(end),
                        usage_json(usage(), true));
    tell_filtered(json);
    return json;
  }

  std::optional<ToolParser> parser_;
  std::vector<Json> calls_;             // whole
  std::vector<std::string> arguments_;  // of each
  bool called_ = false;                 // streamed
  std::string id_;
  std::string thinking_, text_;  // whole
  bool begun_ = false;           // streamed, as the rest
  bool failed_ = false;
  std::optional<Block> open_;
  std::size_t blocks_ = 0;  // closed
};

}  // namespace

ChatRequest read_messages_request(const Json& json, const ServedModel& model) {
  const Fields body(json);
  // Into the other API's words, whose reader checks them.
  Json chat = Json::object();
  for (const char* same : {"model", "stream", "temperature", "top_p", "top_k"}) {
    if (const Json* value = body.find(same)) chat[same] = *value;
  }
  read_tools(body, chat);
  read_tool_choice(body, chat);
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
    read_message(message, role, i + 1 == asked.size(), messages);
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
