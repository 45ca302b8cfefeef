// Encoders of the blocks of 32: Q8_0, Q4_0, Q4_1, Q5_0, Q5_1.
//
// Without importance weights they are coded by ggml's plain rule, the same bytes as the `gguf`
// package's: the scale that spans the block, then round. With them, by search (block_fit.h).
#include <algorithm>
#include <cmath>
#include <cstring>

#include "tensor/block_fit.h"
#include "tensor/encode.h"

namespace fathom::encode {
namespace {

constexpr fit::Grid kGrid{-0.9F, 0.1F, 19};

/// 1 / d, or 0 where a block is too small to have an inverse: its scale is 0 as F16 anyway.
float inverse_of(float d) {
  const float inverse = d != 0 ? 1 / d : 0.0F;
  return std::isfinite(inverse) ? inverse : 0.0F;
}

/// The first element of largest magnitude, with its sign (that of a zero too, as in gguf's argmax).
float extreme(const float* x) {
  float best = x[0];
  for (std::size_t i = 1; i < kBlock; ++i) {
    if (std::fabs(x[i]) > std::fabs(best)) best = x[i];
  }
  return best;
}

/// q[i] = min(trunc((x[i] - min) * inverse + offset), highest); never negative by construction.
void round_up_from_half(const float* x, float min, float inverse, float offset, int highest,
                        std::uint8_t* q) {
  for (std::size_t i = 0; i < kBlock; ++i) {
    const int code = static_cast<int>((x[i] - min) * inverse + offset);
    q[i] = static_cast<std::uint8_t>(std::min(code, highest));
  }
}

void pack_nibbles(const std::uint8_t* q, std::uint8_t (&out)[kBlock / 2]) {
  for (std::size_t i = 0; i < kBlock / 2; ++i) {
    out[i] = static_cast<std::uint8_t>((q[i] & 15U) | ((q[i + 16] & 15U) << 4));
  }
}

void pack_fifth_bits(const std::uint8_t* q, std::uint8_t (&out)[4]) {
  std::uint32_t bits = 0;
  for (std::size_t i = 0; i < kBlock; ++i) bits |= static_cast<std::uint32_t>(q[i] >> 4) << i;
  std::memcpy(out, &bits, sizeof(bits));
}

/// Codes 0..2*reach-1 of Q4_0 (reach 8) and Q5_0 (reach 16). Returns the scale's bits.
std::uint16_t symmetric(const float* x, const float* importance, int reach, DType dtype,
                        std::uint8_t* q) {
  const auto r = static_cast<float>(reach);
  if (importance != nullptr) {
    float w[kBlock];
    require_codable(std::fabs(extreme(x)), dtype);
    weigh_by_importance(x, importance, w);
    const std::uint16_t d =
        scale_bits(fit::symmetric<kBlock>(x, w, -r, r - 1, kGrid, false), dtype);
    fit::write_codes<kBlock>(x, f16_to_f32(d), 0, -r, r - 1, q);
    return d;
  }
  const float d = extreme(x) / -r;
  const std::uint16_t bits = scale_bits(d, dtype);
  round_up_from_half(x, 0, inverse_of(d), r + 0.5F, 2 * reach - 1, q);
  return bits;
}

struct AffineBits {
  std::uint16_t d, m;
};

/// Codes 0..highest of Q4_1 and Q5_1.
AffineBits affine(const float* x, const float* importance, int highest, DType dtype,
                  std::uint8_t* q) {
  const auto top = static_cast<float>(highest);
  if (importance != nullptr) {
    float w[kBlock];
    require_codable(std::fabs(extreme(x)), dtype);
    weigh_by_importance(x, importance, w);
    const fit::Affine best = fit::affine<kBlock>(x, w, top, kGrid, false);
    const AffineBits bits{scale_bits(best.scale, dtype), scale_bits(best.min, dtype)};
    fit::write_codes<kBlock>(x, f16_to_f32(bits.d), f16_to_f32(bits.m), 0, top, q);
    return bits;
  }
  const auto [min, max] = std::minmax_element(x, x + kBlock);
  const float d = (*max - *min) / top;
  const AffineBits bits{scale_bits(d, dtype), scale_bits(*min, dtype)};
  round_up_from_half(x, *min, inverse_of(d), 0.5F, highest, q);
  return bits;
}

}  // namespace

void block(const float* x, const float* /*importance*/, BlockQ8_0& out) {
  const float d = std::fabs(extreme(x)) / 127;
  out.d = scale_bits(d, DType::Q8_0);
  const float inverse = inverse_of(d);
  for (std::size_t i = 0; i < kBlock; ++i) {
    // Halves away from zero, as roundf does, without its call into libm.
    const float v = x[i] * inverse;
    const auto whole = static_cast<int>(v);
    const float rest = v - static_cast<float>(whole);
    out.q[i] = static_cast<std::int8_t>(whole + (rest >= 0.5F ? 1 : 0) - (rest <= -0.5F ? 1 : 0));
  }
}

void block(const float* x, const float* importance, BlockQ4_0& out) {
  std::uint8_t q[kBlock];
  out.d = symmetric(x, importance, 8, DType::Q4_0, q);
  pack_nibbles(q, out.q);
}

void block(const float* x, const float* importance, BlockQ4_1& out) {
  std::uint8_t q[kBlock];
  const AffineBits bits = affine(x, importance, 15, DType::Q4_1, q);
  out.d = bits.d;
  out.m = bits.m;
  pack_nibbles(q, out.q);
}

void block(const float* x, const float* importance, BlockQ5_0& out) {
  std::uint8_t q[kBlock];
  out.d = symmetric(x, importance, 16, DType::Q5_0, q);
  pack_nibbles(q, out.q);
  pack_fifth_bits(q, out.qh);
}

void block(const float* x, const float* importance, BlockQ5_1& out) {
  std::uint8_t q[kBlock];
  const AffineBits bits = affine(x, importance, 31, DType::Q5_1, q);
  out.d = bits.d;
  out.m = bits.m;
  pack_nibbles(q, out.q);
  pack_fifth_bits(q, out.qh);
}

}  // namespace fathom::encode
