#include "train/torch/grpo.h"

#include <fmt/format.h>

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <tuple>
#include <utility>

#include "base/error.h"
#include "train/random.h"
#include "train/torch/live_model.h"

namespace fathom::train {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kSampling = 11;  // a purpose of random numbers

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Where the last allowed tokens are, an answer loses up to 1 (DAPO, eq. 13).
double overlong_penalty(std::size_t length, std::size_t most, std::size_t buffer) {
  if (buffer == 0 || length + buffer <= most) return 0;
  return -std::min(1.0, static_cast<double>(length + buffer - most) / static_cast<double>(buffer));
}

}  // namespace

struct Grpo::Sample {
  std::vector<std::int64_t> tokens;  // prompt and answer
  std::size_t prompt = 0;            // tokens of the prompt
  std::vector<float> rollout;        // of the answer's tokens
  std::string text, question, expected;
  bool finished = false;
  double reward = 0, advantage = 0;
  Tensor old;  // log-probabilities of its tokens before the step's updates, if there are several

  std::size_t answer() const { return tokens.size() - prompt; }
};

Grpo::Grpo(GrpoOptions options)
    : options_(std::move(options)),
      folder_(options_.run, options_.tensorboard),
      tokenizer_(Tokenizer::from_json(options_.texts.tokenizer, options_.texts.tokenizer_config)) {
  require(options_.questions > 0 && options_.group > 1 && options_.max_tokens > 0,
          ErrorCode::InvalidArgument,
          "a step needs a question, a group of two answers or more, and tokens for them");
  require(!options_.tasks.empty() && !options_.rewards.empty(), ErrorCode::InvalidArgument,
          "there is nothing to be rewarded for");
  require(options_.minibatches > 0 && options_.questions * options_.group >= options_.minibatches,
          ErrorCode::InvalidArgument, "{} answers cannot be shared out to {} updates",
          options_.questions * options_.group, options_.minibatches);
  const std::unique_ptr<ChatFormat> chat =
      options_.chat ? ChatFormat::load(*open_checkpoint(options_.weights), tokenizer_) : nullptr;
  require(chat || !options_.chat, ErrorCode::InvalidArgument, "{} has no chat template",
          options_.weights.string());
  for (auto* tasks : {&options_.tasks, &options_.evaluation}) {
    encode_tasks(*tasks, tokenizer_, {chat.get(), options_.instruction});
  }
  model_ = std::make_unique<TorchModel>(
      TorchModel::load(*open_checkpoint(options_.weights), options_.twin));
  if (options_.lora.rank > 0) model_->add_adapters(options_.lora, options_.seed);
  optimizer_ = std::make_unique<Optimizer>(*model_, options_.optimizer);
  if (options_.policy.kl > 0) {
    reference_ = std::make_unique<TorchModel>(model_->frozen_copy());
  }
  resume();
}

Grpo::~Grpo() = default;

// --- answers -------------------------------------------------------------------------------------

std::unique_ptr<Engine> Grpo::make_engine(std::size_t requests) const {
  std::size_t longest = 0;
  for (const auto* tasks : {&options_.tasks, &options_.evaluation}) {
    for (const RlTask& task : *tasks) longest = std::max(longest, task.tokens.size());
  }
  return rollout_engine(live_checkpoint(*model_, options_.texts.config), tokenizer_, longest,
                        options_.max_tokens, requests);
}

void Grpo::judge(std::vector<Sample>& group, GrpoReport& report) {
  std::vector<double> rewards;
  for (Sample& sample : group) {
    const Attempt attempt{sample.question, sample.text, sample.expected, sample.finished,
                          attempts_++};
    for (std::size_t i = 0; i < options_.rewards.size(); ++i) {
      const double value = options_.rewards[i].of(attempt);
      report.parts[i] += value;
      sample.reward += options_.rewards[i].weight * value;
    }
    sample.reward +=
        overlong_penalty(sample.answer(), options_.max_tokens, options_.overlong_buffer);
    rewards.push_back(sample.reward);
  }
  const auto advantages = advantages_of(rewards, options_.policy.divide_by_deviation);
  for (std::size_t i = 0; i < group.size(); ++i) group[i].advantage = advantages[i];
}

std::vector<Grpo::Sample> Grpo::gather(GrpoReport& report) {
  std::vector<Sample> kept;
  double groups = 0, equal = 0, answers = 0;
  const auto engine = make_engine(options_.questions * options_.group);
  for (std::size_t round = 0; round < options_.most_rounds; ++round) {
    const std::size_t missing = options_.questions - kept.size() / options_.group;
    std::vector<std::vector<TokenId>> prompts;
    std::vector<const RlTask*> tasks;
    for (std::size_t i = 0; i < missing; ++i) {
      tasks.push_back(&options_.tasks[dealt_task(options_.seed, dealt_++, options_.tasks.size())]);
      prompts.push_back(tasks.back()->tokens);
    }
    RolloutOptions rollout;
    rollout.group = options_.group;
    rollout.max_tokens = options_.max_tokens;
    rollout.temperature = options_.temperature;
    rollout.stop_tokens = {options_.end};
    rollout.seed =
        Draws(options_.seed, {kSampling, static_cast<std::uint64_t>(step_), round}).next();
    std::vector<Rollout> rollouts = roll_out(*engine, prompts, rollout);
    for (std::size_t question = 0; question < missing; ++question) {
      std::vector<Sample> group;
      for (std::size_t i = 0; i < options_.group; ++i) {
        Rollout& one = rollouts[question * options_.group + i];
        Sample sample;
        for (const TokenId id : prompts[question]) sample.tokens.push_back(value(id));
        sample.prompt = sample.tokens.size();
        for (const TokenId id : one.tokens) sample.tokens.push_back(value(id));
        sample.rollout = std::move(one.logprobs);
        sample.text = std::move(one.text);
        sample.finished = one.finished;
        sample.question = tasks[question]->prompt;
        sample.expected = tasks[question]->answer;
        report.length += static_cast<double>(sample.answer());
        report.longest = std::max(report.longest, static_cast<double>(sample.answer()));
        report.truncated += sample.finished ? 0 : 1;
        group.push_back(std::move(sample));
      }
      judge(group, report);
      ++groups;
      answers += static_cast<double>(group.size());
      for (const Sample& sample : group) report.reward += sample.reward;
      if (report.samples.size() < 3) {
        report.samples.emplace_back(group[0].reward, group[0].question + group[0].text);
      }
      const bool same =
          std::ranges::all_of(group, [](const Sample& s) { return s.advantage == 0; });
      equal += same;
      if (same && options_.dynamic_sampling) continue;
      for (Sample& sample : group) kept.push_back(std::move(sample));
    }
    if (!options_.dynamic_sampling || kept.size() == options_.questions * options_.group) break;
  }
  report.equal_groups = equal / groups;
  for (double* mean : {&report.reward, &report.length, &report.truncated}) *mean /= answers;
  for (double& part : report.parts) part /= answers;
  return kept;
}

// --- learning ------------------------------------------------------------------------------------

PolicyBatch Grpo::batch_of(std::span<const Sample* const> samples, GrpoReport& report,
                           double all_tokens, std::vector<Tensor>& loads) const {
  std::int64_t length = 0;
  for (const Sample* sample : samples) {
    length = std::max(length, static_cast<std::int64_t>(sample->tokens.size()));
  }
  const auto rows = static_cast<std::int64_t>(samples.size());
  // Token t is predicted at t - 1, so that the last one is no input. What pads a row comes after
  // all that is looked at, and nothing sees what comes later.
  Tensor inputs = at::full({rows, length - 1}, std::int64_t{value(options_.end)}, at::kLong);
  Tensor targets = at::zeros({rows, length - 1}, at::kLong);
  PolicyBatch batch;
  batch.mask = at::zeros({rows, length - 1}, at::kFloat);
  batch.rollout = at::zeros({rows, length - 1}, at::kFloat);
  batch.advantages = at::zeros({rows}, at::kFloat);
  for (std::int64_t r = 0; r < rows; ++r) {
    const Sample& sample = *samples[static_cast<std::size_t>(r)];
    auto* in = inputs[r].data_ptr<std::int64_t>();
    auto* target = targets[r].data_ptr<std::int64_t>();
    auto* mask = batch.mask[r].data_ptr<float>();
    auto* rollout = batch.rollout[r].data_ptr<float>();
    for (std::size_t t = 0; t + 1 < sample.tokens.size(); ++t) {
      in[t] = sample.tokens[t];
      target[t] = sample.tokens[t + 1];
      if (t + 1 < sample.prompt) continue;
      mask[t] = 1;
      rollout[t] = sample.rollout[t + 1 - sample.prompt];
    }
    batch.advantages[r] = sample.advantage;
  }
  const auto logprobs_of = [&](TorchModel& model, bool watched) {
    const Hidden hidden = model.forward({inputs, {}, {}});
    // The engine never says what the tokenizer has no token for, and padded vocabularies have more.
    const Tensor logits = model.logits(hidden.states)
                              .narrow(-1, 0, static_cast<std::int64_t>(tokenizer_.vocab_size()));
    const Tensor all = at::log_softmax(logits / static_cast<double>(options_.temperature), -1);
    const Tensor chosen = all.gather(-1, targets.unsqueeze(-1)).squeeze(-1);
    if (watched) {
      const at::NoGradGuard no_gradient;
      report.entropy += (-(all.exp() * all).sum(-1) * batch.mask).sum().item<double>() / all_tokens;
      const Tensor plain =
          options_.temperature == 1
              ? chosen
              : at::log_softmax(logits, -1).gather(-1, targets.unsqueeze(-1)).squeeze(-1);
      const Tensor gap = (plain - batch.rollout).abs() * batch.mask;
      report.gap += gap.sum().item<double>() / all_tokens;
      report.largest_gap = std::max(report.largest_gap, gap.max().item<double>());
      loads.resize(hidden.routers.size());
      for (std::size_t i = 0; i < loads.size(); ++i) {
        loads[i] = loads[i].defined() ? loads[i] + hidden.routers[i].load : hidden.routers[i].load;
      }
    }
    return chosen;
  };
  batch.logprobs = logprobs_of(*model_, true);
  if (reference_) {
    const at::NoGradGuard no_gradient;
    batch.reference = logprobs_of(*reference_, false);
  }
  if (samples.front()->old.defined()) {
    batch.old = at::zeros_like(batch.rollout);
    for (std::int64_t r = 0; r < rows; ++r) {
      const Tensor& old = samples[static_cast<std::size_t>(r)]->old;
      const auto first =
          static_cast<std::int64_t>(samples[static_cast<std::size_t>(r)]->prompt) - 1;
      batch.old[r].narrow(0, first, old.size(0)).copy_(old);
    }
  }
  return batch;
}

/// Neighbours of like length waste little on padding.
std::vector<const Grpo::Sample*> Grpo::by_length(std::span<const Sample> samples) {
  std::vector<const Sample*> order;
  for (const Sample& sample : samples) order.push_back(&sample);
  std::ranges::stable_sort(order, {}, [](const Sample* s) { return s->tokens.size(); });
  return order;
}

std::size_t Grpo::fitting(std::span<const Sample* const> order) const {
  std::size_t count = 1;
  while (count < order.size() &&
         (count + 1) * order[count]->tokens.size() <= options_.micro_tokens) {
    ++count;
  }
  return count;
}

void Grpo::update(std::span<Sample> samples, GrpoReport& report) {
  BatchTotals totals;
  totals.answers = static_cast<double>(samples.size());
  totals.longest = static_cast<double>(options_.max_tokens);
  for (const Sample& sample : samples) totals.tokens += static_cast<double>(sample.answer());
  const std::vector<const Sample*> order = by_length(samples);
  optimizer_->zero_gradients();
  std::vector<Tensor> loads;
  double loss = 0;
  for (std::size_t at = 0; at < order.size();) {
    const std::size_t count = fitting(std::span(order).subspan(at));
    const PolicyBatch batch =
        batch_of(std::span(order).subspan(at, count), report, totals.tokens, loads);
    const PolicyLoss part = policy_loss(batch, options_.policy, totals);
    part.loss.backward();
    loss += part.loss.item<double>();
    report.kl += part.kl / totals.tokens;
    report.clipped_low += part.clipped_low / totals.tokens;
    report.clipped_high += part.clipped_high / totals.tokens;
    at += count;
  }
  const double norm = optimizer_->gradient_norm();
  report.gradient_norm = std::max(report.gradient_norm, norm);
  for (const Tensor& load : loads) {
    report.largest_load = std::max(report.largest_load, (load.max() / load.mean()).item<double>());
  }
  if (!std::isfinite(loss) || !std::isfinite(norm)) {
    report.skipped = true;
    return;
  }
  const double warm =
      options_.warmup > 0
          ? std::min(1.0, static_cast<double>(step_ + 1) / static_cast<double>(options_.warmup))
          : 1.0;
  optimizer_->step(options_.rate * warm,
                   options_.clip > 0 && norm > options_.clip ? options_.clip / norm : 1);
}

void Grpo::remember_policy(std::span<Sample> samples) const {
  const at::NoGradGuard no_gradient;
  const std::vector<const Sample*> order = by_length(samples);
  for (std::size_t at = 0; at < order.size();) {
    const auto some = std::span(order).subspan(at, fitting(std::span(order).subspan(at)));
    GrpoReport ignored;
    std::vector<Tensor> loads;
    const PolicyBatch batch = batch_of(some, ignored, 1, loads);
    for (std::size_t r = 0; r < some.size(); ++r) {
      Sample& sample = samples[static_cast<std::size_t>(some[r] - samples.data())];
      sample.old = batch.logprobs[static_cast<std::int64_t>(r)].narrow(
          0, static_cast<std::int64_t>(sample.prompt) - 1,
          static_cast<std::int64_t>(sample.answer()));
    }
    at += some.size();
  }
}

GrpoReport Grpo::step() {
  GrpoReport report;
  report.parts.resize(options_.rewards.size());
  const auto start = Clock::now();
  const auto dealt = std::pair(dealt_, attempts_);
  std::vector<Sample> samples;
  try {
    samples = gather(report);
  } catch (...) {
    std::tie(dealt_, attempts_) = dealt;  // what is saved now goes on as if this had not begun
    throw;
  }
  report.sampling_seconds = seconds_since(start);
  const auto learning = Clock::now();
  if (samples.empty()) {
    report.skipped = true;  // every group had equal rewards
  } else {
    const std::size_t updates = std::min(options_.minibatches, samples.size());
    if (updates > 1) remember_policy(samples);
    for (std::size_t u = 0; u < updates; ++u) {
      const std::size_t from = samples.size() * u / updates;
      const std::size_t to = samples.size() * (u + 1) / updates;
      update(std::span(samples).subspan(from, to - from), report);
    }
    const auto n = static_cast<double>(updates);
    for (double GrpoReport::* mean : {&GrpoReport::entropy, &GrpoReport::gap, &GrpoReport::kl,
                                      &GrpoReport::clipped_low, &GrpoReport::clipped_high}) {
      report.*mean /= n;
    }
  }
  report.training_seconds = seconds_since(learning);
  report.samples_per_s =
      static_cast<double>(options_.questions * options_.group) / seconds_since(start);
  ++step_;
  report.step = step_;
  if (reference_ && options_.refresh_reference > 0 && step_ % options_.refresh_reference == 0) {
    reference_ = std::make_unique<TorchModel>(model_->frozen_copy());
  }
  const auto due = [&](std::int64_t every) { return done() || (every > 0 && step_ % every == 0); };
  bool keep = due(options_.save_every);
  if (!options_.evaluation.empty() && due(options_.evaluate_every)) {
    report.evaluation = evaluate();
    if (!best_ || report.evaluation->greedy > *best_) {
      best_ = report.evaluation->greedy;
      best_step_ = step_;
      keep = true;
    }
  }
  write_log(report);  // first: what goes on from the checkpoint does not write this line again
  if (keep) save();
  return report;
}

}  // namespace fathom::train
