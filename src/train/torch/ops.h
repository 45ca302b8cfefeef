// Operations that attention and feed-forward share, over torch tensors with autograd.
#pragma once

#include <ATen/ATen.h>

#include "config/model_config.h"

namespace fathom::train {

using at::Tensor;

/// x / sqrt(mean(x^2) + epsilon) * weight, over the last dimension (arXiv 1910.07467). The mean and
/// the quotient are F32 whatever x is; the result has x's type.
Tensor rms_norm(const Tensor& x, const Tensor& weight, double epsilon);

/// x W^T + b. `weight`: [out, in], F32, rounded to x's type; `bias`: [out] or undefined.
Tensor project(const Tensor& x, const Tensor& weight, const Tensor& bias = {});

/// silu(gate) * up, where `both` holds gate and up side by side: [..., 2 * intermediate].
Tensor swiglu(const Tensor& both);

/// Cosines and sines of every position below a limit, as the engine makes them.
class RotaryTable {
 public:
  RotaryTable() = default;
  /// Throws Error as rope_frequencies() does.
  RotaryTable(const RopeConfig& rope, std::int64_t positions, const at::Device& device);

  /// Of these positions ([rows, length] int64), to be handed to rotate(): cosines and sines, each
  /// [rows, length, dims / 2].
  std::pair<Tensor, Tensor> at(const Tensor& positions) const;
  std::int64_t size() const { return cosines_.defined() ? cosines_.size(0) : 0; }

 private:
  Tensor cosines_, sines_;  // [positions, dims / 2], F32
};

/// Turns each head's elements in pairs. x: [rows, length, heads, dims].
Tensor rotate(const Tensor& x, const std::pair<Tensor, Tensor>& angles, RopePairing pairing);

}  // namespace fathom::train
