#include "train/torch/policy_loss.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace fathom::train {
namespace {

/// exp() of more than this says nothing but that something is wrong, and would be infinite soon.
constexpr double kMostLog = 20;

double sum(const Tensor& values, const Tensor& mask) {
  return (values * mask).sum().item<double>();
}

/// r - log r - 1 with r = reference / policy: unbiased, never negative (J. Schulman 2020, k3).
Tensor divergence(const Tensor& logprobs, const Tensor& reference) {
  const Tensor log_ratio = (reference - logprobs).clamp(-kMostLog, kMostLog);
  return at::exp(log_ratio) - log_ratio - 1;
}

Tensor divided(const Tensor& losses, const Tensor& mask, LossMean mean, const BatchTotals& totals) {
  switch (mean) {
    case LossMean::Sequence:
      return ((losses * mask).sum(-1) / mask.sum(-1).clamp_min(1)).sum() / totals.answers;
    case LossMean::Token:
      return (losses * mask).sum() / totals.tokens;
    case LossMean::Constant:
      return (losses * mask).sum() / (totals.answers * totals.longest);
  }
  fail(ErrorCode::Internal, "no such mean");
}

}  // namespace

std::vector<double> advantages_of(const std::vector<double>& rewards, bool divide_by_deviation) {
  const auto n = static_cast<double>(rewards.size());
  double mean = 0, squares = 0;
  for (const double r : rewards) mean += r / n;
  for (const double r : rewards) squares += (r - mean) * (r - mean) / n;
  const double deviation = std::sqrt(squares);
  std::vector<double> advantages;
  for (const double r : rewards) {
    if (deviation < 1e-9) {
      advantages.push_back(0);
    } else {
      advantages.push_back(divide_by_deviation ? (r - mean) / deviation : r - mean);
    }
  }
  return advantages;
}

PolicyLoss policy_loss(const PolicyBatch& batch, const PolicyOptions& options,
                       const BatchTotals& totals) {
  const Tensor old = batch.old.defined() ? batch.old : batch.logprobs.detach();
  const Tensor advantage = batch.advantages.unsqueeze(-1);
  Tensor log_ratio = batch.logprobs - old;
  if (options.sequence_ratio) {
    const Tensor mean =
        (log_ratio * batch.mask).sum(-1, true) / batch.mask.sum(-1, true).clamp_min(1);
    log_ratio = mean.expand_as(batch.logprobs);
  }
  const Tensor ratio = at::exp(log_ratio.clamp(-kMostLog, kMostLog));
  const Tensor clipped = ratio.clamp(1 - options.clip_low, 1 + options.clip_high);

  Tensor gain;
  if (options.keep_gradient) {
    gain = clipped.detach() * advantage * batch.logprobs;
  } else {
    gain = at::minimum(ratio * advantage, clipped * advantage);
  }
  if (options.truncated_weight > 0) {
    require(batch.rollout.defined(), ErrorCode::Internal,
            "the rollout's probabilities are missing");
    gain = gain * at::exp((old - batch.rollout).detach().clamp(-kMostLog, kMostLog))
                      .clamp_max(options.truncated_weight);
  }
  PolicyLoss result;
  Tensor losses = -gain;
  if (options.kl > 0) {
    require(batch.reference.defined(), ErrorCode::Internal, "the reference is missing");
    const Tensor kl = divergence(batch.logprobs, batch.reference);
    losses = losses + options.kl * kl;
    result.kl = sum(kl.detach(), batch.mask);
  }
  result.loss = divided(losses, batch.mask, options.mean, totals);
  const Tensor plain = ratio.detach();
  // Clipped is what has no gradient: only where the clip is on the side of the advantage.
  const Tensor low = (plain < 1 - options.clip_low) * (advantage < 0);
  const Tensor high = (plain > 1 + options.clip_high) * (advantage > 0);
  result.clipped_low = sum(low.to(at::kFloat), batch.mask);
  result.clipped_high = sum(high.to(at::kFloat), batch.mask);
  return result;
}

}  // namespace fathom::train
