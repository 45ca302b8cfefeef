// /chat/completions.
#include <fmt/format.h>

#include <utility>
#include <vector>

#include "engine/tool_parser.h"
#include "server/completion.h"
#include "server/consistency.h"
#include "server/openai_completion.h"

namespace fathom::server {
namespace {

Json bytes_of(std::string_view piece) {
  Json bytes = Json::array();
  for (const char c : piece) bytes.push_back(static_cast<unsigned char>(c));
  return bytes;
}

class ChatCompletion final : public OpenAiCompletion {
 public:
  ChatCompletion(const ServedModel& model, const ChatRequest& asked, std::uint64_t cache_scope,
                 AnswerObserver observer)
      : OpenAiCompletion(model, asked, "chatcmpl-", std::move(observer)),
        votes_(asked.votes),
        parts_(asked.choices) {
    if (asked.tools) {
      format_ = &model.chat->tool_format();
      for (Part& part : parts_) part.parser.emplace(*format_);
    }
    ChatPrompt prompt = chat_prompt(model, asked);
    const std::string begun =
        asked.continues ? asked.messages.back().at("content").get<std::string>() : std::string();
    add_request(prompt.tokens, prompt.reasoning, asked.continues, cache_scope,
                asked.max_thinking_tokens, begun);
  }

 private:
  struct Part {
    std::string content, reasoning;
    Json content_logprobs = Json::array();
    Json reasoning_logprobs = Json::array();
    bool begun = false;
    std::optional<ToolParser> parser;
    Json calls = Json::array();  // whole; streamed, only their number counts
  };

  const char* object() const override { return "chat.completion"; }
  const char* stream_object() const override { return "chat.completion.chunk"; }

  Json logprob(const SampledToken& token) const {
    const auto entry = [this](TokenId id, float value) {
      return Json{{"token", piece(id)}, {"logprob", value}, {"bytes", bytes_of(piece(id))}};
    };
    Json json = entry(token.id, token.logprob);
    json["top_logprobs"] = Json::array();
    for (const TokenLogprob& other : token.top) {
      json["top_logprobs"].push_back(entry(other.id, other.logprob));
    }
    return json;
  }

  /// The answer's role, before its first event.
  std::string begin(std::size_t choice) {
    if (std::exchange(parts_[choice].begun, true)) return {};
    return chunk({{"index", choice},
                  {"delta", {{"role", "assistant"}, {"content", ""}}},
                  {"logprobs", nullptr},
                  {"finish_reason", nullptr}});
  }

  std::string delta_chunk(std::size_t choice, Json delta, Json logprobs = nullptr) const {
    return chunk({{"index", choice},
                  {"delta", std::move(delta)},
                  {"logprobs", std::move(logprobs)},
                  {"finish_reason", nullptr}});
  }

  Json new_call(const std::string& name) const {
    return {{"id", new_call_id(*format_)},
            {"type", "function"},
            {"function", {{"name", name}, {"arguments", ""}}}};
  }

  /// One chunk a piece; the first of them has the token's log-probability.
  std::string stream_pieces(std::size_t choice, const std::vector<ToolPiece>& pieces,
                            Json logprobs) {
    Part& part = parts_[choice];
    std::string out;
    for (const ToolPiece& piece : pieces) {
      Json delta;
      switch (piece.kind) {
        case ToolPiece::Kind::Text:
          delta = {{"content", piece.text}};
          break;
        case ToolPiece::Kind::Begin: {
          Json call = new_call(piece.text);
          Json first{{"index", part.calls.size()}};
          first.update(call);
          part.calls.push_back(std::move(call));
          delta = {{"tool_calls", Json::array({std::move(first)})}};
          break;
        }
        case ToolPiece::Kind::Arguments:
          delta = {{"tool_calls", Json::array({{{"index", part.calls.size() - 1},
                                                {"function", {{"arguments", piece.text}}}}})}};
          break;
        case ToolPiece::Kind::End:
          continue;
      }
      out += delta_chunk(choice, std::move(delta), std::exchange(logprobs, nullptr));
    }
    if (!logprobs.is_null()) out += delta_chunk(choice, {{"content", ""}}, std::move(logprobs));
    return out;
  }

  /// Which answer is given, and who agreed.
  Json vote(std::size_t& chosen) const {
    std::vector<std::string> texts;
    std::vector<bool> whole;
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      texts.push_back(parts_[i].content);
      whole.push_back(ends()[i].reason == FinishReason::Stop);
    }
    const Verdict verdict = majority(texts, whole);
    chosen = verdict.chosen;
    Json votes = Json::array();
    for (const Vote& each : verdict.votes) {
      votes.push_back({{"answer", each.answer}, {"count", each.count}});
    }
    return {{"k", parts_.size()}, {"votes", std::move(votes)}};
  }

  std::string stream_delta(std::size_t choice, const Delta& delta) override {
    if (votes_) {
      // Nobody knows yet which of them will be given.
      keep(choice, delta);
      return {};
    }
    const bool has_logprobs = wants_logprobs() && delta.token;
    if (delta.text.empty() && !has_logprobs) return {};
    const bool thinking = delta.channel == Channel::Reasoning;
    Json logprobs;
    if (has_logprobs) {
      logprobs = {
          {thinking ? "reasoning_content" : "content", Json::array({logprob(*delta.token)})}};
    }
    std::string out = begin(choice);
    Part& part = parts_[choice];
    if (thinking) {
      return out + delta_chunk(choice, {{"content", nullptr}, {"reasoning_content", delta.text}},
                               std::move(logprobs));
    }
    if (part.parser) {
      return out + stream_pieces(choice, screened(choice, part.parser->push(delta.text)),
                                 std::move(logprobs));
    }
    return out + delta_chunk(choice, {{"content", delta.text}}, std::move(logprobs));
  }

  std::string stream_verdict() {
    std::size_t chosen = 0;
    Json votes = vote(chosen);
    const Part& part = parts_[chosen];
    std::string out = begin(0);
    if (!part.reasoning.empty()) {
      out += delta_chunk(0, {{"content", nullptr}, {"reasoning_content", part.reasoning}});
    }
    out += delta_chunk(0, {{"content", part.content}});
    Json last{{"index", 0},
              {"delta", Json::object()},
              {"logprobs", nullptr},
              {"finish_reason", finish_word(ends()[chosen].reason)},
              {"self_consistency", std::move(votes)}};
    tell_filtered(chosen, last);
    return out += chunk(std::move(last));
  }

  std::string stream_end(std::size_t choice, const Finished& end) override {
    if (votes_) return done() ? stream_verdict() : std::string();
    Part& part = parts_[choice];
    Json delta = Json::object();
    // Somebody who waits for the role gets it even from an answer without a word.
    if (!part.begun) delta = {{"role", "assistant"}, {"content", ""}};
    Json last{{"index", choice},
              {"delta", std::move(delta)},
              {"logprobs", nullptr},
              {"finish_reason", reason_word(part, end)}};
    tell_filtered(choice, last);
    return chunk(std::move(last));
  }

  std::string end_text(std::size_t choice) override {
    Part& part = parts_[choice];
    if (!part.parser) return {};
    const auto rest = screened(choice, part.parser->finish(), true);
    if (!asked_.stream) keep_pieces(part, rest);
    if (!asked_.stream || rest.empty()) return {};
    return begin(choice) + stream_pieces(choice, rest, nullptr);
  }

  void tell_filtered(std::size_t choice, Json& json) const {
    Json told = filtered(choice, {"reasoning_content", "content", "tool_calls"});
    if (!told.is_null()) json["filtered"] = std::move(told);
  }

  static const char* reason_word(const Part& part, const Finished& end) {
    const bool called = !part.calls.empty() && end.reason == FinishReason::Stop;
    return called ? "tool_calls" : finish_word(end.reason);
  }

  void keep_pieces(Part& part, const std::vector<ToolPiece>& pieces) const {
    for (const ToolPiece& piece : pieces) {
      if (piece.kind == ToolPiece::Kind::Text) part.content += piece.text;
      if (piece.kind == ToolPiece::Kind::Begin) part.calls.push_back(new_call(piece.text));
      if (piece.kind == ToolPiece::Kind::Arguments) {
        Json& arguments = part.calls.back().at("function").at("arguments");
        arguments.get_ref<std::string&>() += piece.text;
      }
    }
  }

  void keep(std::size_t choice, const Delta& delta) override {
    Part& part = parts_[choice];
    const bool thinking = delta.channel == Channel::Reasoning;
    if (thinking) {
      part.reasoning += delta.text;
    } else if (part.parser) {
      keep_pieces(part, screened(choice, part.parser->push(delta.text)));
    } else {
      part.content += delta.text;
    }
    if (!wants_logprobs() || !delta.token) return;
    (thinking ? part.reasoning_logprobs : part.content_logprobs).push_back(logprob(*delta.token));
  }

  Json choices_json() override {
    if (!votes_) return OpenAiCompletion::choices_json();
    std::size_t chosen = 0;
    Json votes = vote(chosen);
    Json choice = choice_json(chosen, ends()[chosen]);
    choice["index"] = 0;
    choice["self_consistency"] = std::move(votes);
    return Json::array({std::move(choice)});
  }

  Json choice_json(std::size_t choice, const Finished& end) override {
    Part& part = parts_[choice];
    Json message{{"role", "assistant"}, {"content", std::move(part.content)}};
    if (!part.reasoning.empty()) message["reasoning_content"] = std::move(part.reasoning);
    Json json{{"index", choice}, {"message", {}}, {"logprobs", nullptr}};
    if (wants_logprobs()) {
      json["logprobs"] = {{"content", std::move(part.content_logprobs)}};
      if (!part.reasoning_logprobs.empty()) {
        json["logprobs"]["reasoning_content"] = std::move(part.reasoning_logprobs);
      }
    }
    json["finish_reason"] = reason_word(part, end);
    if (!part.calls.empty()) {
      if (message.at("content") == "") message["content"] = nullptr;
      message["tool_calls"] = std::move(part.calls);
    }
    json["message"] = std::move(message);
    tell_filtered(choice, json);
    return json;
  }

  const bool votes_;
  const ToolFormat* format_ = nullptr;
  std::vector<Part> parts_;
};

}  // namespace

ChatPrompt chat_prompt(const ServedModel& model, const ChatRequest& request) {
  if (model.chat == nullptr) {
    throw ApiError(400,
                   fmt::format("{} is a base model without a chat template: it takes /completions",
                               model.name),
                   "model");
  }
  ChatOptions options;
  options.think = request.think;
  options.now = local_time();
  if (request.tools) options.tools = &request.tools->list;
  std::size_t bytes = 0;
  for (const Json& message : request.messages) {
    const auto content = message.find("content");
    if (content == message.end() || !content->is_string()) continue;
    bytes += content->get_ref<const std::string&>().size();
  }
  refuse_hopeless(model, bytes, "messages");
  if (!request.continues) return model.chat->prompt(request.messages, options);
  Json before = request.messages;
  const std::string begun = before.back().at("content").get<std::string>();
  before.erase(before.size() - 1);
  if (before.empty()) throw ApiError(400, "messages: a prefix alone answers nobody", "messages");
  ChatPrompt prompt = model.chat->prompt(before, options);
  const Tokenizer& tokenizer = model.engine->tokenizer();
  if (prompt.reasoning && prompt.reasoning->starts_inside) {
    // The prefix is of the answer: the thought before it is an empty one.
    const ReasoningMarkers& markers = prompt.reasoning->markers;
    prompt.text += "\n" + markers.close_text + "\n\n";
    const auto close = tokenizer.encode("\n" + markers.close_text + "\n\n",
                                        {.add_special = false, .parse_special = true});
    prompt.tokens.insert(prompt.tokens.end(), close.begin(), close.end());
    prompt.reasoning->starts_inside = false;
  }
  prompt.text += begun;
  const auto tokens = tokenizer.encode(begun, {.add_special = false, .parse_special = false});
  prompt.tokens.insert(prompt.tokens.end(), tokens.begin(), tokens.end());
  return prompt;
}

std::unique_ptr<Generation> chat_completion(const ServedModel& model, ChatRequest request,
                                            std::uint64_t cache_scope, AnswerObserver observer) {
  try {
    return std::make_unique<ChatCompletion>(model, request, cache_scope, std::move(observer));
  } catch (const Error& error) {
    throw to_api_error(error);
  }
}

}  // namespace fathom::server
