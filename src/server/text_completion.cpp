// /completions: text that goes on.
#include <utility>
#include <vector>

#include "engine/fim.h"
#include "server/completion.h"
#include "server/openai_completion.h"

namespace fathom::server {
namespace {

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
    if (asked.suffix) refuse_hopeless(model, asked.suffix->size(), "suffix");
    for (const std::string& text : asked.prompts) {
      refuse_hopeless(model, text.size(), "prompt");
      if (asked.suffix) {
        add(fim_prompt(tokenizer, *fim_tokens(tokenizer), text, *asked.suffix), text);
        continue;
      }
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
    return chunk(told(choice, {{"text", std::exchange(parts_[choice].echo, {})},
                               {"index", choice},
                               {"logprobs", nullptr},
                               {"finish_reason", finish_word(end.reason)}}));
  }
  Json told(std::size_t choice, Json json) const {
    Json why = filtered(choice, {"text", "text", "text"});
    if (!why.is_null()) json["filtered"] = std::move(why);
    return json;
  }
  void keep(std::size_t choice, const Delta& delta) override {
    note(parts_[choice], delta);
    parts_[choice].text += delta.text;
  }
  Json choice_json(std::size_t choice, const Finished& end) override {
    Part& part = parts_[choice];
    return told(choice, {{"text", std::move(part.text)},
                         {"index", choice},
                         {"logprobs", wants_logprobs() ? part.take_logprobs() : Json()},
                         {"finish_reason", finish_word(end.reason)}});
  }

  std::vector<Part> parts_;
};

}  // namespace

std::unique_ptr<Generation> text_completion(const ServedModel& model, TextRequest request,
                                            std::uint64_t cache_scope, AnswerObserver observer) {
  try {
    return std::make_unique<TextCompletion>(model, request, cache_scope, std::move(observer));
  } catch (const Error& error) {
    throw to_api_error(error);
  }
}

}  // namespace fathom::server
