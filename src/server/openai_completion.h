// What chat and text completions share: OpenAI's envelope, usage and events.
#pragma once

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "server/completion_base.h"

namespace fathom::server {

inline std::int64_t unix_time() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

inline const char* finish_word(FinishReason reason) {
  switch (reason) {
    case FinishReason::Length:
      return "length";
    case FinishReason::Cancelled:  // the client is there, so it was the server that stopped
      return "insufficient_system_resource";
    case FinishReason::Filtered:
      return "content_filter";
    default:
      return "stop";
  }
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
      chunk["usage"] = usage_json();
      out = "data: " + dump(chunk) + "\n\n";
    }
    return out + "data: [DONE]\n\n";
  }
  Json body() final {
    Json body = envelope(object());
    body["choices"] = choices_json();
    body["usage"] = usage_json();
    return body;
  }
  std::string chunk(Json choice) const {
    Json json = envelope(stream_object());
    json["choices"] = Json::array({std::move(choice)});
    if (asked_.include_usage) json["usage"] = nullptr;
    return "data: " + dump(json) + "\n\n";
  }

  virtual Json choices_json() {
    Json choices = Json::array();
    for (std::size_t i = 0; i < ends().size(); ++i) choices.push_back(choice_json(i, ends()[i]));
    return choices;
  }
  virtual const char* object() const = 0;
  virtual const char* stream_object() const = 0;
  virtual Json choice_json(std::size_t choice, const Finished& end) = 0;

 private:
  Json usage_json() const {
    const UsageSum sum = usage();
    Json json{{"prompt_tokens", sum.prompt},
              {"completion_tokens", sum.completion},
              {"total_tokens", sum.prompt + sum.completion},
              {"prompt_tokens_details", {{"cached_tokens", sum.cached}}},
              {"completion_tokens_details", {{"reasoning_tokens", sum.reasoning}}},
              {"prompt_cache_hit_tokens", sum.cached},
              {"prompt_cache_miss_tokens", sum.prompt - sum.cached}};
    add_cost(json, sum);
    return json;
  }
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

}  // namespace fathom::server
