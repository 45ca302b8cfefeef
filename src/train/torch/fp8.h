// FP8 training numerics (arXiv 2412.19437, 3.3), simulated exactly: operands are rounded to E4M3
// with the scales of their tiles, products are accumulated in F32.
#pragma once

#include <ATen/ATen.h>

namespace fathom::train {

using at::Tensor;

inline constexpr std::int64_t kFp8Tile = 128;

/// Each run of 128 elements of the last dimension rounded to E4M3, scaled so that the run's largest
/// is the type's (448): activations and gradients. The result is F32. The last run may be shorter.
Tensor round_tiles(const Tensor& x);
/// The same in blocks of 128 x 128 of the last two dimensions: weights.
Tensor round_blocks(const Tensor& weight);

/// x W^T with all three products (forward, and the gradients of x and of W) of rounded operands.
/// For the weight's gradient, x and the coming gradient are rounded anew in runs of 128 tokens, as
/// the product adds over tokens there. x: [..., in], weight: [out, in]; F32 throughout.
Tensor project_fp8(const Tensor& x, const Tensor& weight);

}  // namespace fathom::train
