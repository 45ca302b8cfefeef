// From answers and what they were worth to updates of the policy.
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "train/torch/grpo.h"

namespace fathom::train {

/// An answer no better or worse than its group's others pulls nowhere, unless there is a reference
/// to be pulled to.
std::vector<const Sample*> Grpo::teachers(std::span<const Sample> samples) const {
  std::vector<const Sample*> order = learning_order(samples);
  if (!reference_) std::erase_if(order, [](const Sample* s) { return s->advantage == 0; });
  return order;
}

AnswerBatch Grpo::batch_of(std::span<const Sample* const> samples) const {
  const ModelConfig& config = model_->config();
  std::int64_t routed = 0;
  for (std::int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    routed += config.is_moe_layer(layer);
  }
  return answer_batch(samples, value(options_.end), routed, config.moe.num_experts_per_tok);
}

Grpo::Logprobs Grpo::logprobs(TorchModel& model, const AnswerBatch& batch, bool watched) const {
  const bool replays = &model != reference_.get();
  const at::Device device = model.options().device;
  Hidden hidden = model.forward(batch.rows, replays ? batch.replay : std::vector<Tensor>());
  // Only what answers are predicted from, and only what the engine might say: it never says what
  // the tokenizer has no token for, and padded vocabularies have more.
  const Tensor states = hidden.states.flatten(0, 1).index_select(0, batch.from.to(device));
  const Tensor logits =
      model.logits(states).narrow(-1, 0, static_cast<std::int64_t>(tokenizer_.vocab_size()));
  const Tensor target = batch.target.unsqueeze(-1).to(device);
  const auto chosen = [&](const Tensor& all) { return all.gather(-1, target).squeeze(-1); };
  const Tensor all = at::log_softmax(logits / static_cast<double>(options_.temperature), -1);
  Logprobs result;
  result.policy = chosen(all);
  result.routers = std::move(hidden.routers);
  if (watched) {
    const at::NoGradGuard no_gradient;
    result.entropy = -(all.exp() * all).sum(-1);
    result.plain = options_.temperature == 1 ? result.policy : chosen(at::log_softmax(logits, -1));
  }
  return result;
}

void Grpo::update(std::span<Sample> samples, GrpoReport& report, Sums& sums) {
  std::array<double, 2> counts{static_cast<double>(samples.size()), 0};
  for (const Sample& sample : samples) counts[1] += static_cast<double>(sample.answer());
  options_.ranks.sum(counts);
  BatchTotals totals;
  totals.answers = counts[0];
  totals.tokens = counts[1];
  totals.longest = static_cast<double>(options_.max_tokens);

  const at::Device device = model_->options().device;
  const std::vector<const Sample*> order = teachers(samples);
  optimizer_->zero_gradients();
  double loss = 0;
  for (const auto& some : in_batches(order, options_.micro_tokens)) {
    const AnswerBatch batch = batch_of(some);
    const Logprobs own = logprobs(*model_, batch, true);
    std::vector<float> told;
    std::vector<Tensor> before;
    PolicyBatch policy;
    policy.advantages = at::empty({batch.answers}, at::kFloat);
    for (std::size_t i = 0; i < some.size(); ++i) {
      policy.advantages[static_cast<std::int64_t>(i)] = some[i]->advantage;
      told.insert(told.end(), some[i]->rollout.begin(), some[i]->rollout.end());
      if (some[i]->old.defined()) before.push_back(some[i]->old);
    }
    policy.advantages = policy.advantages.to(device);
    const Tensor rollout = at::tensor(told, at::kFloat).to(device);
    policy.logprobs = batch.spread(own.policy);
    policy.rollout = batch.spread(rollout);
    policy.mask = batch.spread(at::ones_like(rollout));
    if (!before.empty()) policy.old = batch.spread(at::cat(before));
    if (reference_) {
      const at::NoGradGuard no_gradient;
      policy.reference = batch.spread(logprobs(*reference_, batch, false).policy);
    }
    const PolicyLoss part = policy_loss(policy, options_.policy, totals);
    part.loss.backward();
    loss += part.loss.item<double>();

    const Tensor gap = (own.plain.detach() - rollout).abs();
    const auto tokens = static_cast<double>(rollout.numel());
    sums.tokens += tokens;
    sums.inputs += static_cast<double>(batch.rows.tokens.numel());
    sums.entropy += own.entropy.sum().item<double>();
    sums.gap += gap.sum().item<double>();
    sums.largest_gap = std::max(sums.largest_gap, gap.max().item<double>());
    sums.kl += part.kl;
    sums.clipped_low += part.clipped_low;
    sums.clipped_high += part.clipped_high;
    sums.loads.resize(own.routers.size());
    for (std::size_t i = 0; i < sums.loads.size(); ++i) {
      const RouterChoice& router = own.routers[i];
      sums.loads[i] = sums.loads[i].defined() ? sums.loads[i] + router.load : router.load;
      if (!batch.replay.empty()) {
        const auto choices = static_cast<double>(router.ids.numel());
        sums.choices += choices;
        sums.rerouted += choices * router.rerouted;
      }
    }
  }
  std::array<double, 2> all{loss, static_cast<double>(order.size())};
  options_.ranks.sum(all);
  if (all[1] == 0) return;
  optimizer_->reduce_gradients();
  const double norm = optimizer_->gradient_norm();
  report.gradient_norm = std::max(report.gradient_norm, norm);
  if (!std::isfinite(all[0]) || !std::isfinite(norm)) {
    report.diverged = true;
    return;
  }
  report.skipped = false;
  optimizer_->step(report.rate,
                   options_.clip > 0 && norm > options_.clip ? options_.clip / norm : 1);
}

void Grpo::remember_policy(std::span<Sample> samples) const {
  const at::NoGradGuard no_gradient;
  const std::vector<const Sample*> order = teachers(samples);
  for (const auto& some : in_batches(order, options_.micro_tokens)) {
    const Tensor policy = logprobs(*model_, batch_of(some), false).policy;
    std::int64_t first = 0;
    for (const Sample* each : some) {
      const auto count = static_cast<std::int64_t>(each->answer());
      samples[static_cast<std::size_t>(each - samples.data())].old =
          policy.narrow(0, first, count).clone();
      first += count;
    }
  }
}

void Grpo::learn(std::span<Sample> samples, GrpoReport& report) {
  report.skipped = true;  // until an update was made
  Sums sums;
  const std::size_t updates = options_.minibatches;
  if (updates > 1) remember_policy(samples);
  for (std::size_t u = 0; u < updates; ++u) {
    const std::size_t from = samples.size() * u / updates, to = samples.size() * (u + 1) / updates;
    update(samples.subspan(from, to - from), report, sums);
  }
  std::array<double, 9> all{sums.tokens,  sums.entropy,     sums.gap,
                            sums.kl,      sums.clipped_low, sums.clipped_high,
                            sums.choices, sums.rerouted,    sums.inputs};
  options_.ranks.sum(all);
  const double tokens = std::max(all[0], 1.0);
  report.entropy = all[1] / tokens;
  report.gap = all[2] / tokens;
  report.kl = all[3] / tokens;
  report.clipped_low = all[4] / tokens;
  report.clipped_high = all[5] / tokens;
  report.flop += 3 * flop_per_token() * all[8];
  report.rerouted = all[7] / std::max(all[6], 1.0);
  report.largest_gap = options_.ranks.most(sums.largest_gap);
  for (const Tensor& load : sums.loads) {
    report.largest_load = std::max(report.largest_load, (load.max() / load.mean()).item<double>());
  }
  report.largest_load = options_.ranks.most(report.largest_load);
}

}  // namespace fathom::train
