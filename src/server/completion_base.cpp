#include "server/completion_base.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <random>
#include <span>
#include <utility>

namespace fathom::server {

std::string new_id(const char* prefix) {
  std::random_device random;
  return fmt::format("{}{:08x}{:08x}{:08x}", prefix, random(), random(), random());
}

void Completion::add_request(const std::vector<TokenId>& prompt,
                             const std::optional<ReasoningSetup>& reasoning, bool continues_text,
                             std::uint64_t cache_scope,
                             std::optional<std::size_t> max_thinking_tokens,
                             const std::string& begun) {
  prompt_tokens_ += prompt.size();
  const std::span<const TokenId> end_tokens = model_.engine->tokenizer().end_of_generation();
  std::optional<Constraint> constraint;
  const bool tools = asked_.form && asked_.form->kind == OutputForm::Kind::Tools;
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
  }
  ends_.resize(requests_.size());
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
    if (asked_.stream) return stream_delta(choice, *delta);
    keep(choice, *delta);
    return {};
  }
  const auto* end = std::get_if<Finished>(&event);
  if (end == nullptr) return {};
  ++ended_;
  ends_[choice] = *end;
  if (observer_.ended) observer_.ended({end->usage, end->reason});
  if (done()) settle(usage());
  if (!asked_.stream) return {};
  std::string out = end->reason == FinishReason::Failed ? stream_error(to_api_error(*end->error))
                                                        : stream_end(choice, *end);
  return done() ? out + stream_close() : out;
}

HttpResponse Completion::result() {
  for (const Finished& end : ends_) {
    if (end.reason == FinishReason::Failed) return refusal(to_api_error(*end.error));
  }
  HttpResponse response;
  response.body = dump(body());
  return response;
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
