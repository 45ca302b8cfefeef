// The loops of LimitProbes over the lanes of simd_*.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cpu/limits.h"

namespace fathom::cpu {

template <class S>
struct Probes {
  using F = typename S::F;
  using I = typename S::I;
  static constexpr int L = S::kLanes;
  static constexpr std::size_t kVector = 4 * S::kLanes;

  template <unsigned N>
  static void read_streams(const std::byte* data, std::size_t bytes) {
    const std::size_t part = bytes / N;
    I seen[N];
    for (unsigned n = 0; n < N; ++n) seen[n] = S::all_words(0);
    for (std::size_t at = 0; at + 64 <= part; at += 64) {
#pragma GCC unroll 8
      for (unsigned n = 0; n < N; ++n) {
        for (std::size_t v = 0; v < 64; v += kVector) {
          seen[n] = S::bit_or(seen[n], S::words(data + n * part + at + v));
        }
      }
    }
    for (unsigned n = 0; n < N; ++n) S::keep(seen[n]);
  }

  static void read(const void* data, std::size_t bytes, unsigned streams) {
    const auto* p = static_cast<const std::byte*>(data);
    switch (streams) {
      case 1:
        return read_streams<1>(p, bytes);
      case 2:
        return read_streams<2>(p, bytes);
      case 4:
        return read_streams<4>(p, bytes);
      default:
        return read_streams<8>(p, bytes);
    }
  }

  // Ten chains hide the latency of two units of four or five cycles each.
  static constexpr int kChains = 10;

  static void fma(std::size_t rounds) {
    F x = S::all(0.999F);
    S::keep(x);
    F acc[kChains];
    for (int i = 0; i < kChains; ++i) acc[i] = S::all(1.0F);
    for (std::size_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 10
      for (int i = 0; i < kChains; ++i) acc[i] = S::fma(acc[i], x, x);
    }
    for (int i = 0; i < kChains; ++i) S::keep(acc[i]);
  }

  static void int8(std::size_t rounds) {
    I w = S::all_words(0x01020301U);
    S::keep(w);
    I acc[kChains];
    for (int i = 0; i < kChains; ++i) acc[i] = S::all_words(0);
    for (std::size_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 10
      for (int i = 0; i < kChains; ++i) acc[i] = S::add_product(acc[i], w, w);
    }
    for (int i = 0; i < kChains; ++i) S::keep(acc[i]);
  }

  static constexpr LimitProbes table() {
    return {&read, &fma, &int8, 2.0 * L * kChains, 8.0 * L * kChains};
  }
};

}  // namespace fathom::cpu
