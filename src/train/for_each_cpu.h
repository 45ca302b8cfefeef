// How loops that the compiler vectorises are made for several instruction sets at once.
#pragma once

#include <bit>
#include <cstdint>

#include "train/row_kernels.h"

// A copy of a function for each instruction set, chosen when the program starts. Not under
// sanitizers, whose own start comes after that choice.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define FATHOM_FOR_EACH_CPU __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FATHOM_FOR_EACH_CPU
#endif
// Part of each copy, and made for its instruction set.
#define FATHOM_PART [[gnu::always_inline]] inline

namespace fathom::train {

/// e^x to 2 units in the last place, for x within +-87 (clamped): 2^n times a polynomial of what is
/// left, with coefficients of the Taylor series, which suffice for |r| <= ln 2 / 2.
FATHOM_PART float exponential(float x) {
  x = x < -87.0f ? -87.0f : x > 87.0f ? 87.0f : x;
  // Adding and taking 1.5 * 2^23 rounds to a whole number, which the lowest bits then hold.
  constexpr float kRound = 12582912.0f;
  const float shifted = x * 1.44269504f + kRound;
  const float n = shifted - kRound;
  const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const std::int32_t power = (std::bit_cast<std::int32_t>(shifted) + 127) << 23;
  return p * std::bit_cast<float>(power);
}

FATHOM_PART float get(float x) { return x; }
FATHOM_PART float get(Bf16 x) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16);
}
FATHOM_PART void put(float& to, float x) { to = x; }
FATHOM_PART void put(Bf16& to, float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t rounded = bits + 0x7FFF + (bits >> 16 & 1);
  const bool nan = (bits & 0x7FFFFFFF) > 0x7F800000;
  to.bits = static_cast<std::uint16_t>((nan ? bits | 0x400000 : rounded) >> 16);
}

}  // namespace fathom::train
