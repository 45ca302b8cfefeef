// What the encoders of all block types share, internal to src/tensor: F16 scales, error weights,
// and one encoder a type.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "base/error.h"
#include "tensor/blocks.h"
#include "tensor/half.h"

namespace fathom::encode {

/// `scale` as F16; throws if it is too large, which would turn the whole block into NaN.
inline std::uint16_t scale_bits(float scale, DType dtype) {
  const std::uint16_t bits = f32_to_f16(scale);
  require(
      (bits & 0x7C00U) != 0x7C00U, ErrorCode::InvalidArgument,
      "{} cannot hold a block whose scale is {}: scales are F16, at most 65504; weights so large "
      "need F32 or BF16",
      to_string(dtype), scale);
  return bits;
}

/// Refuses values far above what F16 scales reach, lest sums of squares overflow in the searches.
inline void require_codable(float largest, DType dtype) {
  require(largest < 1e9F, ErrorCode::InvalidArgument,
          "{} cannot hold a block with a value of magnitude {}: its scales are F16, at most 65504; "
          "weights so large need F32 or BF16",
          to_string(dtype), largest);
}

/// Only the ratios of error weights matter. Makes the largest 1, which keeps sums far from F32's
/// ends; if none is above zero, all count the same.
template <std::size_t N>
void normalise(const double (&raw)[N], float (&w)[N]) {
  const double heaviest = *std::max_element(std::begin(raw), std::end(raw));
  for (std::size_t i = 0; i < N; ++i) {
    w[i] = heaviest > 0 ? static_cast<float>(raw[i] / heaviest) : 1.0F;
  }
}

/// What an error in each element costs, given its column's importance (finite, >= 0): larger
/// weights count more, but small ones not nothing. The form is the ggml project's.
template <std::size_t N>
void weigh_by_importance(const float* x, const float* importance, float (&w)[N]) {
  double squares = 0;
  for (std::size_t i = 0; i < N; ++i) squares += static_cast<double>(x[i]) * x[i];
  double raw[N];
  for (std::size_t i = 0; i < N; ++i) {
    raw[i] = importance[i] * std::sqrt(squares / N + static_cast<double>(x[i]) * x[i]);
  }
  normalise(raw, w);
}

// One block each: x[32] or x[256], finite; `importance` is null or as long.
void block(const float* x, const float* importance, BlockQ8_0& out);
void block(const float* x, const float* importance, BlockQ4_0& out);
void block(const float* x, const float* importance, BlockQ4_1& out);
void block(const float* x, const float* importance, BlockQ5_0& out);
void block(const float* x, const float* importance, BlockQ5_1& out);
void block(const float* x, const float* importance, BlockQ2_K& out);
void block(const float* x, const float* importance, BlockQ3_K& out);
void block(const float* x, const float* importance, BlockQ4_K& out);
void block(const float* x, const float* importance, BlockQ5_K& out);
void block(const float* x, const float* importance, BlockQ6_K& out);
void block(const float* x, const float* importance, BlockIQ1_S& out);
void block(const float* x, const float* importance, BlockIQ1_M& out);
void block(const float* x, const float* importance, BlockIQ2_XXS& out);
void block(const float* x, const float* importance, BlockIQ2_XS& out);
void block(const float* x, const float* importance, BlockIQ2_S& out);
void block(const float* x, const float* importance, BlockIQ3_XXS& out);
void block(const float* x, const float* importance, BlockIQ3_S& out);
void block(const float* x, const float* importance, BlockIQ4_NL& out);
void block(const float* x, const float* importance, BlockIQ4_XS& out);

}  // namespace fathom::encode
