// AVX2 with the 8-bit products of AVX-VNNI, which client CPUs have: only for units named
// *_avxvnni.cpp. One instruction does what takes AVX2 three, and codes of 8 bits cannot overflow
// it.
#pragma once

#include "backend/cpu/simd_avx2.h"

namespace fathom::cpu {

struct Avx2Vnni : Avx2 {
  static constexpr const char* kName = "avx2-vnni";
  static constexpr CpuLevel kLevel = CpuLevel::Avx2Vnni;
  static constexpr int kTokens = 3;  // six sums and six accumulators of sixteen registers

  /// acc plus four 8-bit products a lane, codes times signed bytes. In assembly for the reason that
  /// simd_avx512.h gives.
  static I add_product(I acc, I w, I x) {
    asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc) : "x"(w), "x"(x));
    return acc;
  }

  template <int Bits, int Zero, int First, int N, int R, int T>
  static void dot(const std::uint8_t* codes, std::size_t stride, const ActivationRecord* x, int b,
                  I* sums) {
#pragma GCC unroll 6
    for (int i = 0; i < R * T; ++i) sums[i] = offset<Zero, First, N>(x[i % T], b);
#pragma GCC unroll 8
    for (int j = First; j < First + N; ++j) {
      I w[R];
#pragma GCC unroll 2
      for (int r = 0; r < R; ++r) {
        w[r] = words(codes + static_cast<unsigned>(r) * stride +
                     4 * kGroupRows * static_cast<unsigned>(j));
      }
#pragma GCC unroll 6
      for (int t = 0; t < T; ++t) {
        const I activations = four(x[t], b, j);
#pragma GCC unroll 2
        for (int r = 0; r < R; ++r) {
          sums[r * T + t] = add_product(sums[r * T + t], w[r], activations);
        }
      }
    }
  }
  template <int Bits, int Zero, int First, int N, int T>
  static void dot(const I* w, const ActivationRecord* x, int b, I* sums) {
    static_assert(T == 1);
    I sum = offset<Zero, First, N>(*x, b);
#pragma GCC unroll 8
    for (int j = First; j < First + N; ++j) sum = add_product(sum, w[j], four(*x, b, j));
    sums[0] = sum;
  }
  template <int Bits, int Zero, int First, int N, int T>
  static void dot_halves(const I (&w)[2][8], const ActivationRecord* x, int b, I* sums) {
#pragma GCC unroll 8
    for (int i = 0; i < 2 * T; ++i) sums[i] = offset<Zero, First, N>(x[i % T], b);
#pragma GCC unroll 8
    for (int j = First; j < First + N; ++j) {
#pragma GCC unroll 4
      for (int t = 0; t < T; ++t) {
        const I activations = four(x[t], b, j);
#pragma GCC unroll 2
        for (int v = 0; v < 2; ++v)
          sums[v * T + t] = add_product(sums[v * T + t], w[v][j], activations);
      }
    }
  }
};

}  // namespace fathom::cpu
