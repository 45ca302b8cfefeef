// The lattice types' blocks into tiles: packed_layout.h says how they lie there.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "backend/cpu/packed_layout.h"
#include "tensor/blocks.h"
#include "tensor/lattices.h"

namespace fathom::cpu {

/// Four bits as the lowest bits of four bytes.
inline constexpr std::array<std::uint32_t, 16> kSpreadNibble = [] {
  std::array<std::uint32_t, 16> table{};
  for (std::uint32_t n = 0; n < 16; ++n) {
    for (unsigned i = 0; i < 4; ++i) table[n] |= (n >> i & 1U) << (8 * i);
  }
  return table;
}();

/// A template for the same reason as PackKernels.
template <class S>
struct PackLattice {
  /// Writes a block as row `row` of a tile of zeros.
  template <typename Block>
  static void put(const Block& block, std::byte* tile, std::size_t row) {
    constexpr PackedFormat format = packed_format(Block::kType);
    put_header(block, tile, row);
    for (std::size_t s = 0; s < 8; ++s) {
      std::byte* sub = tile + format.header_bytes + s * format.sub_bytes();
      for (std::size_t k = 0; k < kRanks<Block>; ++k) {
        sub[16 * k + row] = static_cast<std::byte>(rank(block, kRanks<Block> * s + k));
      }
      if constexpr (!kTernary<Block>) {
        const std::uint32_t plane = sign_plane(signs(block, s));
        std::memcpy(sub + 16 * kRanks<Block> + 4 * row, &plane, 4);
      }
    }
  }

 private:
  template <typename Block>
  static constexpr bool kTernary =
      std::is_same_v<Block, BlockIQ1_S> || std::is_same_v<Block, BlockIQ1_M>;
  /// Points in 32 elements: quads or octets.
  template <typename Block>
  static constexpr std::size_t kRanks =
      std::is_same_v<Block, BlockIQ3_XXS> || std::is_same_v<Block, BlockIQ3_S> ? 8 : 4;

  // ---- low eight bits of the k-th point's rank -----------------------------------------------

  template <typename Block>
  static unsigned rank(const Block& block, std::size_t k) {
    if constexpr (std::is_same_v<Block, BlockIQ2_XXS>) {
      return static_cast<std::uint32_t>(block.q[k / 4][0]) >> (8 * (k % 4)) & 255U;
    } else {
      return block.q[k] & 255U;
    }
  }

  // ---- signs of 32 elements, bit i being element i's -----------------------------------------

  static std::uint32_t four_octets(unsigned a, unsigned b, unsigned c, unsigned d) {
    return a | b << 8 | c << 16 | d << 24;
  }
  /// Four times seven bits, octet after octet.
  static std::uint32_t even(std::uint32_t word) {
    const auto octet = [word](unsigned o) { return lattice::even_signs(word >> (7 * o) & 127U); };
    return four_octets(octet(0), octet(1), octet(2), octet(3));
  }
  static std::uint32_t signs(const BlockIQ2_XXS& block, std::size_t s) {
    return even(block.q[s][1]);
  }
  static std::uint32_t signs(const BlockIQ3_XXS& block, std::size_t s) {
    return even(block.signs[s]);
  }
  static std::uint32_t signs(const BlockIQ2_XS& block, std::size_t s) {
    const auto octet = [&](std::size_t o) {
      return lattice::even_signs(static_cast<unsigned>(block.q[4 * s + o]) >> 9);
    };
    return four_octets(octet(0), octet(1), octet(2), octet(3));
  }
  template <typename Block>
  static std::uint32_t signs(const Block& block, std::size_t s) {
    std::uint32_t word;
    std::memcpy(&word, block.signs + 4 * s, 4);
    return word;
  }

  /// Element 4 * j + i's bit goes to bit j of byte i.
  static std::uint32_t sign_plane(std::uint32_t elements) {
    std::uint32_t plane = 0;
    for (unsigned j = 0; j < 8; ++j) plane |= kSpreadNibble[elements >> (4 * j) & 15U] << j;
    return plane;
  }

  // ---- headers -------------------------------------------------------------------------------

  static void put_scale(std::byte* tile, std::size_t row, std::uint16_t d) {
    std::memcpy(tile + 2 * row, &d, 2);
  }
  static std::byte& at(std::byte* tile, std::size_t offset, std::size_t index, std::size_t row) {
    return tile[offset + 16 * index + row];
  }
  static void put(std::byte& to, unsigned bits) { to |= static_cast<std::byte>(bits); }

  static void put_header(const BlockIQ2_XXS& block, std::byte* tile, std::size_t row) {
    put_scale(tile, row, block.d);
    for (std::size_t s = 0; s < 8; ++s) {
      put(at(tile, 32, s / 2, row), (block.q[s][1] >> 28) << (4 * (s % 2)));
    }
  }
  static void put_header(const BlockIQ3_XXS& block, std::byte* tile, std::size_t row) {
    put_scale(tile, row, block.d);
    for (std::size_t s = 0; s < 8; ++s) {
      put(at(tile, 32, s / 2, row), (block.signs[s] >> 28) << (4 * (s % 2)));
    }
  }
  static void put_header(const BlockIQ3_S& block, std::byte* tile, std::size_t row) {
    put_scale(tile, row, block.d);
    for (std::size_t s = 0; s < 4; ++s) put(at(tile, 32, s, row), block.scales[s]);
    for (std::size_t s = 0; s < 8; ++s) put(at(tile, 96, s, row), block.qh[s]);
  }
  static void put_header(const BlockIQ2_XS& block, std::byte* tile, std::size_t row) {
    put_scale(tile, row, block.d);
    for (std::size_t s = 0; s < 8; ++s) put(at(tile, 32, s, row), block.scales[s]);
    for (std::size_t octet = 0; octet < 32; ++octet) {
      put(at(tile, 160, octet / 8, row), (block.q[octet] >> 8 & 1U) << (octet % 8));
    }
  }
  static void put_header(const BlockIQ2_S& block, std::byte* tile, std::size_t row) {
    put_scale(tile, row, block.d);
    for (std::size_t s = 0; s < 8; ++s) {
      put(at(tile, 32, s, row), block.scales[s]);
      put(at(tile, 160, s, row), block.qh[s]);
    }
  }
  static void put_header(const BlockIQ1_S& block, std::byte* tile, std::size_t row) {
    put_scale(tile, row, block.d);
    for (std::size_t s = 0; s < 8; ++s) {
      const unsigned word = block.qh[s];
      const unsigned scale = word >> 12 & 7U;
      put(at(tile, 32, s, row), (word & 63U) | (scale & 3U) << 6);
      put(at(tile, 160, s, row), (word >> 6 & 63U) | (scale >> 2) << 6 | (word >> 15) << 7);
    }
  }
  static void put_header(const BlockIQ1_M& block, std::byte* tile, std::size_t row) {
    std::uint16_t words[4];
    std::memcpy(words, &block.scales, sizeof(words));
    put_scale(tile, row, scale_of_iq1_m(words));
    for (std::size_t s = 0; s < 8; ++s) {
      const unsigned both = static_cast<unsigned>(words[s / 2]) >> (6 * (s % 2));
      put(at(tile, 32, s, row), (both & 7U) | (both >> 3 & 7U) << 4);
      put(at(tile, 160, s, row), block.qh[2 * s]);
      put(at(tile, 288, s, row), block.qh[2 * s + 1]);
    }
  }
};

}  // namespace fathom::cpu
