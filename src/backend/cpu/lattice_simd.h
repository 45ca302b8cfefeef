// From the packed lattice types to codes and scales: part of MatmulKernels (matmul_simd.h), which
// is where its conventions are told.
//
// A point's codes come from a table by its rank: level + zero for each of eight (or four) features.
// Signs turn a code q into 2 * zero - q.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "backend/cpu/packed_layout.h"
#include "tensor/lattices.h"

namespace fathom::cpu {

/// The codes of every point, a byte a feature; zero is 64 (IQ2, IQ3_XXS) or 16 (IQ3_S, IQ1).
alignas(64) inline constexpr auto kIq2XxsCodes = lattice::with_levels(lattice::kIq2Xxs,
                                                                      lattice::kIq2Levels, 64);
alignas(64) inline constexpr auto kIq2XsCodes = lattice::with_levels(lattice::kIq2Xs,
                                                                     lattice::kIq2Levels, 64);
alignas(64) inline constexpr auto kIq2SCodes = lattice::with_levels(lattice::kIq2S,
                                                                    lattice::kIq2Levels, 64);
alignas(64) inline constexpr auto kIq3XxsCodes = lattice::with_levels(lattice::kIq3Xxs,
                                                                      lattice::kIq3XxsLevels, 64);
alignas(64) inline constexpr auto kIq3SCodes = lattice::with_levels(lattice::kIq3S,
                                                                    lattice::kIq3SLevels, 16);
/// IQ1: eight times the digit -1, 0 or 1, plus one; the minus takes two off again.
alignas(64) inline constexpr auto kIq1Codes =
    lattice::with_levels(lattice::kIq1, std::array<std::uint8_t, 3>{0, 8, 16}, 16 - 8 + 1);
/// The digits of small lattices in 16 bits, as the 16-bit permutations of AVX-512 look them up
/// (Avx512::lookup256, lookup512). A point's nibbles are turned into bytes in the order 0, 2, 1, 3;
/// of an octet nibble k holds digits k and k + 4, two bits each, of a quad digit k.
template <typename Word, std::size_t Count>
constexpr std::array<std::uint16_t, Count> as_nibbles(const std::array<Word, Count>& points) {
  constexpr std::array<unsigned, 4> place{0, 8, 4, 12};  // of nibbles 0..3
  std::array<std::uint16_t, Count> out{};
  for (std::size_t i = 0; i < Count; ++i) {
    for (unsigned k = 0; k < sizeof(Word); ++k) {
      const auto digit = static_cast<unsigned>(points[i] >> (8 * k) & 255U);
      out[i] = static_cast<std::uint16_t>(out[i] | digit << (place[k % 4] + 2 * (k / 4)));
    }
  }
  return out;
}
alignas(64) inline constexpr auto kIq2XxsNibbles = as_nibbles(lattice::kIq2Xxs);
alignas(64) inline constexpr auto kIq2XsNibbles = as_nibbles(lattice::kIq2Xs);
alignas(64) inline constexpr auto kIq3SNibbles = as_nibbles(lattice::kIq3S);
alignas(64) inline constexpr auto kIq3XxsNibbles = as_nibbles(lattice::kIq3Xxs);
/// Codes of a nibble's lower and upper two bits (IQ2), and of its three (IQ3).
template <typename Levels>
constexpr std::array<std::uint8_t, 16> nibble_codes(const Levels& levels, unsigned shift,
                                                    unsigned zero) {
  std::array<std::uint8_t, 16> out{};
  for (unsigned n = 0; n < 16; ++n) {
    const std::size_t digit = n >> shift & (levels.size() == 3 ? 3U : 7U);
    if (digit < levels.size()) out[n] = static_cast<std::uint8_t>(levels[digit] + zero);
  }
  return out;
}
alignas(16) inline constexpr auto kIq2Low = nibble_codes(lattice::kIq2Levels, 0, 64);
alignas(16) inline constexpr auto kIq2High = nibble_codes(lattice::kIq2Levels, 2, 64);
alignas(16) inline constexpr auto kIq3XxsLow = nibble_codes(lattice::kIq3XxsLevels, 0, 64);
alignas(16) inline constexpr auto kIq3SLow = nibble_codes(lattice::kIq3SLevels, 0, 16);

/// IQ4_NL, IQ4_XS; zero is 128.
alignas(16) inline constexpr auto kIq4Codes = [] {
  std::array<std::uint8_t, 16> codes{};
  for (std::size_t i = 0; i < 16; ++i) {
    codes[i] = static_cast<std::uint8_t>(lattice::kIq4Values[i] + 128);
  }
  return codes;
}();

constexpr bool is_lattice(DType dtype) { return dtype >= DType::IQ1_S && dtype <= DType::IQ3_S; }

template <class S>
struct LatticeKernels {
  using F = typename S::F;
  using I = typename S::I;

  /// Codes of sub-tile s of a tile for the rows from `row` on, as MatmulKernels::codes.
  template <DType D>
  static void codes(const std::byte* tile, int s, int row, I* w) {
    constexpr PackedFormat f = packed_format(D);
    constexpr std::size_t header_bytes = f.header_bytes;
    constexpr std::size_t sub_bytes = f.sub_bytes();
    const std::byte* sub = tile + header_bytes + static_cast<std::size_t>(s) * sub_bytes;
    const auto low = [&](int k) { return S::bytes(sub + 16 * k + row); };
    const auto head = [&](int at) { return S::bytes(tile + at + row); };
    if constexpr (D == DType::IQ3_XXS) {
      if constexpr (S::kPermutes) {
        for (int q = 0; q < 8; q += 2) {
          const auto nibbles = S::lookup256(kIq3XxsNibbles.data(), sub + 16 * q + row);
          for (int k = 0; k < 2; ++k) w[q + k] = S::lookup(kIq3XxsLow.data(), nibbles[k]);
        }
      } else {
        for (int q = 0; q < 8; ++q) w[q] = S::quads(kIq3XxsCodes.data(), low(q));
      }
    } else if constexpr (D == DType::IQ3_S && S::kPermutes) {
      for (int q = 0; q < 8; q += 2) {
        const auto nibbles =
            S::lookup512(kIq3SNibbles.data(), sub + 16 * q + row, tile + 96 + 16 * s + row, q);
        for (int k = 0; k < 2; ++k) w[q + k] = S::lookup(kIq3SLow.data(), nibbles[k]);
      }
    } else if constexpr (D == DType::IQ3_S) {
      const I high = S::left(head(96 + 16 * s), 8);  // quad q's bit belongs at bit 8
      const I ninth = S::all_words(256);
      for (int q = 0; q < 8; ++q) {
        const I rank = S::bit_or(low(q), S::bit_and(S::right(high, q), ninth));
        w[q] = S::quads(kIq3SCodes.data(), rank);
      }
    } else if constexpr (D == DType::IQ2_XXS) {
      if constexpr (S::kPermutes) {
        for (int o = 0; o < 4; o += 2) {
          const auto nibbles = S::lookup256(kIq2XxsNibbles.data(), sub + 16 * o + row);
          for (int k = 0; k < 2; ++k) {
            w[2 * (o + k)] = S::lookup(kIq2Low.data(), nibbles[k]);
            w[2 * (o + k) + 1] = S::lookup(kIq2High.data(), nibbles[k]);
          }
        }
      } else {
        for (int o = 0; o < 4; ++o) {
          S::octets(kIq2XxsCodes.data(), low(o), w[2 * o], w[2 * o + 1]);
        }
      }
    } else if constexpr (D == DType::IQ2_XS && S::kPermutes) {
      for (int o = 0; o < 4; o += 2) {
        const auto nibbles = S::lookup512(kIq2XsNibbles.data(), sub + 16 * o + row,
                                          tile + 160 + 16 * (s / 2) + row, 4 * (s % 2) + o);
        for (int k = 0; k < 2; ++k) {
          w[2 * (o + k)] = S::lookup(kIq2Low.data(), nibbles[k]);
          w[2 * (o + k) + 1] = S::lookup(kIq2High.data(), nibbles[k]);
        }
      }
    } else if constexpr (D == DType::IQ2_XS) {
      const I high = S::left(S::right(head(160 + 16 * (s / 2)), 4 * (s % 2)), 8);
      const I ninth = S::all_words(256);
      for (int o = 0; o < 4; ++o) {
        const I rank = S::bit_or(low(o), S::bit_and(S::right(high, o), ninth));
        S::octets(kIq2XsCodes.data(), rank, w[2 * o], w[2 * o + 1]);
      }
    } else if constexpr (D == DType::IQ2_S) {
      const I high = S::left(head(160 + 16 * s), 8);
      const I two = S::all_words(768);
      for (int o = 0; o < 4; ++o) {
        const I rank = S::bit_or(low(o), S::bit_and(S::right(high, 2 * o), two));
        S::octets(kIq2SCodes.data(), rank, w[2 * o], w[2 * o + 1]);
      }
    } else {
      constexpr bool wide = D == DType::IQ1_M;  // nibbles rather than three bits an octet
      constexpr int at = wide ? 160 : 32;
      const I three = S::all_words(7U << 8);
      const I two = S::all_words(0x02020202U);
      const I halves[] = {head(at + 16 * s), head(at + 128 + 16 * s)};
      for (int o = 0; o < 4; ++o) {
        const I half = halves[o / 2];
        const I bits = o % 2 == 0 ? S::left(half, 8) : S::left(half, wide ? 4 : 5);
        const I rank = S::bit_or(low(o), S::bit_and(bits, three));
        S::octets(kIq1Codes.data(), rank, w[2 * o], w[2 * o + 1]);
        const I flag = wide ? half : halves[1];
        const std::uint32_t bit = wide && o % 2 == 0 ? 8 : 128;
        w[2 * o] = S::subtract_where(w[2 * o], flag, bit, two);
        w[2 * o + 1] = S::subtract_where(w[2 * o + 1], flag, bit, two);
      }
    }
    if constexpr (D != DType::IQ1_S && D != DType::IQ1_M) {
      constexpr int ranks = D == DType::IQ3_XXS || D == DType::IQ3_S ? 8 : 4;
      const I signs = S::words(sub + 16 * ranks + 4 * row);
#pragma GCC unroll 8
      for (int j = 0; j < 8; ++j) w[j] = S::template mirror<2 * f.zero>(w[j], signs, j);
    }
  }

  /// As MatmulKernels::scales. All of it is exact: 11 bits of d times at most 5.
  template <DType D>
  static void scales(const std::byte* tile, int s, int row, F* scale) {
    const F d = S::half(tile + 2 * row);
    const auto head = [&](int at) { return S::bytes(tile + at + row); };
    const auto odd = [](F unit, I n) {  // unit * (2 n + 1)
      return S::mul(unit, S::to_float(S::bit_or(S::left(n, 1), S::all_words(1))));
    };
    const I four = S::all_words(15);
    if constexpr (D == DType::IQ1_S) {
      const I high = S::left(S::bit_and(head(160 + 16 * s), S::all_words(64)), 2);
      const I n = S::right(S::bit_or(head(32 + 16 * s), high), 6);
      scale[0] = odd(S::mul(d, S::all(0.125F)), n);
    } else if constexpr (D == DType::IQ2_XXS || D == DType::IQ3_XXS || D == DType::IQ3_S) {
      constexpr float unit = D == DType::IQ2_XXS ? 0.125F : D == DType::IQ3_XXS ? 0.25F : 1.0F;
      const I n = S::bit_and(S::right(head(32 + 16 * (s / 2)), 4 * (s % 2)), four);
      scale[0] = odd(S::mul(d, S::all(unit)), n);
    } else {
      const I both = head(32 + 16 * s);
      const F unit = S::mul(d, S::all(0.125F));
      scale[0] = odd(unit, S::bit_and(both, four));
      scale[1] = odd(unit, S::right(both, 4));
    }
  }
};

}  // namespace fathom::cpu
