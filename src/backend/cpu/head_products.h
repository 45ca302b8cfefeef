// Products of many small weights, each with activations of its own, in one parallel pass: what
// latent attention does by head before and after it attends.
#pragma once

#include <cstddef>
#include <span>

#include "backend/cpu/matmul.h"

namespace fathom::cpu {

/// y[t, o] = sum_i x[t, i] * weight[o, i]
struct HeadProduct {
  const PackedMatrix* weight = nullptr;
  const float* x = nullptr;  // [tokens, in_features], rows x_stride floats apart
  std::size_t x_stride = 0;
  float* y = nullptr;  // [tokens, out_features], rows y_stride floats apart
  std::size_t y_stride = 0;
};

/// Bit for bit what matmul() of each would give, without the pause between them.
void matmul_heads(ThreadPool& pool, std::size_t tokens, std::span<const HeadProduct> heads);

}  // namespace fathom::cpu
