#include "server/completion.h"

#include <fmt/format.h>

#include <chrono>
#include <utility>
#include <vector>

#include "server/api_error.h"
#include "server/completion_base.h"

namespace fathom::server {
namespace {

std::int64_t unix_time() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

const char* finish_word(FinishReason reason) {
  switch (reason) {
    case FinishReason::Length:
      return "length";
    case FinishReason::Cancelled:  // the client is there, so it was the server that stopped
      return "insufficient_system_resource";
    default:
      return "stop";
  }
}

Json bytes_of(std::string_view piece) {
  Json bytes = Json::array();
  for (const char c : piece) bytes.push_back(static_cast<unsigned char>(c));
  return bytes;
}

Json usage_json(const UsageSum& sum) {
  return {{"prompt_tokens", sum.prompt},
          {"completion_tokens", sum.completion},
          {"total_tokens", sum.prompt + sum.completion},
          {"prompt_tokens_details", {{"cached_tokens", sum.cached}}},
          {"completion_tokens_details", {{"reasoning_tokens", sum.reasoning}}},
          {"prompt_cache_hit_tokens", sum.cached},
          {"prompt_cache_miss_tokens", sum.prompt - sum.cached}};
}

/// The envelope that chat and text completions share.
class OpenAiCompletion : public Completion {
 public:
  OpenAiCompletion(const ServedModel& model, const CompletionRequest& asked, const char* id_prefix,
                   AnswerObserver observer)
      : Completion(model, asked, std::move(observer)),
        id_(new_id(id_prefix)),
        created_(unix_time()) {}

  HttpResponse refusal(const ApiError& error) const final { return error.response(); }

 protected:
  std::string stream_error(const ApiError& error) final {
    return "data: " + error.response().body + "\n\n";
  }
  std::string stream_close() final {
    std::string out;
    if (asked_.include_usage) {
      Json chunk = envelope(stream_object());
      chunk["choices"] = Json::array();
      chunk["usage"] = usage_json(usage());
      out = "data: " + dump(chunk) + "\n\n";
    }
    return out + "data: [DONE]\n\n";
  }
  Json body() final {
    Json choices = Json::array();
    for (std::size_t i = 0; i < ends().size(); ++i) choices.push_back(choice_json(i, ends()[i]));
    Json body = envelope(object());
    body["choices"] = std::move(choices);
    body["usage"] = usage_json(usage());
    return body;
  }
  std::string chunk(Json choice) const {
    Json json = envelope(stream_object());
    json["choices"] = Json::array({std::move(choice)});
    if (asked_.include_usage) json["usage"] = nullptr;
    return "data: " + dump(json) + "\n\n";
  }

  virtual const char* object() const = 0;
  virtual const char* stream_object() const = 0;
  virtual Json choice_json(std::size_t choice, const Finished& end) = 0;

 private:
  Json envelope(const char* kind) const {
    return {{"id", id_},
            {"object", kind},
            {"created", created_},
            {"model", model_.name},
            {"system_fingerprint", model_.fingerprint}};
  }

  std::string id_;
  std::int64_t created_;
};

class ChatCompletion final : public OpenAiCompletion {
 public:
  ChatCompletion(const ServedModel& model, const ChatRequest& asked, std::uint64_t cache_scope,
                 AnswerObserver observer)
      : OpenAiCompletion(model, asked, "chatcmpl-", std::move(observer)), parts_(asked.choices) {
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

  std::string stream_delta(std::size_t choice, const Delta& delta) override {
    const bool logprobs = wants_logprobs() && delta.token;
    if (delta.text.empty() && !logprobs) return {};
    std::string out;
    if (!parts_[choice].begun) {
      parts_[choice].begun = true;
      out = chunk({{"index", choice},
                   {"delta", {{"role", "assistant"}, {"content", ""}}},
                   {"logprobs", nullptr},
                   {"finish_reason", nullptr}});
    }
    const bool thinking = delta.channel == Channel::Reasoning;
    Json piece_of = thinking ? Json{{"content", nullptr}, {"reasoning_content", delta.text}}
                             : Json{{"content", delta.text}};
    Json choice_of{{"index", choice}, {"delta", std::move(piece_of)}, {"logprobs", nullptr}};
    if (logprobs) {
      choice_of["logprobs"] = {
          {thinking ? "reasoning_content" : "content", Json::array({logprob(*delta.token)})}};
    }
    choice_of["finish_reason"] = nullptr;
    return out + chunk(std::move(choice_of));
  }

  std::string stream_end(std::size_t choice, const Finished& end) override {
    Json delta = Json::object();
    // Somebody who waits for the role gets it even from an answer without a word.
    if (!parts_[choice].begun) delta = {{"role", "assistant"}, {"content", ""}};
    return chunk({{"index", choice},
                  {"delta", std::move(delta)},
                  {"logprobs", nullptr},
                  {"finish_reason", finish_word(end.reason)}});
  }

  void keep(std::size_t choice, const Delta& delta) override {
    Part& part = parts_[choice];
    const bool thinking = delta.channel == Channel::Reasoning;
    (thinking ? part.reasoning : part.content) += delta.text;
    if (!wants_logprobs() || !delta.token) return;
    (thinking ? part.reasoning_logprobs : part.content_logprobs).push_back(logprob(*delta.token));
  }

  Json choice_json(std::size_t choice, const Finished& end) override {
    Part& part = parts_[choice];
    Json message{{"role", "assistant"}, {"content", std::move(part.content)}};
    if (!part.reasoning.empty()) message["reasoning_content"] = std::move(part.reasoning);
    Json json{{"index", choice}, {"message", std::move(message)}, {"logprobs", nullptr}};
    if (wants_logprobs()) {
      json["logprobs"] = {{"content", std::move(part.content_logprobs)}};
      if (!part.reasoning_logprobs.empty()) {
        json["logprobs"]["reasoning_content"] = std::move(part.reasoning_logprobs);
      }
    }
    json["finish_reason"] = finish_word(end.reason);
    return json;
  }

  std::vector<Part> parts_;
};

class TextCompletion final : public OpenAiCompletion {
 public:
  TextCompletion(const ServedModel& model, const TextRequest& asked, std::uint64_t cache_scope,
                 AnswerObserver observer)
      : OpenAiCompletion(model, asked, "cmpl-", std::move(observer)) {
    const Tokenizer& tokenizer = model.engine->tokenizer();
    const auto add = [&](const std::vector<TokenId>& tokens, const std::string& text) {
      if (tokens.empty()) throw ApiError(400, "prompt: there is nothing to go on with", "prompt");
      add_request(tokens, std::nullopt, true, cache_scope);
      for (std::size_t n = 0; n < asked.choices; ++n) {
        parts_.emplace_back();
        if (asked.echo) parts_.back().text = text;
      }
    };
    // What a client writes is text: it cannot write a control token.
    for (const std::string& text : asked.prompts) {
      add(tokenizer.encode(text, {.add_special = true, .parse_special = false}), text);
    }
    for (const std::vector<TokenId>& ids : asked.token_prompts) add(ids, tokenizer.decode(ids));
    if (asked.echo && asked.stream) {
      for (Part& part : parts_) part.echo = std::exchange(part.text, {});
    }
  }

 private:
  struct Part {
    std::string text, echo;
    Json tokens = Json::array();
    Json token_logprobs = Json::array();
    Json top_logprobs = Json::array();
    Json text_offset = Json::array();
    std::size_t offset = 0;  // of the text so far

    Json take_logprobs() {
      return {{"tokens", std::exchange(tokens, Json::array())},
              {"token_logprobs", std::exchange(token_logprobs, Json::array())},
              {"top_logprobs", std::exchange(top_logprobs, Json::array())},
              {"text_offset", std::exchange(text_offset, Json::array())}};
    }
  };

  const char* object() const override { return "text_completion"; }
  const char* stream_object() const override { return "text_completion"; }

  void note(Part& part, const Delta& delta) const {
    if (wants_logprobs() && delta.token) {
      part.tokens.push_back(piece(delta.token->id));
      part.token_logprobs.push_back(delta.token->logprob);
      Json top = Json::object();
      for (const TokenLogprob& other : delta.token->top) {
        top[std::string(piece(other.id))] = other.logprob;
      }
      part.top_logprobs.push_back(std::move(top));
      part.text_offset.push_back(part.offset);
    }
    part.offset += delta.text.size();
  }

  std::string stream_delta(std::size_t choice, const Delta& delta) override {
    Part& part = parts_[choice];
    note(part, delta);
    if (delta.text.empty() && !(wants_logprobs() && delta.token)) return {};
    Json logprobs = wants_logprobs() ? part.take_logprobs() : Json();
    return chunk({{"text", std::exchange(part.echo, {}) + delta.text},
                  {"index", choice},
                  {"logprobs", std::move(logprobs)},
                  {"finish_reason", nullptr}});
  }
  std::string stream_end(std::size_t choice, const Finished& end) override {
    return chunk({{"text", std::exchange(parts_[choice].echo, {})},
                  {"index", choice},
                  {"logprobs", nullptr},
                  {"finish_reason", finish_word(end.reason)}});
  }
  void keep(std::size_t choice, const Delta& delta) override {
    note(parts_[choice], delta);
    parts_[choice].text += delta.text;
  }
  Json choice_json(std::size_t choice, const Finished& end) override {
    Part& part = parts_[choice];
    return {{"text", std::move(part.text)},
            {"index", choice},
            {"logprobs", wants_logprobs() ? part.take_logprobs() : Json()},
            {"finish_reason", finish_word(end.reason)}};
  }

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

std::unique_ptr<Generation> text_completion(const ServedModel& model, TextRequest request,
                                            std::uint64_t cache_scope, AnswerObserver observer) {
  try {
    return std::make_unique<TextCompletion>(model, request, cache_scope, std::move(observer));
  } catch (const Error& error) {
    throw to_api_error(error);
  }
}

}  // namespace fathom::server
