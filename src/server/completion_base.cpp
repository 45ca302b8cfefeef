#include "server/completion_base.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <random>
#include <span>
#include <utility>

namespace fathom::server {

std::string new_id(const char* prefix) {
  std::random_device random;
  return fmt::format("{}{:08x}{:08x}{:08x}", prefix, random(), random(), random());
}

void refuse_hopeless(const ServedModel& model, std::size_t bytes, const char* field) {
  if (bytes < std::size_t{1} << 20) return;
  const Tokenizer& tokenizer = model.engine->tokenizer();
  std::size_t longest = 1;
  for (std::size_t i = 0; i < tokenizer.vocab_size(); ++i) {
    longest = std::max(longest, tokenizer.piece(TokenId{static_cast<std::int32_t>(i)}).size());
  }
  const std::size_t context = model.engine->context_tokens();
  if (bytes / longest < context) return;
  throw ApiError(
      400,
      fmt::format("{}: {} bytes, more than a context of {} tokens has room for: the longest "
                  "token has {} bytes",
                  field, bytes, context, longest),
      field, "context_length_exceeded");
}

void Completion::add_request(const std::vector<TokenId>& prompt,
                             const std::optional<ReasoningSetup>& reasoning, bool continues_text,
                             std::uint64_t cache_scope,
                             std::optional<std::size_t> max_thinking_tokens,
                             const std::string& begun) {
  const bool screens = model_.filter && !model_.filter->output().empty();
  if (screens && wants_logprobs()) {
    // They would tell tokens before the rules have seen their text, and others that were possible.
    throw ApiError(400, "logprobs: not where answers are filtered", "logprobs",
                   "unsupported_parameter");
  }
  if (const std::size_t context = model_.engine->context_tokens(); prompt.size() >= context) {
    throw ApiError(400,
                   fmt::format("the prompt has {} tokens, which leaves no room for an answer in a "
                               "context of {}",
                               prompt.size(), context),
                   {}, "context_length_exceeded");
  }
  prompt_tokens_ += prompt.size();
  const std::span<const TokenId> end_tokens = model_.engine->tokenizer().end_of_generation();
  std::optional<Constraint> constraint;
  const bool tools = has_tools();
  if (asked_.form) {
    constraint = {model_.grammars->masks(*model_.engine, *asked_.form), begun, {}, false};
    if (tools && !asked_.form->whole) {
      constraint->trigger = asked_.form->format->begin;
      constraint->trigger_at_start = asked_.form->format->only_at_start;
    }
  }
  for (std::size_t n = 0; n < asked_.choices; ++n) {
    Request request;
    request.constraint = constraint;
    request.show_control_tokens = tools;  // some are the format's
    request.prompt = prompt;
    request.sampling = asked_.sampling;
    request.sampling.seed += requests_.size();  // each choice another draw
    request.stop_strings = asked_.stop;
    request.stop_tokens.assign(end_tokens.begin(), end_tokens.end());
    request.max_tokens = asked_.max_tokens;
    request.reasoning = reasoning;
    request.max_thinking_tokens = max_thinking_tokens;
    request.continues_text = continues_text;
    request.cache_scope = cache_scope;
    request.account = cache_scope;  // one key, one account
    requests_.push_back(std::move(request));
    if (screens) filters_.emplace_back(model_.filter->output());
  }
  ends_.resize(requests_.size());
  stopped_.resize(requests_.size());
}

Completion::~Completion() {
  for (Ticket& ticket : tickets_) ticket.cancel();
  if (!tickets_.empty()) settle({prompt_tokens_, 0, written_tokens_, 0});
}

void Completion::settle(const UsageSum& sum) noexcept {
  if (std::exchange(settled_, true) || !observer_.settled) return;
  try {
    observer_.settled(sum);
  } catch (const std::exception& error) {
    // The answer is there, and its reader shall have it.
    spdlog::error("a request could not be accounted for: {}", error.what());
  }
}

void Completion::start(Sink sink) {
  try {
    for (std::size_t i = 0; i < requests_.size(); ++i) {
      tickets_.push_back(model_.engine->submit(
          std::move(requests_[i]), [sink, i](Event event) { sink(i, std::move(event)); }));
    }
  } catch (const Error& error) {
    for (Ticket& ticket : tickets_) ticket.cancel();
    tickets_.clear();
    throw to_api_error(error);
  }
}

std::string Completion::take(std::size_t choice, Event event) {
  if (const auto* delta = std::get_if<Delta>(&event)) {
    if (delta->token) ++written_tokens_;
    return filters_.empty() ? give(choice, *delta) : give_screened(choice, *delta);
  }
  const auto* end = std::get_if<Finished>(&event);
  if (end == nullptr) return {};
  const bool failed = end->reason == FinishReason::Failed;
  std::string out = failed ? std::string() : give_rest(choice);
  ++ended_;
  Finished& kept = ends_[choice] = *end;
  std::string rule;
  if (!failed && caught(choice)) {
    kept.reason = FinishReason::Filtered;
    kept.stop_string.clear();  // it stood after the match
    rule = caught(choice)->rule->name;
  }
  if (observer_.ended) observer_.ended({kept.usage, kept.reason, rule});
  if (done()) settle(usage());
  if (!asked_.stream) return {};
  out += failed ? stream_error(to_api_error(*kept.error)) : stream_end(choice, kept);
  return done() ? out + stream_close() : out;
}

void Completion::stop(std::size_t choice, std::shared_ptr<const FilterRule> rule, Channel channel) {
  using Place = AnswerFilter::Place;
  tickets_[choice].cancel();
  if (!rule) return;
  stopped_[choice] = {std::move(rule),
                      channel == Channel::Reasoning ? Place::Thinking : Place::Text};
}

// ---- rules for output -----------------------------------------------------------------------

const std::optional<AnswerFilter::Caught>& Completion::caught(std::size_t choice) const {
  const bool by_own = !filters_.empty() && filters_[choice].caught();
  return by_own ? filters_[choice].caught() : stopped_[choice];
}

bool Completion::has_tools() const {
  return asked_.form && asked_.form->kind == OutputForm::Kind::Tools;
}

std::string Completion::give(std::size_t choice, const Delta& delta) {
  if (asked_.stream) return stream_delta(choice, delta);
  keep(choice, delta);
  return {};
}

std::string Completion::give_screened(std::size_t choice, Delta delta) {
  using Place = AnswerFilter::Place;
  AnswerFilter& filter = filters_[choice];
  if (filter.caught() || delta.text.empty()) return {};
  std::string out;
  if (delta.channel == Channel::Reasoning) {
    delta.text = filter.push(Place::Thinking, delta.text);
  } else {
    // The thought has ended.
    out = give_certain(choice, Channel::Reasoning, filter.finish(Place::Thinking));
    if (filter.caught()) {
      delta.text.clear();
    } else if (!has_tools()) {
      delta.text = filter.push(Place::Text, delta.text);
    }
  }
  out += give_certain(choice, delta.channel, std::move(delta.text));
  if (filter.caught()) tickets_[choice].cancel();  // the engine need not go on
  return out;
}

std::string Completion::give_rest(std::size_t choice) {
  if (filters_.empty()) return end_text(choice);
  using Place = AnswerFilter::Place;
  AnswerFilter& filter = filters_[choice];
  std::string out = give_certain(choice, Channel::Reasoning, filter.finish(Place::Thinking));
  if (has_tools()) return out + end_text(choice);
  return out + give_certain(choice, Channel::Answer, filter.finish(Place::Text));
}

std::string Completion::give_certain(std::size_t choice, Channel channel, std::string text) {
  return text.empty() ? std::string() : give(choice, {channel, std::move(text), {}});
}

std::vector<ToolPiece> Completion::screened(std::size_t choice, std::vector<ToolPiece> pieces,
                                            bool last) {
  if (filters_.empty()) return pieces;
  return filters_[choice].pass(pieces, last);
}

Json Completion::filtered(std::size_t choice, const std::array<const char*, 3>& places) const {
  if (ends_[choice].reason != FinishReason::Filtered) return nullptr;
  const AnswerFilter::Caught& by = *caught(choice);
  Json json{{"rule", by.rule->name}};
  json["reason"] = by.rule->reason.empty() ? Json() : Json(by.rule->reason);
  json["in"] = places[static_cast<std::size_t>(by.place)];
  return json;
}

HttpResponse Completion::result() {
  for (const Finished& end : ends_) {
    if (end.reason == FinishReason::Failed) return refusal(to_api_error(*end.error));
  }
  HttpResponse response;
  response.body = dump(body());
  return response;
}

void Completion::add_cost(Json& usage, const UsageSum& sum) const {
  if (!model_.price) return;
  usage["cost"] =
      dollars(model_.price->cost_nano(sum.cached, sum.prompt - sum.cached, sum.completion));
}

UsageSum Completion::usage() const {
  UsageSum sum;
  for (std::size_t i = 0; i < ends_.size(); ++i) {
    const Usage& usage = ends_[i].usage;
    sum.completion += usage.completion_tokens;
    sum.reasoning += usage.reasoning_tokens;
    if (i % asked_.choices != 0) continue;
    sum.prompt += usage.prompt_tokens;
    sum.cached += usage.cached_tokens;
  }
  return sum;
}

}  // namespace fathom::server
