// Operations of ops.h as one pass over memory each, with gradients of their own, over the loops of
// train/row_kernels.h. For F32 and BF16 on the CPU; ops.h takes them where
// they fit.
#pragma once

#include <ATen/ATen.h>

#include <utility>

#include "config/model_config.h"

namespace fathom::train::fused {

using at::Tensor;

/// Whether these functions take x.
inline bool fits(const Tensor& x) {
  return x.is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16);
}

Tensor rms_norm(const Tensor& x, const Tensor& weight, double epsilon);
Tensor swiglu(const Tensor& gate, const Tensor& up);
Tensor rotate(const Tensor& x, const std::pair<Tensor, Tensor>& angles, RopePairing pairing,
              std::int64_t plain);

/// Causal attention. q: [rows, length, heads, dim]; k, v: [rows, length, kv_heads, dim or v_dim],
/// of which heads share each; `starts` and `prefixes` (may be undefined): int64 [rows, length], as
/// RowSight has them. Gives [rows, length, heads * v_dim].
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& starts,
                 const Tensor& prefixes, double scale);

// For experts.cpp, whose gradient calls the ways back itself. Contiguous all; no autograd.

/// [rows, 2 * size], gate first, to [rows, size].
Tensor swiglu_of_both(const Tensor& both);
/// The gradient of `both`.
Tensor swiglu_of_both_back(const Tensor& to_y, const Tensor& both);
/// Each token's sum of its experts' outputs. `place`: int64 [tokens, per_token], where they are in
/// `outputs` [places, size]; weight: F32 [tokens, per_token].
Tensor combine(const Tensor& outputs, const Tensor& place, const Tensor& weight);
/// The gradients of outputs and weight.
std::pair<Tensor, Tensor> combine_back(const Tensor& to_y, const Tensor& outputs,
                                       const Tensor& place, const Tensor& weight);

}  // namespace fathom::train::fused
