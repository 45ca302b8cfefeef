// A generation under judges: what is asked reaches the model, and what it answers its reader, once
// they have let it pass.
//
// Judges for input are asked first; nothing is sent until they have answered, so that a refusal is
// a 400. Of an answer that streams, the events wait until the judges have seen the text so far, as
// it grows by JudgeRule::every; of one that does not, until its end. They see what the model
// writes, thoughts and the form of calls too. A judge that cannot be asked lets nothing pass.
#pragma once

#include <chrono>
#include <cstddef>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/generation.h"
#include "server/judge.h"
#include "server/metrics.h"

namespace fathom::server {

/// What judges are told of a request.
struct JudgedRequest {
  std::string text;   // all that the model would read
  std::string asked;  // what an answer replies to
  std::uint64_t scope = 0;
};

class Judged final : public Generation {
 public:
  /// `metrics` outlives it.
  Judged(std::unique_ptr<Generation> inner, std::vector<std::shared_ptr<const Judge>> judges,
         JudgedRequest request, Metrics& metrics);
  ~Judged() override;

  void start(Sink sink) override;
  HttpResponse refusal(const ApiError& error) const override { return inner_->refusal(error); }
  bool undecided() const override { return !begun_ && !refused_; }
  std::optional<ApiError> refused() const override { return refused_; }
  bool streams() const override { return inner_->streams(); }
  std::string take(std::size_t choice, Event event) override;
  void stop(std::size_t choice, std::shared_ptr<const FilterRule> rule, Channel channel) override {
    inner_->stop(choice, std::move(rule), channel);
  }
  bool done() const override { return inner_->done(); }
  HttpResponse result() override { return inner_->result(); }

 private:
  struct Question {
    const Judge* judge;
    std::optional<std::size_t> choice;  // none: of the request
    Ticket ticket;
    std::chrono::steady_clock::time_point asked = std::chrono::steady_clock::now();
  };
  /// An answer that comes, and waits.
  struct Answer {
    std::deque<Event> events;  // not yet passed
    std::string text;          // all so far,
    std::size_t passed = 0;    // of which so much was judged,
    std::size_t asked = 0;     // and so much is being judged,
    std::size_t asked_events = 0;
    std::size_t open = 0;  // by so many
    std::optional<Finished> end;
    std::optional<Error> failure;  // of a judge
    bool stopped = false;          // nothing passes any more but its end
  };

  /// Throws Error as Judge::ask().
  void ask(const Judge& judge, std::optional<std::size_t> choice, std::string_view asked,
           std::string_view text);
  void close(std::optional<std::size_t> choice);
  std::string take_verdict(std::size_t number, const Event& event);
  void take_input_verdict(const Judge& judge, bool flagged);
  std::string hold(std::size_t choice, Event event);
  /// Asks, or passes what has been judged.
  std::string go_on(std::size_t choice);
  /// By a rule, or because a judge failed.
  std::string cut_off(std::size_t choice, std::shared_ptr<const FilterRule> rule,
                      std::optional<Error> failure);
  std::string give_end(std::size_t choice);

  const std::unique_ptr<Generation> inner_;
  std::vector<std::shared_ptr<const Judge>> input_, output_;
  const JudgedRequest request_;
  Metrics& metrics_;
  std::size_t every_ = 0;  // the least of the judges for output

  Sink sink_;
  std::map<std::size_t, Question> questions_;  // by the number that their events come with
  std::size_t next_question_;
  std::map<std::size_t, Answer> answers_;
  bool begun_ = false;
  std::optional<ApiError> refused_;
};

}  // namespace fathom::server
