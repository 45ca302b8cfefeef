// From the planes and headers of packed_layout.h to codes and scales, over the lanes of simd_*.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cpu/lattice_simd.h"
#include "backend/cpu/packed_layout.h"
#include "tensor/dtype.h"

namespace fathom::cpu {

template <class S>
struct CodeKernels {
  using F = typename S::F;
  using I = typename S::I;
  static constexpr int L = S::kLanes;
  static constexpr int kParts = 16 / L;  // vectors that make sixteen lanes

  template <int N>
  static I shift(I x) {
    if constexpr (N > 0) {
      return S::left(x, N);
    } else if constexpr (N < 0) {
      return S::right(x, -N);
    } else {
      return x;
    }
  }

  /// Codes of sub-tile s of a tile, for the rows from `row` on.
  template <DType D>
  static void tile_codes(const std::byte* tile, int s, int row, I* w) {
    if constexpr (is_lattice(D)) {
      LatticeKernels<S>::template codes<D>(tile, s, row, w);
    } else {
      constexpr PackedFormat f = packed_format(D);
      constexpr std::size_t header_bytes = f.header_bytes;
      constexpr std::size_t sub_bytes = f.sub_bytes();
      codes<static_cast<int>(sub_bytes / 64)>(
          tile + header_bytes + static_cast<std::size_t>(s) * sub_bytes + 4 * row, w);
      if constexpr (D == DType::IQ4_NL || D == DType::IQ4_XS) {
        for (int j = 0; j < 8; ++j) w[j] = S::lookup(kIq4Codes.data(), w[j]);
      }
    }
  }

  /// Codes of 32 features and this part's rows; p is the sub-tile, offset to the part.
  template <int Bits>
  static void codes(const std::byte* p, I* w) {
    const I nibble = S::all_words(0x0F0F0F0FU);
    if constexpr (Bits == 8) {
      for (int j = 0; j < 8; ++j) w[j] = S::words(p + 64 * j);
    } else if constexpr (Bits >= 4) {
      for (int j = 0; j < 4; ++j) {
        const I pair = S::words(p + 64 * j);
        w[j] = S::bit_and(pair, nibble);
        w[j + 4] = S::bit_and(S::right(pair, 4), nibble);
      }
      if constexpr (Bits == 5) one_bit<4>(S::words(p + 256), w);
      if constexpr (Bits == 6) {
        const I mask = S::all_words(0x30303030U);
        for (int half = 0; half < 2; ++half) {
          const I h = S::words(p + 256 + 64 * half);
          I* to = w + 4 * half;
          to[0] = S::bit_or(to[0], S::bit_and(shift<4>(h), mask));
          to[1] = S::bit_or(to[1], S::bit_and(shift<2>(h), mask));
          to[2] = S::bit_or(to[2], S::bit_and(h, mask));
          to[3] = S::bit_or(to[3], S::bit_and(shift<-2>(h), mask));
        }
      }
    } else {
      const I mask = S::all_words(0x03030303U);
      for (int half = 0; half < 2; ++half) {
        const I h = S::words(p + 64 * half);
        I* to = w + 4 * half;
        to[0] = S::bit_and(h, mask);
        to[1] = S::bit_and(shift<-2>(h), mask);
        to[2] = S::bit_and(shift<-4>(h), mask);
        to[3] = S::bit_and(shift<-6>(h), mask);
      }
      if constexpr (Bits == 3) one_bit<2>(S::words(p + 128), w);
    }
  }

  /// Bit j of each byte of h becomes bit `To` of w[j].
  template <int To>
  static void one_bit(I h, I* w) {
    const I mask = S::all_words(0x01010101U << To);
    w[0] = S::bit_or(w[0], S::bit_and(shift<To>(h), mask));
    w[1] = S::bit_or(w[1], S::bit_and(shift<To - 1>(h), mask));
    w[2] = S::bit_or(w[2], S::bit_and(shift<To - 2>(h), mask));
    w[3] = S::bit_or(w[3], S::bit_and(shift<To - 3>(h), mask));
    w[4] = S::bit_or(w[4], S::bit_and(shift<To - 4>(h), mask));
    w[5] = S::bit_or(w[5], S::bit_and(shift<To - 5>(h), mask));
    w[6] = S::bit_or(w[6], S::bit_and(shift<To - 6>(h), mask));
    w[7] = S::bit_or(w[7], S::bit_and(shift<To - 7>(h), mask));
  }

  /// Whether the scales of a tile are worth spreading all at once: those of the K-quants, whose
  /// bits lie apart, and not in words.
  template <DType D>
  static constexpr bool kSpreadsScales = D == DType::Q2_K || D == DType::Q3_K || D == DType::Q4_K ||
                                         D == DType::Q5_K || D == DType::Q6_K;

  /// Scales and minimums of sub-tile s of a tile, for the rows from `row` on: one of each, or two
  /// where 16 features share one, of types that do not spread them. Rounded as
  /// tensor/dequantise.cpp rounds them.
  template <DType D>
  static void scales(const std::byte* tile, int s, int row, F* scale, F* min) {
    [[maybe_unused]] const F d = S::half(tile + 2 * row);
    [[maybe_unused]] const auto u8 = [&](int at) { return S::bytes(tile + at + row); };
    if constexpr (is_lattice(D)) {
      LatticeKernels<S>::template scales<D>(tile, s, row, scale);
    } else if constexpr (D == DType::IQ4_XS) {
      const I low = S::right(u8(32 + 16 * (s / 2)), 4 * (s % 2));
      const I high = S::right(u8(96 + 16 * (s / 4)), 2 * (s % 4));
      const I six = S::bit_or(S::bit_and(low, S::all_words(15)),
                              S::left(S::bit_and(high, S::all_words(3)), 4));
      scale[0] = S::mul(d, S::to_float(S::sub_words(six, S::all_words(32))));
    } else if constexpr (D == DType::Q8_0 || D == DType::Q4_0 || D == DType::Q5_0 ||
                         D == DType::IQ4_NL) {
      scale[0] = d;
    } else if constexpr (D == DType::Q4_1 || D == DType::Q5_1) {
      scale[0] = d;
      min[0] = S::half(tile + 32 + 2 * row);
    } else {
      static_assert(!kSpreadsScales<D>);
    }
  }

  /// The scales of a tile, sub-tile by sub-tile, as scales() gives them.
  template <DType D>
  struct TileScales {
    static constexpr PackedFormat f = packed_format(D);
    static constexpr bool kBytes = kSpreadsScales<D> && D != DType::Q6_K;
    alignas(64) std::uint8_t first[kBytes ? 256 : 1];  // of six (or four) bits, [..][16 rows]
    alignas(64) std::uint8_t second[kBytes ? 256 : 1];
    F d[kParts] = {};
    F less[kParts] = {};

    void open(const std::byte* tile) {
      if constexpr (kSpreadsScales<D>) {
        const auto* header = reinterpret_cast<const std::uint8_t*>(tile);
        if constexpr (D == DType::Q2_K) {
          for (int i = 0; i < 256; i += 32) {
            S::spread_nibbles(header + 64 + i, first + i, second + i);
          }
        } else if constexpr (D != DType::Q6_K) {
          constexpr int base = D == DType::Q3_K ? 32 : 64;
          for (int s = 0; s < 8; s += 2) {
            S::spread_six_bits(header + base + 16 * s, header + base + 128 + 8 * s, first + 16 * s,
                               second + 16 * s);
          }
        }
        for (int part = 0; part < kParts; ++part) {
          d[part] = S::half(tile + 2 * L * part);
          if constexpr (f.min) less[part] = S::sub(S::zero(), S::half(tile + 32 + 2 * L * part));
        }
      }
    }

    /// Those of sub-tile s: one, or two where 16 features share one.
    void get(const std::byte* tile, int s, int row, F* scale, F* min) const {
      if constexpr (!kSpreadsScales<D>) {
        scales<D>(tile, s, row, scale, min);
      } else {
        constexpr int halves = 32 / f.sub;
#pragma GCC unroll 2
        for (int half = 0; half < halves; ++half) {
          [[maybe_unused]] const int at = 16 * (s * halves + half) + row;
          const F factor = d[row / L];
          if constexpr (D == DType::Q6_K) {
            scale[half] = S::mul(factor, S::to_float(S::signed_bytes(tile + 32 + at)));
          } else if constexpr (D == DType::Q3_K) {
            const I six = S::bytes((half == 0 ? first : second) + 16 * s + row);
            scale[half] = S::mul(factor, S::to_float(S::sub_words(six, S::all_words(32))));
          } else {
            scale[half] = S::mul(factor, S::to_float(S::bytes(first + at)));
            min[half] = S::mul(less[row / L], S::to_float(S::bytes(second + at)));
          }
        }
      }
    }
  };
};

}  // namespace fathom::cpu
