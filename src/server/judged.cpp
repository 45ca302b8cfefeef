#include "server/judged.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

namespace fathom::server {
namespace {

/// Events of judges come through the same sink as those of answers, with numbers from here on.
constexpr std::size_t kFirstQuestion = std::size_t{1} << 32;

}  // namespace

Judged::Judged(std::unique_ptr<Generation> inner, std::vector<std::shared_ptr<const Judge>> judges,
               JudgedRequest request, Metrics& metrics)
    : inner_(std::move(inner)),
      request_(std::move(request)),
      metrics_(metrics),
      next_question_(kFirstQuestion) {
  for (std::shared_ptr<const Judge>& judge : judges) {
    const JudgeRule& rule = judge->rule();
    if (rule.input) input_.push_back(judge);
    if (!rule.output) continue;
    every_ = output_.empty() ? rule.every : std::min(every_, rule.every);
    output_.push_back(std::move(judge));
  }
}

Judged::~Judged() {
  for (auto& [number, question] : questions_) question.ticket.cancel();
}

void Judged::start(Sink sink) {
  sink_ = std::move(sink);
  try {
    for (const auto& judge : input_) ask(*judge, {}, {}, request_.text);
  } catch (const Error& error) {
    close({});
    throw to_api_error(error);
  }
  if (!input_.empty()) return;
  inner_->start(sink_);
  begun_ = true;
}

void Judged::ask(const Judge& judge, std::optional<std::size_t> choice, std::string_view asked,
                 std::string_view text) {
  const std::size_t number = next_question_++;
  try {
    questions_.emplace(number, Question{&judge, choice,
                                        judge.ask(asked, text, request_.scope,
                                                  [sink = sink_, number](Event event) {
                                                    sink(number, std::move(event));
                                                  })});
  } catch (const Error& error) {
    fail(error.code(), "the filter's judge '{}' cannot read this: {}", judge.rule().rule->name,
         error.what());
  }
}

void Judged::close(std::optional<std::size_t> choice) {
  for (auto at = questions_.begin(); at != questions_.end();) {
    const bool closes = at->second.choice == choice;
    if (closes) at->second.ticket.cancel();
    at = closes ? questions_.erase(at) : std::next(at);
  }
}

std::string Judged::take(std::size_t choice, Event event) {
  if (choice >= kFirstQuestion) return take_verdict(choice, event);
  if (output_.empty()) return inner_->take(choice, std::move(event));
  return hold(choice, std::move(event));
}

std::string Judged::take_verdict(std::size_t number, const Event& event) {
  const auto found = questions_.find(number);
  if (found == questions_.end()) return {};  // not asked any more
  Question& question = found->second;
  const Judge& judge = *question.judge;
  const std::optional<std::size_t> choice = question.choice;
  const std::optional<double> probability = judge.verdict(event);
  const auto* end = std::get_if<Finished>(&event);
  if (!probability && end == nullptr) return {};
  question.ticket.cancel();  // the first word is enough
  if (probability) {
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - question.asked;
    metrics_.count_judgement(judge.rule().rule->name, *probability, took.count());
  }
  questions_.erase(found);
  std::optional<Error> failure;
  if (!probability) {
    failure =
        Error(ErrorCode::ResourceLimit,
              fmt::format("the filter's judge '{}' gave no verdict: {}", judge.rule().rule->name,
                          end->error ? end->error->what() : to_string(end->reason)));
  }
  const bool flagged = probability && *probability >= judge.rule().threshold;
  if (!choice) {
    if (failure) {
      close({});
      refused_ = ApiError(503, failure->what());
    } else {
      take_input_verdict(judge, flagged);
    }
    return {};
  }
  if (failure) return cut_off(*choice, nullptr, std::move(failure));
  if (flagged) return cut_off(*choice, judge.rule().rule, {});
  Answer& answer = answers_.at(*choice);
  return --answer.open > 0 ? std::string() : go_on(*choice);
}

void Judged::take_input_verdict(const Judge& judge, bool flagged) {
  const FilterRule& rule = *judge.rule().rule;
  if (flagged) {
    close({});
    metrics_.count_filtered(rule.name, "input");
    refused_ = ApiError(400,
                        fmt::format("this is refused by this server's filter, judge '{}'{}{}",
                                    rule.name, rule.reason.empty() ? "" : ": ", rule.reason),
                        {}, "content_filter");
    return;
  }
  if (!questions_.empty()) return;
  try {
    inner_->start(sink_);
    begun_ = true;
  } catch (const ApiError& error) {
    refused_ = error;
  }
}

// ---- answers ------------------------------------------------------------------------------------

std::string Judged::hold(std::size_t choice, Event event) {
  Answer& answer = answers_[choice];
  if (auto* end = std::get_if<Finished>(&event)) {
    answer.end = std::move(*end);
    if (answer.stopped) return give_end(choice);
  } else if (answer.stopped) {
    return {};
  } else {
    if (const auto* delta = std::get_if<Delta>(&event)) answer.text += delta->text;
    answer.events.push_back(std::move(event));
  }
  return answer.open > 0 ? std::string() : go_on(choice);
}

std::string Judged::go_on(std::size_t choice) {
  Answer& answer = answers_.at(choice);
  // What the last verdicts were about.
  std::string out;
  for (; answer.asked_events > 0; --answer.asked_events) {
    out += inner_->take(choice, std::move(answer.events.front()));
    answer.events.pop_front();
  }
  answer.passed = answer.asked;
  const std::size_t waits = answer.text.size() - answer.passed;
  const bool due = answer.end ? waits > 0 : inner_->streams() && waits >= every_;
  if (!due) return answer.end ? out + give_end(choice) : out;
  answer.asked = answer.text.size();
  answer.asked_events = answer.events.size();
  answer.open = output_.size();
  try {
    for (const auto& judge : output_) ask(*judge, choice, request_.asked, answer.text);
  } catch (const Error& error) {
    return out + cut_off(choice, nullptr, error);
  }
  return out;
}

std::string Judged::cut_off(std::size_t choice, std::shared_ptr<const FilterRule> rule,
                            std::optional<Error> failure) {
  Answer& answer = answers_.at(choice);
  close(choice);
  // Where it was caught: where what nobody had judged begins.
  Channel channel = Channel::Answer;
  const auto first = std::ranges::find_if(answer.events, [](const Event& event) {
    const auto* delta = std::get_if<Delta>(&event);
    return delta != nullptr && !delta->text.empty();
  });
  if (first != answer.events.end()) channel = std::get<Delta>(*first).channel;
  answer.stopped = true;
  answer.failure = std::move(failure);
  answer.events.clear();
  inner_->stop(choice, std::move(rule), channel);
  return answer.end ? give_end(choice) : std::string();
}

std::string Judged::give_end(std::size_t choice) {
  Answer& answer = answers_.at(choice);
  std::string out;
  // Events without text need no judge.
  for (Event& event : answer.events) out += inner_->take(choice, std::move(event));
  answer.events.clear();
  Finished end = std::move(*answer.end);
  if (answer.failure) {
    end.reason = FinishReason::Failed;
    end.error = std::move(answer.failure);
  }
  return out + inner_->take(choice, std::move(end));
}

}  // namespace fathom::server
