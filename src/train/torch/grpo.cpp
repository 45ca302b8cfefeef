#include "train/torch/grpo.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <tuple>
#include <utility>

#include "base/error.h"
#include "config/model_cost.h"
#include "train/random.h"
#include "train/torch/live_model.h"

namespace fathom::train {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t kMostDiverged = 20;
constexpr std::uint64_t kSampling = 11;  // a purpose of random numbers

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Where the last allowed tokens are, an answer loses up to 1 (DAPO, eq. 13).
double overlong_penalty(std::size_t length, std::size_t most, std::size_t buffer) {
  if (buffer == 0 || length + buffer <= most) return 0;
  return -std::min(1.0, static_cast<double>(length + buffer - most) / static_cast<double>(buffer));
}

Sample sample_of(const RlTask& task, Rollout rollout) {
  Sample sample;
  for (const TokenId id : task.tokens) sample.tokens.push_back(value(id));
  sample.prompt = sample.tokens.size();
  for (const TokenId id : rollout.tokens) sample.tokens.push_back(value(id));
  sample.rollout = std::move(rollout.logprobs);
  sample.routing = std::move(rollout.routing);
  sample.text = std::move(rollout.text);
  sample.finished = rollout.finished;
  sample.question = task.prompt;
  sample.expected = task.answer;
  return sample;
}

}  // namespace

Grpo::Grpo(GrpoOptions options)
    : options_(std::move(options)),
      checkpoints_(options_.run, options_.tensorboard, options_.keep, options_.ranks),
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
  if (options_.lora.rank > 0) {
    model_->add_adapters(options_.lora, options_.seed);
    adapted_ = weights_digest(*open_checkpoint(options_.weights));
  }
  optimizer_ = std::make_unique<Optimizer>(*model_, options_.optimizer, options_.ranks);
  if (options_.policy.kl > 0) {
    reference_ = std::make_unique<TorchModel>(model_->frozen_copy());
  }
  resume();
}

// --- answers -------------------------------------------------------------------------------------

std::unique_ptr<Engine> Grpo::make_engine(std::size_t requests) const {
  RolloutEngineOptions engine{0, options_.max_tokens, requests, options_.threads};
  for (const auto* tasks : {&options_.tasks, &options_.evaluation}) {
    for (const RlTask& task : *tasks) {
      engine.prompt_tokens = std::max(engine.prompt_tokens, task.tokens.size());
    }
  }
  return rollout_engine(live_checkpoint(*model_, options_.texts.config), tokenizer_, engine);
}

double Grpo::flop_per_token() const {
  return forward_work(model_->config(), static_cast<double>(options_.max_tokens) / 2).total();
}

void Grpo::judge(std::vector<Sample>& group, std::uint64_t first, GrpoReport& report) const {
  std::vector<double> rewards;
  for (Sample& sample : group) {
    const Attempt attempt{sample.question, sample.text, sample.expected, sample.finished, first++};
    for (std::size_t i = 0; i < options_.rewards.size(); ++i) {
      const double value = options_.rewards[i].of(attempt);
      report.parts[i] += value;
      sample.reward += options_.rewards[i].weight * value;
    }
    sample.reward +=
        overlong_penalty(sample.answer(), options_.max_tokens, options_.overlong_buffer);
    rewards.push_back(sample.reward);
    report.reward += sample.reward;
    report.length += static_cast<double>(sample.answer());
    report.longest = std::max(report.longest, static_cast<double>(sample.answer()));
    report.truncated += sample.finished ? 0 : 1;
  }
  const auto advantages = advantages_of(rewards, options_.policy.divide_by_deviation);
  for (std::size_t i = 0; i < group.size(); ++i) group[i].advantage = advantages[i];
  if (report.samples.size() < 3) {
    report.samples.emplace_back(group[0].reward, group[0].question + group[0].text);
  }
}

std::vector<std::vector<Sample>> Grpo::ask(Engine& engine, std::size_t questions,
                                           std::size_t round) {
  // All ranks deal all questions, so that they agree on what comes next, and ask their own.
  const auto [first, last] = options_.ranks.share(static_cast<std::int64_t>(questions));
  std::vector<std::vector<TokenId>> prompts;
  std::vector<const RlTask*> tasks;
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(questions); ++i) {
    const RlTask& task = options_.tasks[dealt_task(options_.seed, dealt_++, options_.tasks.size())];
    if (i < first || i >= last) continue;
    tasks.push_back(&task);
    prompts.push_back(task.tokens);
  }
  RolloutOptions rollout;
  rollout.group = options_.group;
  rollout.max_tokens = options_.max_tokens;
  rollout.temperature = options_.temperature;
  rollout.stop_tokens = {options_.end};
  rollout.seed = Draws(options_.seed, {kSampling, static_cast<std::uint64_t>(step_), round}).next();
  rollout.first = static_cast<std::uint64_t>(first) * options_.group;
  rollout.record_routing = options_.replay_routing;
  std::vector<Rollout> rollouts = roll_out(engine, prompts, rollout);
  std::vector<std::vector<Sample>> groups(tasks.size());
  for (std::size_t i = 0; i < rollouts.size(); ++i) {
    const std::size_t question = i / options_.group;
    groups[question].push_back(sample_of(*tasks[question], std::move(rollouts[i])));
  }
  return groups;
}

std::vector<Sample> Grpo::gather(GrpoReport& report) {
  std::vector<Sample> kept;
  std::size_t missing = options_.questions;
  double groups = 0, equal = 0, read = 0;
  const Ranks& ranks = options_.ranks;
  const auto engine = make_engine(options_.questions * options_.group);
  for (std::size_t round = 0; round < options_.most_rounds && missing > 0; ++round) {
    double taught = 0;
    ranks.together([&] {
      const auto [first, last] = ranks.share(static_cast<std::int64_t>(missing));
      std::uint64_t number = attempts_ + static_cast<std::uint64_t>(first) * options_.group;
      for (std::vector<Sample>& group : ask(*engine, missing, round)) {
        judge(group, number, report);
        number += group.size();
        ++groups;
        read += static_cast<double>(group[0].prompt);
        const bool same =
            std::ranges::all_of(group, [](const Sample& s) { return s.advantage == 0; });
        equal += same;
        if (same && options_.dynamic_sampling) continue;
        ++taught;
        std::ranges::move(group, std::back_inserter(kept));
      }
    });
    attempts_ += missing * options_.group;
    missing -= static_cast<std::size_t>(std::llround(ranks.sum(taught)));
  }
  std::vector<double> sums{groups, equal, report.reward, report.length, report.truncated, read};
  sums.insert(sums.end(), report.parts.begin(), report.parts.end());
  ranks.sum(sums);
  report.longest = ranks.most(report.longest);
  const double answers = sums[0] * static_cast<double>(options_.group);
  report.equal_groups = sums[1] / sums[0];
  report.reward = sums[2] / answers;
  report.length = sums[3] / answers;
  report.truncated = sums[4] / answers;
  for (std::size_t i = 0; i < report.parts.size(); ++i) report.parts[i] = sums[6 + i] / answers;
  report.flop = flop_per_token() * (sums[3] + sums[5]);
  return kept;
}

// --- a step --------------------------------------------------------------------------------------

GrpoReport Grpo::step() {
  GrpoReport report;
  report.parts.resize(options_.rewards.size());
  report.rate =
      options_.rate.at(step_, static_cast<double>(step_) / static_cast<double>(options_.steps));
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
  learn(samples, report);
  report.training_seconds = seconds_since(learning);
  diverged_ = report.diverged ? diverged_ + 1 : 0;
  require(diverged_ < kMostDiverged, ErrorCode::Internal,
          "{} steps in a row gave no finite loss or gradient: the run has diverged; the last "
          "checkpoint is of step {}",
          diverged_, checkpoints_.last_saved());
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
    if (checkpoints_.lowest(-report.evaluation->greedy, step_)) keep = true;
  }
  write_log(report);  // first: what goes on from the checkpoint does not write this line again
  if (keep) save();
  return report;
}

}  // namespace fathom::train
