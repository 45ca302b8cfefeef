// The loss of group relative policy optimisation and its later variants, over tensors of log-
// probabilities: no model, no data.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

namespace fathom::train {

using at::Tensor;

/// Over what the sum of tokens' losses is divided.
enum class LossMean {
  Sequence,  // each answer's own length, then the answers (GRPO, arXiv 2402.03300)
  Token,     // all tokens of the batch (DAPO, arXiv 2503.14476, 3.3)
  Constant   // the answers times the longest allowed (Dr. GRPO, arXiv 2503.20783)
};

struct PolicyOptions {
  double clip_low = 0.2, clip_high = 0.2;  // DAPO: 0.2 and 0.28; GSPO: 3e-4 and 4e-4
  LossMean mean = LossMean::Sequence;
  bool divide_by_deviation = true;  // of a group's rewards; Dr. GRPO: false
  bool sequence_ratio = false;      // GSPO (arXiv 2507.18071): one ratio for an answer
  bool keep_gradient = false;       // CISPO (arXiv 2506.13585): the clipped ratio is a weight only
  double truncated_weight = 0;      // caps pi_old / pi_rollout as a weight (TIS); 0: no weight
  double kl = 0;                    // of the divergence from the reference, estimator k3
};

/// Rewards of a group to advantages: (r - mean) / deviation, 0 for all if they are equal.
std::vector<double> advantages_of(const std::vector<double>& rewards, bool divide_by_deviation);

/// Answers side by side, padded at their ends. [answers, length] unless said.
struct PolicyBatch {
  Tensor logprobs;    // of the policy that learns: the one with a gradient
  Tensor old;         // of the policy before this batch's updates; undefined: logprobs, detached
  Tensor rollout;     // of the engine; wanted for truncated_weight
  Tensor reference;   // wanted for kl
  Tensor mask;        // F32: 1 where there is a token of an answer
  Tensor advantages;  // F32 [answers]
};

/// What the whole batch has, of which a PolicyBatch may be a part.
struct BatchTotals {
  double answers = 0, tokens = 0, longest = 0;  // `longest`: max_tokens, for LossMean::Constant
};

struct PolicyLoss {
  Tensor loss;  // a part of the batch's: parts add up
  // Sums over this part's tokens, to be divided by the batch's.
  double kl = 0, clipped_low = 0, clipped_high = 0;
};

PolicyLoss policy_loss(const PolicyBatch& batch, const PolicyOptions& options,
                       const BatchTotals& totals);

}  // namespace fathom::train
