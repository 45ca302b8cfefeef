// Operations that attention and feed-forward share, over torch tensors with autograd.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <utility>

#include "config/model_config.h"

namespace fathom::train {

using at::Tensor;

/// x / sqrt(mean(x^2) + epsilon) * weight, over the last dimension (arXiv 1910.07467). The mean and
/// the quotient are F32 whatever x is; the result has x's type.
Tensor rms_norm(const Tensor& x, const Tensor& weight, double epsilon);

/// x W^T + b. `weight`: [out, in], F32, rounded to x's type; `bias`: [out] or undefined.
Tensor project(const Tensor& x, const Tensor& weight, const Tensor& bias = {});

/// silu(gate) * up.
Tensor swiglu(const Tensor& gate, const Tensor& up);

/// Cosines and sines of every position below a limit, as the engine makes them.
class RotaryTable {
 public:
  RotaryTable() = default;
  /// Throws Error as rope_frequencies() does.
  RotaryTable(const RopeConfig& rope, std::int64_t positions, const at::Device& device);

  /// Of these positions ([rows, length] int64, on any device), to be handed to rotate(): cosines
  /// and sines, each [rows, length, dims / 2].
  std::pair<Tensor, Tensor> at(const Tensor& positions) const;
  std::int64_t size() const { return cosines_.defined() ? cosines_.size(0) : 0; }

 private:
  Tensor cosines_, sines_;  // [positions, dims / 2], F32
};

/// Turns each head's elements in pairs, but for the first `plain`. x: [rows, length, heads, dims].
Tensor rotate(const Tensor& x, const std::pair<Tensor, Tensor>& angles, RopePairing pairing,
              std::int64_t plain = 0);

/// MLA's keys of all heads: nope: [rows, length, heads, qk_nope_head_dim]; rope: [rows, length, 1,
/// qk_rope_head_dim], shared by the heads. [.., heads, nope + rope].
Tensor join_keys(const Tensor& nope, const Tensor& rope);

/// How tokens see each other: those of their document that came before.
struct Sight {
  Tensor starts;       // int64 [rows, length] on the CPU: each token's document's first
  Tensor prefixes;     // the same of the document that it goes on from, or -1; or undefined
  Tensor mask;         // [rows, 1, length, length], 0 or -infinity; undefined: all that came before
  bool fused = false;  // documents are short enough for fused::attention
};
/// `documents`: int64 [rows, length], numbers that change where another document begins; undefined:
/// a row is one. `prefixes`: as RowSight has them (train/attention_kernel.h), or undefined. `type`:
/// what is attended in, on `device`.
Sight sight_of(const Tensor& tokens, const Tensor& documents, const Tensor& prefixes,
               at::ScalarType type, const at::Device& device);

/// Causal attention, as fused::attention() has it.
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const Sight& sight,
                 double scale);

/// The same operations put together of PyTorch's, for all types and devices. What is F32
/// or BF16 on the CPU takes those of fused.h instead.
namespace plain {
Tensor rms_norm(const Tensor& x, const Tensor& weight, double epsilon);
Tensor swiglu(const Tensor& gate, const Tensor& up);
Tensor rotate(const Tensor& x, const std::pair<Tensor, Tensor>& angles, RopePairing pairing,
              std::int64_t plain = 0);
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask,
                 double scale);
}  // namespace plain

}  // namespace fathom::train
