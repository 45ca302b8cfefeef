#include "train/rollouts.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <utility>

#include "base/error.h"
#include "model/model.h"
#include "train/random.h"

namespace fathom::train {
namespace {

constexpr std::size_t kMostActive = 128;  // answers at once

/// What has come so far, filled on the engine's thread.
struct Gathered {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<Rollout> rollouts;
  std::size_t ended = 0;
  std::optional<Error> error;

  void take(std::size_t index, Event event) {
    const std::scoped_lock lock(mutex);
    Rollout& rollout = rollouts[index];
    if (auto* delta = std::get_if<Delta>(&event)) {
      if (delta->token) {
        rollout.tokens.push_back(delta->token->id);
        rollout.logprobs.push_back(delta->token->logprob);
      }
      rollout.text += delta->text;
      if (delta->channel == Channel::Answer) rollout.answer += delta->text;
    } else if (auto* end = std::get_if<Finished>(&event)) {
      rollout.finished = end->reason == FinishReason::Stop;
      rollout.routing = std::move(end->routing);
      if (end->error && !error) error = std::move(end->error);
      ++ended;
      changed.notify_all();
    }
  }
};

}  // namespace

std::unique_ptr<Engine> rollout_engine(std::shared_ptr<const Checkpoint> checkpoint,
                                       const Tokenizer& tokenizer,
                                       const RolloutEngineOptions& options) {
  ModelOptions load;
  load.threads = options.threads;
  load.precision = ActivationPrecision::F32;
  auto model = Model::load(std::move(checkpoint), load);
  SchedulerOptions scheduler;
  scheduler.max_active = std::min(kMostActive, options.requests);
  scheduler.max_idle = 0;
  scheduler.cache.dtype = DType::F32;
  const auto most = static_cast<std::size_t>(model->config().max_position_embeddings);
  scheduler.context_tokens = std::min(most, options.prompt_tokens + options.max_tokens);
  const std::size_t pages = scheduler.context_tokens / KvCache::kPageTokens + 2;
  scheduler.cache.capacity_tokens = scheduler.max_active * pages * KvCache::kPageTokens;
  return std::make_unique<Engine>(std::move(model), tokenizer, scheduler);
}

std::vector<Rollout> roll_out(Engine& engine, const std::vector<std::vector<TokenId>>& prompts,
                              const RolloutOptions& options) {
  // Shared with the sinks, which the engine may hold a little longer than this call lasts.
  const auto gathered = std::make_shared<Gathered>();
  const std::size_t total = prompts.size() * options.group;
  gathered->rollouts.resize(total);
  std::vector<Ticket> tickets;
  const struct Canceller {
    std::vector<Ticket>& tickets;
    ~Canceller() {
      for (Ticket& ticket : tickets) ticket.cancel();
    }
  } canceller{tickets};
  for (std::size_t index = 0; index < total; ++index) {
    Request request;
    gathered->rollouts[index].prompt = index / options.group;
    request.prompt = prompts[index / options.group];
    request.sampling.temperature = options.temperature;
    request.sampling.seed = Draws(options.seed, {options.first + index}).next();
    request.sampling.logprobs = 0;
    request.max_tokens = options.max_tokens;
    request.stop_tokens = options.stop_tokens;
    request.show_control_tokens = true;
    request.record_routing = options.record_routing;
    request.continues_text = true;
    if (options.thinking_budget) {
      request.reasoning = ReasoningSetup{options.markers, false};
      request.max_thinking_tokens = options.thinking_budget;
    }
    tickets.push_back(engine.submit(std::move(request), [gathered, index](Event event) {
      gathered->take(index, std::move(event));
    }));
  }
  Progress progress(options.progress, "sampling answers", total, "answers");
  std::unique_lock lock(gathered->mutex);
  while (gathered->ended < total && !gathered->error) {
    gathered->changed.wait(lock);
    progress.set(gathered->ended);
  }
  if (gathered->error) throw Error(*gathered->error);
  return std::move(gathered->rollouts);
}

}  // namespace fathom::train
