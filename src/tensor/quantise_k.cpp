// Encoders of the K-quants: super-blocks of 256 whose sub-blocks' scales are quantised themselves.
//
// Each goes the same way: fit every sub-block alone (block_fit.h), choose the super-block's F16
// scale so that the sub-blocks' scales round well, then reconsider each sub-block's integer scale
// (and minimum) with the data in view, and write the codes that the rounded scales ask for.
//
// The error that is made small is weighted. Without an importance matrix, large weights count more
// (linearly or by the square, by type, close to what the ggml project found best for perplexity);
// with one, see weigh_by_importance().
#include <algorithm>
#include <array>
#include <cmath>

#include "tensor/block_fit.h"
#include "tensor/encode.h"

namespace fathom::encode {
namespace {

/// The super-block's data, and what an error in each element costs.
struct Input {
  alignas(16) float x[kSuperBlock];
  alignas(16) float w[kSuperBlock];
};

/// Error weights without an importance matrix. `spread` is the root mean square of the 32 elements
/// around x, so that small elements are not free to miss.
enum class Plain {
  Magnitude,           // |x|
  MagnitudeAndSpread,  // |x| + spread
  SquareAndSpread,     // x^2 + spread^2
};

/// False if all elements are so small that every scale would vanish in F16: the block is zero.
bool weigh(const float* x, const float* importance, Plain plain, DType dtype, Input& in) {
  float largest = 0;
  for (std::size_t i = 0; i < kSuperBlock; ++i) {
    in.x[i] = x[i];
    largest = std::max(largest, std::fabs(x[i]));
  }
  require_codable(largest, dtype);
  if (largest < 1e-12F) return false;  // every scale would be under 2^-25, 0 as F16
  if (importance != nullptr) {
    weigh_by_importance(x, importance, in.w);
    return true;
  }
  double raw[kSuperBlock];
  for (std::size_t b = 0; b < kSuperBlock; b += 32) {
    double squares = 0;
    for (std::size_t i = b; i < b + 32; ++i) squares += static_cast<double>(x[i]) * x[i];
    const double spread = plain == Plain::Magnitude ? 0 : std::sqrt(squares / 32);
    for (std::size_t i = b; i < b + 32; ++i) {
      const double v = std::fabs(x[i]);
      raw[i] = plain == Plain::SquareAndSpread ? v * v + spread * spread : v + spread;
    }
  }
  normalise(raw, in.w);
  return true;
}

float weight_of(const float* w, std::size_t n) {
  float total = 0;
  for (std::size_t i = 0; i < n; ++i) total += w[i];
  return total;
}

constexpr fit::Grid kScaleGrid{-0.9F, 0.1F, 19};

// ---- scale and minimum: Q2_K, Q4_K, Q5_K ---------------------------------------------------

/// What a super-block of kSubs sub-blocks with scales and minimums is coded as.
template <std::size_t kSubs>
struct AffineCodes {
  std::uint16_t d = 0;
  std::uint16_t dmin = 0;
  std::array<std::uint8_t, kSubs> scale{};
  std::array<std::uint8_t, kSubs> min{};
  std::array<std::uint8_t, kSuperBlock> q{};
};

/// F16 scale for non-negative `values`, to be coded 0..highest.
template <std::size_t kSubs>
std::uint16_t scale_of_scales(const float* values, const float* weights, float highest,
                              DType dtype) {
  return scale_bits(fit::symmetric<kSubs>(values, weights, 0, highest, kScaleGrid, false), dtype);
}

template <std::size_t kSubs>
AffineCodes<kSubs> encode_affine(const Input& in, float highest_q, float highest_scale,
                                 fit::Grid grid, DType dtype) {
  constexpr std::size_t kSize = kSuperBlock / kSubs;
  alignas(16) float scales[kSubs], mins[kSubs], weights[kSubs];
  for (std::size_t s = 0; s < kSubs; ++s) {
    const fit::Affine best =
        fit::affine<kSize>(in.x + s * kSize, in.w + s * kSize, highest_q, grid, true);
    scales[s] = best.scale;
    mins[s] = -best.min;
    weights[s] = weight_of(in.w + s * kSize, kSize);
  }
  AffineCodes<kSubs> out;
  out.d = scale_of_scales<kSubs>(scales, weights, highest_scale, dtype);
  out.dmin = scale_of_scales<kSubs>(mins, weights, highest_scale, dtype);
  const float d = f16_to_f32(out.d);
  const float dmin = f16_to_f32(out.dmin);
  for (std::size_t s = 0; s < kSubs; ++s) {
    const float* x = in.x + s * kSize;
    const float* w = in.w + s * kSize;
    const float middle_scale = d > 0 ? fit::nearest(scales[s] / d) : 0;
    const float middle_min = dmin > 0 ? fit::nearest(mins[s] / dmin) : 0;
    // Rounding the pair one by one is not the best pair: look at the neighbours.
    float best_error = INFINITY;
    float scale = 0, min = 0;
    for (float l = middle_scale - 1; l <= middle_scale + 1; ++l) {
      for (float m = middle_min - 1; m <= middle_min + 1; ++m) {
        if (l < 0 || l > highest_scale || m < 0 || m > highest_scale) continue;
        const float error = fit::error<kSize>(x, w, d * l, -(dmin * m), 0, highest_q);
        if (error < best_error) {
          best_error = error;
          scale = l;
          min = m;
        }
      }
    }
    out.scale[s] = static_cast<std::uint8_t>(scale);
    out.min[s] = static_cast<std::uint8_t>(min);
    fit::write_codes<kSize>(x, d * scale, -(dmin * min), 0, highest_q, out.q.data() + s * kSize);
  }
  return out;
}

// ---- scale only: Q3_K, Q6_K ----------------------------------------------------------------

struct SymmetricCodes {
  std::uint16_t d = 0;
  std::array<std::int8_t, 16> scale{};
  std::array<std::uint8_t, kSuperBlock> q{};  // code - lowest
};

/// Codes -reach..reach - 1, signed scales -scale_reach..scale_reach - 1.
SymmetricCodes encode_symmetric(const Input& in, float reach, float scale_reach, bool both_signs,
                                DType dtype) {
  constexpr std::size_t kSize = 16;
  alignas(16) float scales[16], weights[16];
  for (std::size_t s = 0; s < 16; ++s) {
    scales[s] = fit::symmetric<kSize>(in.x + s * kSize, in.w + s * kSize, -reach, reach - 1,
                                      kScaleGrid, both_signs);
    weights[s] = weight_of(in.w + s * kSize, kSize);
  }
  SymmetricCodes out;
  out.d = scale_bits(
      fit::symmetric<16>(scales, weights, -scale_reach, scale_reach - 1, kScaleGrid, false), dtype);
  const float d = f16_to_f32(out.d);
  for (std::size_t s = 0; s < 16; ++s) {
    const float* x = in.x + s * kSize;
    const float* w = in.w + s * kSize;
    const float middle = d != 0 ? fit::nearest(scales[s] / d) : 0;
    float best_error = INFINITY;
    float scale = 0;
    for (float l = middle - 1; l <= middle + 1; ++l) {
      if (l < -scale_reach || l > scale_reach - 1) continue;
      const float error = fit::error<kSize>(x, w, d * l, 0, -reach, reach - 1);
      if (error < best_error) {
        best_error = error;
        scale = l;
      }
    }
    out.scale[s] = static_cast<std::int8_t>(scale);
    fit::write_codes<kSize>(x, d * scale, 0, -reach, reach - 1, out.q.data() + s * kSize);
  }
  return out;
}

// ---- packing -------------------------------------------------------------------------------

/// Four codes of two bits in each of 64 bytes, as Q2_K, Q3_K and Q6_K lay them: blocks.h.
void pack_pairs(const std::uint8_t* q, unsigned shift, std::uint8_t (&out)[64]) {
  for (std::size_t b = 0; b < 64; ++b) {
    const std::uint8_t* first = q + 128 * (b / 32) + b % 32;
    unsigned byte = 0;
    for (unsigned j = 0; j < 4; ++j) byte |= ((first[32 * j] >> shift) & 3U) << (2 * j);
    out[b] = static_cast<std::uint8_t>(byte);
  }
}

/// Low nibbles of 32 elements, then of the next 32, in 32 bytes, as Q4_K and Q5_K lay them.
void pack_nibbles(const std::uint8_t* q, std::uint8_t (&out)[128]) {
  for (std::size_t b = 0; b < 128; ++b) {
    const std::uint8_t* first = q + 64 * (b / 32) + b % 32;
    out[b] = static_cast<std::uint8_t>((first[0] & 15U) | ((first[32] & 15U) << 4));
  }
}

/// Bit `bit` of element i in bit i / 32 of byte i % 32, as Q3_K and Q5_K lay their highest bits.
void pack_high_bits(const std::uint8_t* q, unsigned bit, std::uint8_t (&out)[32]) {
  for (std::size_t b = 0; b < 32; ++b) {
    unsigned byte = 0;
    for (unsigned j = 0; j < 8; ++j) byte |= ((q[32 * j + b] >> bit) & 1U) << j;
    out[b] = static_cast<std::uint8_t>(byte);
  }
}

}  // namespace

void block(const float* x, const float* importance, BlockQ2_K& out) {
  Input in;
  AffineCodes<16> codes;
  if (weigh(x, importance, Plain::Magnitude, DType::Q2_K, in)) {
    codes = encode_affine<16>(in, 3, 15, {-0.9F, 0.1F, 19}, DType::Q2_K);
  }
  out.d = codes.d;
  out.dmin = codes.dmin;
  for (std::size_t s = 0; s < 16; ++s) {
    out.scales[s] = static_cast<std::uint8_t>(codes.scale[s] | (codes.min[s] << 4));
  }
  pack_pairs(codes.q.data(), 0, out.q);
}

void block(const float* x, const float* importance, BlockQ3_K& out) {
  Input in;
  SymmetricCodes codes;
  codes.q.fill(4);  // zero
  if (weigh(x, importance, Plain::SquareAndSpread, DType::Q3_K, in)) {
    codes = encode_symmetric(in, 4, 32, true, DType::Q3_K);
  }
  out.d = codes.d;
  pack_scales_q3_k(codes.scale, out.scales);
  pack_pairs(codes.q.data(), 0, out.q);
  pack_high_bits(codes.q.data(), 2, out.hmask);
}

void block(const float* x, const float* importance, BlockQ4_K& out) {
  Input in;
  AffineCodes<8> codes;
  if (weigh(x, importance, Plain::MagnitudeAndSpread, DType::Q4_K, in)) {
    codes = encode_affine<8>(in, 15, 63, {-1.0F, 0.1F, 21}, DType::Q4_K);
  }
  out.d = codes.d;
  out.dmin = codes.dmin;
  pack_scales_q4_k({codes.scale, codes.min}, out.scales);
  pack_nibbles(codes.q.data(), out.q);
}

void block(const float* x, const float* importance, BlockQ5_K& out) {
  Input in;
  AffineCodes<8> codes;
  if (weigh(x, importance, Plain::MagnitudeAndSpread, DType::Q5_K, in)) {
    codes = encode_affine<8>(in, 31, 63, {-0.9F, 0.1F, 19}, DType::Q5_K);
  }
  out.d = codes.d;
  out.dmin = codes.dmin;
  pack_scales_q4_k({codes.scale, codes.min}, out.scales);
  pack_nibbles(codes.q.data(), out.q);
  pack_high_bits(codes.q.data(), 4, out.qh);
}

void block(const float* x, const float* importance, BlockQ6_K& out) {
  Input in;
  SymmetricCodes codes;
  codes.q.fill(32);  // zero
  if (weigh(x, importance, Plain::SquareAndSpread, DType::Q6_K, in)) {
    codes = encode_symmetric(in, 32, 128, false, DType::Q6_K);
  }
  out.d = codes.d;
  std::copy(codes.scale.begin(), codes.scale.end(), out.scales);
  for (std::size_t b = 0; b < 128; ++b) {
    const std::uint8_t* first = codes.q.data() + 128 * (b / 64) + b % 64;
    out.ql[b] = static_cast<std::uint8_t>((first[0] & 15U) | ((first[64] & 15U) << 4));
  }
  pack_pairs(codes.q.data(), 4, out.qh);
}

}  // namespace fathom::encode
