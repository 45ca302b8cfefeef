// Scalar conversions between F32 and the narrow floating-point formats: IEEE binary16 (F16),
// bfloat16 (BF16) and OCP FP8 E4M3 ("e4m3fn": no infinities, one NaN per sign).
//
// Widening is exact. Narrowing rounds to nearest, ties to even; NaN stays NaN (quiet, sign kept).
// Plain integer code that any x86-64 runs, and nothing here computes on an F32 subnormal, so that
// results do not depend on flush-to-zero modes. Kernels with F16C have instructions of their own
// and these as their oracle.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace fathom {

constexpr float f16_to_f32(std::uint16_t half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000U) << 16;
  const std::uint32_t exponent = (half >> 10) & 0x1FU;
  const std::uint32_t mantissa = half & 0x3FFU;
  if (exponent == 0) {
    // Zero and subnormals count in steps of 2^-24; the product is exact.
    const float magnitude = static_cast<float>(static_cast<std::int32_t>(mantissa)) * 0x1p-24F;
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(magnitude));
  }
  if (exponent == 31) {
    // As the hardware does, a NaN is made quiet.
    const std::uint32_t quiet = mantissa != 0 ? 0x400000U : 0U;
    return std::bit_cast<float>(sign | 0x7F800000U | quiet | (mantissa << 13));
  }
  return std::bit_cast<float>(sign | ((exponent + 127 - 15) << 23) | (mantissa << 13));
}

constexpr std::uint16_t f32_to_f16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000U);
  const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
  std::uint32_t half = 0;
  if (magnitude > 0x7F800000U) {
    half = 0x7E00U | ((magnitude >> 13) & 0x3FFU);
  } else if (magnitude >= 0x47800000U) {  // 2^16 and above, infinity included
    half = 0x7C00U;
  } else if (magnitude >= 0x38800000U) {  // 2^-14: the smallest normal F16
    // Rebias, then add just under half a unit, plus the kept part's last bit: ties go to even. The
    // carry out of the mantissa is the next exponent, 65520 and above thus become infinity.
    half = (magnitude - (112U << 23) + 0xFFFU + ((magnitude >> 13) & 1U)) >> 13;
  } else {
    // One unit of F32 in [0.5, 1) is 2^-24, a unit of F16's subnormals: the addition rounds.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5F;
    half = std::bit_cast<std::uint32_t>(shifted) - std::bit_cast<std::uint32_t>(0.5F);
  }
  return static_cast<std::uint16_t>(sign | half);
}

constexpr float bf16_to_f32(std::uint16_t brain) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(brain) << 16);
}

constexpr std::uint16_t f32_to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return static_cast<std::uint16_t>((bits >> 16) | 0x40U);
  return static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}

namespace detail {
constexpr float decode_e4m3(std::uint8_t code) {
  const std::uint32_t sign = static_cast<std::uint32_t>(code & 0x80U) << 24;
  const std::uint32_t exponent = (code >> 3) & 0xFU;
  const std::uint32_t mantissa = code & 7U;
  if (exponent == 15 && mantissa == 7) return std::bit_cast<float>(sign | 0x7FC00000U);
  if (exponent == 0) {
    const float magnitude = static_cast<float>(static_cast<std::int32_t>(mantissa)) * 0x1p-9F;
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(magnitude));
  }
  return std::bit_cast<float>(sign | ((exponent + 127 - 7) << 23) | (mantissa << 20));
}

constexpr std::array<float, 256> make_e4m3_table() {
  std::array<float, 256> table{};
  for (std::size_t code = 0; code < table.size(); ++code) {
    table[code] = decode_e4m3(static_cast<std::uint8_t>(code));
  }
  return table;
}
}  // namespace detail

/// Every E4M3 code's value; 1 KiB, so that it stays in the first cache.
inline constexpr std::array<float, 256> kE4M3ToF32 = detail::make_e4m3_table();

/// Largest finite magnitude is 448, the smallest above zero 2^-9. 0x7f and 0xff are NaN.
constexpr float e4m3_to_f32(std::uint8_t code) { return kE4M3ToF32[code]; }

/// Saturates: magnitudes above 448, infinity included, become 448, as in PyTorch 2.13 (older ones
/// made them NaN; OCP's OFP8 specification allows either). Scale first.
constexpr std::uint8_t f32_to_e4m3(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint8_t>((bits >> 24) & 0x80U);
  const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
  std::uint32_t code = 0;
  if (magnitude > 0x7F800000U) {
    code = 0x7FU;
  } else if (magnitude >= 0x43E00000U) {  // 448
    code = 0x7EU;
  } else if (magnitude >= 0x3C800000U) {  // 2^-6: the smallest normal E4M3
    // As in F16: rebias, round with ties to even, let the mantissa's carry raise the exponent.
    code = (magnitude - (120U << 23) + 0x7FFFFU + ((magnitude >> 20) & 1U)) >> 20;
  } else {
    // One unit of F32 in [2^14, 2^15) is 2^-9, a unit of E4M3's subnormals.
    const float shifted = std::bit_cast<float>(magnitude) + 0x1p14F;
    code = std::bit_cast<std::uint32_t>(shifted) - std::bit_cast<std::uint32_t>(0x1p14F);
  }
  return static_cast<std::uint8_t>(sign | code);
}

}  // namespace fathom
