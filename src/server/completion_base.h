// What all kinds of completions share: the engine's requests, their tickets, and who has ended.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "server/answer_filter.h"
#include "server/api_error.h"
#include "server/completion.h"
#include "server/fields.h"

namespace fathom::server {

/// Text that may hold pieces of characters, as logprobs do: they become U+FFFD.
inline std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

/// The prefix and 24 random hexadecimal digits.
std::string new_id(const char* prefix);

/// Throws ApiError(400) for a text of so many bytes that the context has no room for however it is
/// cut into tokens: megabytes need not be cut first to know. `field`: of the request.
void refuse_hopeless(const ServedModel& model, std::size_t bytes, const char* field);

class Completion : public Generation {
 public:
  Completion(const ServedModel& model, const CompletionRequest& asked, AnswerObserver observer)
      : held_(model.shared_from_this()),
        model_(*held_),
        asked_(asked),
        observer_(std::move(observer)) {}
  ~Completion() override;

  void start(Sink sink) final;
  bool streams() const final { return asked_.stream; }
  bool done() const final { return ended_ == ends_.size(); }
  std::string take(std::size_t choice, Event event) final;
  void stop(std::size_t choice, std::shared_ptr<const FilterRule> rule, Channel channel) final;
  HttpResponse result() final;

 protected:
  /// asked.choices answers to one prompt, which ends with `begun` of the answer's text.
  void add_request(const std::vector<TokenId>& prompt,
                   const std::optional<ReasoningSetup>& reasoning, bool continues_text,
                   std::uint64_t cache_scope, std::optional<std::size_t> max_thinking_tokens = {},
                   const std::string& begun = {});

  // What the API's form of it is. Streamed: the bytes to send.
  virtual std::string stream_delta(std::size_t choice, const Delta& delta) = 0;
  /// The answer's text has ended, if it streams or not: what a parser held back of it.
  virtual std::string end_text(std::size_t) { return {}; }
  virtual std::string stream_end(std::size_t choice, const Finished& end) = 0;
  virtual std::string stream_error(const ApiError& error) = 0;
  /// After all answers have ended.
  virtual std::string stream_close() = 0;
  // Whole: a delta is gathered, then the body made of it.
  virtual void keep(std::size_t choice, const Delta& delta) = 0;
  virtual Json body() = 0;

  std::string_view piece(TokenId id) const { return model_.engine->tokenizer().piece(id); }
  bool wants_logprobs() const { return asked_.sampling.logprobs.has_value(); }
  std::size_t prompt_tokens() const { return prompt_tokens_; }
  const std::vector<Finished>& ends() const { return ends_; }
  /// What a tool parser says goes through here: the rules for output let it pass, or end the
  /// answer. `last`: the answer's text has ended.
  std::vector<ToolPiece> screened(std::size_t choice, std::vector<ToolPiece> pieces,
                                  bool last = false);
  /// What ended the answer if a rule did: {"rule", "reason", "in"}, the last by the API's name for
  /// thinking, words and calls. Else null.
  Json filtered(std::size_t choice, const std::array<const char*, 3>& places) const;
  /// Choices of one prompt count it once.
  UsageSum usage() const;
  /// Adds what that cost, in dollars, to an API's usage object, if the model has a price.
  void add_cost(Json& usage, const UsageSum& sum) const;

 private:
  const std::shared_ptr<const ServedModel> held_;  // stays loaded while it answers

 protected:
  const ServedModel& model_;
  const CompletionRequest asked_;

 private:
  std::string give(std::size_t choice, const Delta& delta);
  /// What ended the answer, if a rule has.
  const std::optional<AnswerFilter::Caught>& caught(std::size_t choice) const;
  /// The same through the rules for output.
  std::string give_screened(std::size_t choice, Delta delta);
  std::string give_certain(std::size_t choice, Channel channel, std::string text);
  /// What they and the parsers held back at the text's end.
  std::string give_rest(std::size_t choice);
  bool has_tools() const;
  /// Tells the observer once; what it throws is logged.
  void settle(const UsageSum& sum) noexcept;

  AnswerObserver observer_;
  std::vector<Request> requests_;  // until start()
  std::vector<Ticket> tickets_;
  std::vector<Finished> ends_;
  std::vector<AnswerFilter> filters_;  // by choice; none without rules for output
  std::vector<std::optional<AnswerFilter::Caught>> stopped_;  // by choice: from outside
  std::size_t ended_ = 0;
  std::size_t prompt_tokens_ = 0;   // of each prompt once
  std::size_t written_tokens_ = 0;  // so far
  bool settled_ = false;
};

}  // namespace fathom::server
