// The router, and the experts that it chooses (DeepSeekMoE, arXiv 2401.06066; arXiv 2412.19437,
// 2.1.2).
#pragma once

#include <ATen/ATen.h>

#include "config/model_config.h"
#include "train/torch/ranks.h"

namespace fathom::train {

using at::Tensor;

struct RouterChoice {
  Tensor ids;      // int64 [tokens, num_experts_per_tok]
  Tensor weights;  // F32 [tokens, num_experts_per_tok]: normalised and scaled
  Tensor load;     // F32 [n_routed_experts]: tokens that each expert got
  /// Sequence-wise balance loss without its alpha (arXiv 2412.19437, eq. 17-20): the mean over
  /// rows of sum_i f_i P_i. 1 if all experts get the same.
  Tensor balance;
  double rerouted = 0;  // share of replayed choices that the router itself would not make
};

/// x: [rows, length, hidden]; `gate`: F32 [n_routed_experts, hidden]; `bias`: F32
/// [n_routed_experts], takes part in choosing only, or undefined. `replay`: ids to use in place of
/// the router's own choice, or undefined; their weights still come from the live scores (R3,
/// arXiv 2510.11370).
RouterChoice route(const Tensor& x, const Tensor& gate, const Tensor& bias, const MoeConfig& moe,
                   const Tensor& replay = {});

/// The sum of each token's experts, times their weights. x: [tokens, hidden]; `gate_up`: F32
/// [experts, 2 * intermediate, hidden], gate's rows first; `down`: F32 [experts, hidden,
/// intermediate]. Tokens are grouped by expert, so that each expert is two products, and none is
/// dropped. `fp8`: with rounded operands (fp8.h). `ranks`: those that experts are spread over, each
/// of which has an equal part of them, in order, as `gate_up` and `down`; tokens are sent to them
/// and back, on the way back too.
Tensor mix_experts(const Tensor& x, const RouterChoice& routing, const Tensor& gate_up,
                   const Tensor& down, bool fp8 = false, const Ranks& ranks = {});

/// b_i moves by `gamma` against its load over the batch (arXiv 2408.15664).
void update_router_bias(Tensor& bias, const Tensor& load, double gamma);

}  // namespace fathom::train
