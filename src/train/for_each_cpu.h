// How loops that the compiler vectorises are made for several instruction sets at once.
#pragma once

#include <bit>
#include <cstdint>

#include "base/fast_exp.h"
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
