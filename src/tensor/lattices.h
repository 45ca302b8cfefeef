// The lattices of the IQ types: which combinations of eight (or four) magnitudes a block can name.
//
// A block stores no magnitudes but the rank of a point in a set, chosen by the ggml project so that
// few points cover what weights look like (derived from the E8 lattice, as in QuIP#, arXiv
// 2402.04396). Points have digits 0..2 (0..7 for four); a table of levels tells what a digit means.
// The sets are kept as bitmaps (lattice_bits.h) and spread out when compiled.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "tensor/lattice_bits.h"

namespace fathom::lattice {

/// Magnitudes of the digits. Those of IQ1 are signed: digit - 1, in units of the block's scale.
inline constexpr std::array<std::uint8_t, 3> kIq2Levels{8, 25, 43};
inline constexpr std::array<std::uint8_t, 8> kIq3XxsLevels{4, 12, 20, 28, 36, 44, 52, 62};
inline constexpr std::array<std::uint8_t, 8> kIq3SLevels{1, 3, 5, 7, 9, 11, 13, 15};

/// What the 16 codes of IQ4_NL and IQ4_XS stand for: closer together near zero.
inline constexpr std::array<std::int8_t, 16> kIq4Values{-127, -104, -83, -65, -49, -35, -22, -10,
                                                        1,    13,   25,  38,  53,  69,  89,  113};

/// The members of a set by rank; byte k of a member is its digit k.
template <typename Word, std::size_t Count, std::size_t Words>
constexpr std::array<Word, Count> members(const std::array<std::uint64_t, Words>& bits,
                                          unsigned base) {
  std::array<Word, Count> out{};
  std::size_t rank = 0;
  for (unsigned point = 0; point < 64 * Words; ++point) {
    if ((bits[point / 64] >> (point % 64) & 1U) == 0) continue;
    Word digits = 0;
    unsigned rest = point;
    for (unsigned k = 0; k < sizeof(Word); ++k, rest /= base) {
      digits |= static_cast<Word>(rest % base) << (8 * k);
    }
    out[rank++] = digits;
  }
  return out;
}

inline constexpr auto kIq2Xxs = members<std::uint64_t, 256>(kIq2XxsBits, 3);
inline constexpr auto kIq2Xs = members<std::uint64_t, 512>(kIq2XsBits, 3);
inline constexpr auto kIq2S = members<std::uint64_t, 1024>(kIq2SBits, 3);
inline constexpr auto kIq1 = members<std::uint64_t, 2048>(kIq1Bits, 3);
inline constexpr auto kIq3Xxs = members<std::uint32_t, 256>(kIq3XxsBits, 8);
inline constexpr auto kIq3S = members<std::uint32_t, 512>(kIq3SBits, 8);

/// The same with each digit's level, plus `offset`, in its place.
template <typename Word, std::size_t Count, typename Level, std::size_t Levels>
constexpr std::array<Word, Count> with_levels(const std::array<Word, Count>& digits,
                                              const std::array<Level, Levels>& levels,
                                              int offset = 0) {
  std::array<Word, Count> out{};
  for (std::size_t i = 0; i < Count; ++i) {
    for (unsigned k = 0; k < sizeof(Word); ++k) {
      const auto level = static_cast<Word>(levels[digits[i] >> (8 * k) & 255U] + offset) & 255U;
      out[i] |= static_cast<Word>(level) << (8 * k);
    }
  }
  return out;
}

/// Seven stored signs and the eighth, which makes their number even (bit k: element k is negative).
constexpr std::uint8_t even_signs(unsigned seven) {
  unsigned parity = seven ^ (seven >> 4);
  parity ^= parity >> 2;
  parity ^= parity >> 1;
  return static_cast<std::uint8_t>((seven & 127U) | ((parity & 1U) << 7));
}

}  // namespace fathom::lattice
