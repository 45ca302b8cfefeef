// From the file's blocks to the tiles of packed_layout.h, one group of rows at a time.
//
// Plain loops that compilers vectorise; a template over the lanes of simd_*.h only so that each
// instruction set's unit has instances of its own.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "backend/cpu/lattice_simd.h"
#include "backend/cpu/pack_lattice.h"
#include "backend/cpu/packed_layout.h"
#include "tensor/blocks.h"

namespace fathom::cpu {

/// Eight bits as eight bytes of 0 or 16.
inline constexpr std::array<std::uint64_t, 256> kFifthBits = [] {
  std::array<std::uint64_t, 256> table{};
  for (std::size_t byte = 0; byte < 256; ++byte) {
    for (std::size_t bit = 0; bit < 8; ++bit) {
      if ((byte >> bit & 1) != 0) table[byte] |= std::uint64_t{16} << (8 * bit);
    }
  }
  return table;
}();

template <class S>
struct PackKernels {
  // ---- a block's codes in feature order, one byte each ---------------------------------------

  static void spread(const BlockQ8_0& block, std::uint8_t* q) {
    for (std::size_t i = 0; i < 32; ++i) q[i] = static_cast<std::uint8_t>(block.q[i] + 128);
  }

  template <typename Block>
  static void spread_nibbles(const Block& block, std::uint8_t* q) {
    for (std::size_t i = 0; i < 16; ++i) {
      q[i] = block.q[i] & 15;
      q[i + 16] = static_cast<std::uint8_t>(block.q[i] >> 4);
    }
  }

  template <typename Block>
  static void spread_five_bits(const Block& block, std::uint8_t* q) {
    spread_nibbles(block, q);
    for (std::size_t i = 0; i < 4; ++i) {
      std::uint64_t eight;
      std::memcpy(&eight, q + 8 * i, 8);
      eight |= kFifthBits[block.qh[i]];
      std::memcpy(q + 8 * i, &eight, 8);
    }
  }

  static void spread(const BlockQ4_0& block, std::uint8_t* q) { spread_nibbles(block, q); }
  static void spread(const BlockQ4_1& block, std::uint8_t* q) { spread_nibbles(block, q); }
  static void spread(const BlockQ5_0& block, std::uint8_t* q) { spread_five_bits(block, q); }
  static void spread(const BlockQ5_1& block, std::uint8_t* q) { spread_five_bits(block, q); }

  /// Two bits of Q2_K and Q3_K: 32 bytes hold four runs of 32 features.
  template <typename Block>
  static void spread_two_bits(const Block& block, std::uint8_t* q) {
    for (std::size_t run = 0; run < 8; ++run) {
      const std::uint8_t* from = block.q + 32 * (run / 4);
      for (std::size_t l = 0; l < 32; ++l) {
        q[32 * run + l] = static_cast<std::uint8_t>((from[l] >> (2 * (run % 4))) & 3);
      }
    }
  }

  static void spread(const BlockQ2_K& block, std::uint8_t* q) { spread_two_bits(block, q); }

  static void spread(const BlockQ3_K& block, std::uint8_t* q) {
    spread_two_bits(block, q);
    for (std::size_t run = 0; run < 8; ++run) {
      for (std::size_t l = 0; l < 32; ++l) {
        const int third = (block.hmask[l] >> run) & 1;
        q[32 * run + l] = static_cast<std::uint8_t>(q[32 * run + l] | (third << 2));
      }
    }
  }

  template <typename Block>
  static void spread_k_nibbles(const Block& block, std::uint8_t* q) {
    for (std::size_t pair = 0; pair < 4; ++pair) {
      for (std::size_t l = 0; l < 32; ++l) {
        const std::uint8_t both = block.q[32 * pair + l];
        q[64 * pair + l] = both & 15;
        q[64 * pair + 32 + l] = static_cast<std::uint8_t>(both >> 4);
      }
    }
  }

  static void spread(const BlockQ4_K& block, std::uint8_t* q) { spread_k_nibbles(block, q); }

  static void spread(const BlockQ5_K& block, std::uint8_t* q) {
    spread_k_nibbles(block, q);
    for (std::size_t run = 0; run < 8; ++run) {
      for (std::size_t l = 0; l < 32; ++l) {
        const int fifth = (block.qh[l] >> run) & 1;
        q[32 * run + l] = static_cast<std::uint8_t>(q[32 * run + l] | (fifth << 4));
      }
    }
  }

  static void spread(const BlockIQ4_NL& block, std::uint8_t* q) { spread_nibbles(block, q); }
  static void spread(const BlockIQ4_XS& block, std::uint8_t* q) {
    for (std::size_t i = 0; i < 128; ++i) {
      std::uint8_t* to = q + i / 16 * 32 + i % 16;
      to[0] = block.q[i] & 15;
      to[16] = static_cast<std::uint8_t>(block.q[i] >> 4);
    }
  }

  static void spread(const BlockQ6_K& block, std::uint8_t* q) {
    for (std::size_t run = 0; run < 8; ++run) {
      const std::uint8_t* low = block.ql + 64 * (run / 4) + 32 * (run % 2);
      const std::uint8_t* high = block.qh + 32 * (run / 4);
      const unsigned low_shift = 4 * ((run / 2) % 2);
      const unsigned high_shift = 2 * (run % 4);
      for (std::size_t l = 0; l < 32; ++l) {
        q[32 * run + l] = static_cast<std::uint8_t>(((low[l] >> low_shift) & 15) |
                                                    (((high[l] >> high_shift) & 3) << 4));
      }
    }
  }

  // ---- a block's scales into the tile's header -----------------------------------------------

  static void put_half(std::byte* tile, std::size_t array, std::size_t row, std::uint16_t half) {
    std::memcpy(tile + 32 * array + 2 * row, &half, 2);
  }

  /// Two six-bit numbers of sub-tile s: low nibbles into lo[s], the upper bits into hi[s / 2].
  static void put_six_bits(std::byte* lo, std::size_t row, std::size_t s, unsigned a, unsigned b) {
    std::byte* hi = lo + 128;
    lo[16 * s + row] = static_cast<std::byte>((a & 15U) | ((b & 15U) << 4));
    hi[16 * (s / 2) + row] |= static_cast<std::byte>(((a >> 4) | ((b >> 4) << 2)) << (4 * (s % 2)));
  }

  template <typename Block>
  static void put_scales(const Block& block, std::byte* tile, std::size_t row) {
    put_half(tile, 0, row, block.d);
    if constexpr (Block::kType == DType::Q4_1 || Block::kType == DType::Q5_1) {
      put_half(tile, 1, row, block.m);
    } else if constexpr (Block::kType == DType::Q4_K || Block::kType == DType::Q5_K) {
      put_half(tile, 1, row, block.dmin);
      const ScalesQ4K scales = unpack_scales_q4_k(block.scales);
      for (std::size_t s = 0; s < 8; ++s) {
        put_six_bits(tile + 64, row, s, scales.scale[s], scales.min[s]);
      }
    } else if constexpr (Block::kType == DType::Q3_K) {
      const auto scales = unpack_scales_q3_k(block.scales);
      for (std::size_t s = 0; s < 8; ++s) {
        put_six_bits(tile + 32, row, s, static_cast<unsigned>(scales[2 * s] + 32),
                     static_cast<unsigned>(scales[2 * s + 1] + 32));
      }
    } else if constexpr (Block::kType == DType::Q2_K) {
      put_half(tile, 1, row, block.dmin);
      for (std::size_t s = 0; s < 16; ++s) {
        tile[64 + 16 * s + row] = static_cast<std::byte>(block.scales[s]);
      }
    } else if constexpr (Block::kType == DType::Q6_K) {
      for (std::size_t s = 0; s < 16; ++s) {
        tile[32 + 16 * s + row] = static_cast<std::byte>(block.scales[s]);
      }
    } else if constexpr (Block::kType == DType::IQ4_XS) {
      for (std::size_t k = 0; k < 4; ++k) {
        tile[32 + 16 * k + row] = static_cast<std::byte>(block.scales_l[k]);
      }
      for (std::size_t k = 0; k < 2; ++k) {
        tile[96 + 16 * k + row] = static_cast<std::byte>(block.scales_h >> (8 * k));
      }
    }
  }

  // ---- bit planes ----------------------------------------------------------------------------

  /// Writes one row's 32 codes into a sub-tile, four codes (a word) at a time.
  template <int Bits>
  static void put_codes(const std::uint8_t* q, std::byte* sub, std::size_t row) {
    std::uint32_t w[8];
    std::memcpy(w, q, 32);
    std::byte* to = sub + 4 * row;
    const auto put = [&to](std::uint32_t word) {
      std::memcpy(to, &word, 4);
      to += 64;
    };
    if constexpr (Bits == 8) {
      for (std::uint32_t word : w) put(word);
    }
    if constexpr (Bits >= 4 && Bits < 8) {
      for (std::size_t j = 0; j < 4; ++j) {
        put((w[j] & 0x0F0F0F0FU) | ((w[j + 4] & 0x0F0F0F0FU) << 4));
      }
    }
    if constexpr (Bits == 2 || Bits == 3 || Bits == 6) {
      constexpr unsigned shift = Bits == 6 ? 4 : 0;
      for (std::size_t half = 0; half < 2; ++half) {
        std::uint32_t word = 0;
        for (std::size_t j = 0; j < 4; ++j) {
          word |= ((w[4 * half + j] >> shift) & 0x03030303U) << (2 * j);
        }
        put(word);
      }
    }
    if constexpr (Bits == 3 || Bits == 5) {
      constexpr unsigned shift = Bits - 1;
      std::uint32_t word = 0;
      for (std::size_t j = 0; j < 8; ++j) word |= ((w[j] >> shift) & 0x01010101U) << j;
      put(word);
    }
  }

  /// MatmulTable::Format::pack for one block type.
  template <typename Block>
  static void pack_group(const std::byte* rows, std::size_t row_bytes, std::size_t count,
                         std::size_t features, std::byte* group) {
    constexpr PackedFormat format = packed_format(Block::kType);
    constexpr std::size_t tile_bytes = format.tile_bytes();
    constexpr std::size_t tile_subs = format.tile_subs();
    constexpr std::size_t sub_bytes = format.sub_bytes();
    static_assert(tile_bytes <= kGroupRows * sizeof(Block) ||
                  (is_lattice(Block::kType) && 10 * tile_bytes < 11 * kGroupRows * sizeof(Block)));
    const std::size_t tiles = features / format.tile_features;
    // Header bits are gathered with |=, and absent rows must read as zeros.
    std::memset(group, 0, tiles * tile_bytes);
    for (std::size_t row = 0; row < count; ++row) {
      const auto* blocks = reinterpret_cast<const Block*>(rows + row * row_bytes);
      for (std::size_t tile = 0; tile < tiles; ++tile) {
        std::byte* to = group + tile * tile_bytes;
        if constexpr (is_lattice(Block::kType)) {
          PackLattice<S>::put(blocks[tile], to, row);
        } else {
          std::uint8_t q[format.tile_features];
          spread(blocks[tile], q);
          put_scales(blocks[tile], to, row);
          for (std::size_t s = 0; s < tile_subs; ++s) {
            put_codes<static_cast<int>(sub_bytes / 64)>(
                q + 32 * s, to + format.header_bytes + s * sub_bytes, row);
          }
        }
      }
    }
  }
};

}  // namespace fathom::cpu
