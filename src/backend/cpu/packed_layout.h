// How quantised weights lie in memory after packing: the layout every kernel of matmul.h reads.
//
// Sixteen rows (output features) form a group; a group is a run of tiles, each a source block of
// all sixteen rows (32 or 256 input features). Groups follow each other; the last is padded with
// zero rows. A tile takes exactly the bytes of the sixteen blocks it was made from, so packing
// neither grows nor loses anything, and the form may be kept on disk.
//
//   tile      = header, then one sub-tile for each 32 input features
//   sub-tile  = bit planes of the codes q, widest first, 64 * bits bytes in all
//
// A plane orders codes as VNNI and AMX want them: 8 vectors j of 64 bytes, byte 4 * row + i of
// vector j being the code of input feature 4 * j + i. Narrower planes fold vectors together:
//   8 bits  vector j                                                   (512 bytes)
//   4 bits  byte j % 4, low nibble for j < 4, high nibble for j >= 4   (256 bytes)
//   2 bits  vector j / 4, bits 2 * (j % 4) and up                      (128 bytes)
//   1 bit   bit j of one vector                                        (64 bytes)
// Five bits are a 4 and a 1 bit plane, six a 4 and a 2, three a 2 and a 1.
//
// Headers (arrays over the 16 rows): d[16] as F16; m or dmin[16] as F16 if the format has minimums;
// then for K-quants
//   Q4_K, Q5_K  lo[8][16]: scale & 15 | (min & 15) << 4 of sub-tile s;
//               hi[4][16]: the upper two bits, (scale | min << 2) << 4 * (s % 2), of s / 2
//   Q3_K        the same with the two scales (+32) of a sub-tile in the place of scale and min
//   Q2_K        scales[16][16] as in the file: scale | min << 4 of 16 features
//   Q6_K        scales[16][16], signed
// IQ4_NL has Q4_0's form and IQ4_XS
//   lo[4][16]: low nibbles of the scales of sub-tiles 2 * k and 2 * k + 1; hi[2][16]: their upper
//   two bits, those of sub-tile s at bit 2 * (s % 4) of hi[s / 4]
// Their nibbles name one of 16 values, which a table turns into codes of 8 bits.
//
// The lattice types keep ranks (tensor/lattices.h), and tables hold the codes of each point. A
// sub-tile is ranks[4 octets or 8 quads][16], the low eight bits, then, but for IQ1, a plane of 1
// bit with the signs: all eight of an octet, so that IQ2_XXS, IQ2_XS and IQ3_XXS, which store
// seven, grow by 4 to 6 %. Headers after d[16]:
//   IQ2_XXS, IQ3_XXS  scales[4][16]: nibbles as in IQ4_XS's lo
//   IQ3_S             the same, then high[8][16]: bit q is the ninth bit of quad q's rank
//   IQ2_XS            scales[8][16]: nibbles of the first and the second 16 features; high[4][16]:
//                     the ninth bits of four octets, sub-tile s in nibble s % 2 of high[s / 2]
//   IQ2_S             scales[8][16] as before; high[8][16]: two bits an octet
//   IQ1_S             a[8][16]: 3 upper bits of octet 0's and 1's ranks, the scale's lower two
//   bits;
//                     b[8][16]: the same of octets 2 and 3, the scale's third bit, the minus
//   IQ1_M             scales[8][16] as before (grows by 4 %); a[8][16], b[8][16]: of two octets, in
//                     nibbles, 3 upper bits and the minus
//
// Every weight is x = scale * (q - zero) + min, with scale and min shared by `sub` features.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

namespace fathom::cpu {

inline constexpr std::size_t kGroupRows = 16;
/// Features that the kernels treat as a unit: activations are quantised per 32.
inline constexpr std::size_t kSubTile = 32;
/// Features between two visits to the accumulators: a K-quant's super-block.
inline constexpr std::size_t kChunk = 256;
inline constexpr std::size_t kChunkSubs = kChunk / kSubTile;
/// Features that the F32 kernels sum up before they add to the accumulator, and the floats that a
/// group's weights for them take: two groups fill half of the first cache.
inline constexpr std::size_t kF32Features = 128;
inline constexpr std::size_t kF32Panel = kF32Features * kGroupRows;

struct PackedFormat {
  int bits = 0;      // of a code; 0: not a format that is packed
  int zero = 0;      // the code of 0
  int sub = 0;       // features that share a scale: 16 or 32
  bool min = false;  // has minimums
  std::size_t tile_features = 0;
  std::size_t header_bytes = 0;
  std::size_t stored_bytes = 0;  // of a sub-tile, where its planes do not hold the codes themselves

  constexpr std::size_t sub_bytes() const {
    return stored_bytes != 0 ? stored_bytes : 64 * static_cast<std::size_t>(bits);
  }
  constexpr std::size_t tile_subs() const { return tile_features / kSubTile; }
  constexpr std::size_t tile_bytes() const { return header_bytes + tile_subs() * sub_bytes(); }
};

constexpr PackedFormat packed_format(DType dtype) {
  switch (dtype) {
    case DType::Q8_0:
      return {8, 128, 32, false, 32, 32};
    case DType::Q4_0:
      return {4, 8, 32, false, 32, 32};
    case DType::Q4_1:
      return {4, 0, 32, true, 32, 64};
    case DType::Q5_0:
      return {5, 16, 32, false, 32, 32};
    case DType::Q5_1:
      return {5, 0, 32, true, 32, 64};
    case DType::Q2_K:
      return {2, 0, 16, true, 256, 64 + 256};
    case DType::Q3_K:
      return {3, 4, 16, false, 256, 32 + 192};
    case DType::Q4_K:
      return {4, 0, 32, true, 256, 64 + 192};
    case DType::Q5_K:
      return {5, 0, 32, true, 256, 64 + 192};
    case DType::Q6_K:
      return {6, 32, 16, false, 256, 32 + 256};
    case DType::IQ4_NL:
      return {8, 128, 32, false, 32, 32, 256};
    case DType::IQ4_XS:
      return {8, 128, 32, false, 256, 32 + 96, 256};
    case DType::IQ3_XXS:
      return {7, 64, 32, false, 256, 32 + 64, 128 + 64};
    case DType::IQ3_S:
      return {5, 16, 32, false, 256, 32 + 64 + 128, 128 + 64};
    case DType::IQ2_XXS:
      return {7, 64, 32, false, 256, 32 + 64, 64 + 64};
    case DType::IQ2_XS:
      return {7, 64, 16, false, 256, 32 + 128 + 64, 64 + 64};
    case DType::IQ2_S:
      return {7, 64, 16, false, 256, 32 + 128 + 128, 64 + 64};
    case DType::IQ1_S:
      return {5, 16, 32, false, 256, 32 + 256, 64};
    case DType::IQ1_M:
      return {5, 16, 16, false, 256, 32 + 128 + 256, 64};
    default:
      return {};
  }
}

/// One token's activations over a chunk of 256 features, quantised: x = d * q per 32 features.
struct ActivationRecord {
  std::int8_t q[kChunk];             // -127..127
  float d[kChunkSubs];               // NaN if the 32 features hold a NaN or an infinity
  std::int16_t sum[2 * kChunkSubs];  // of q over 16 features
  float sum32[kChunkSubs];           // d * the sum of q over 32 features
  float sum16[2 * kChunkSubs];       // d * the sum of q over 16 features
};
static_assert(sizeof(ActivationRecord) == 416);

/// A chunk of one group with its codes and scales spread out, in the first cache: what the kernels
/// for several tokens read.
struct UnpackedTile {
  alignas(64) std::uint8_t codes[kChunk / 4][4 * kGroupRows];
  alignas(64) float scale[2 * kChunkSubs][kGroupRows];  // by 32 features, or by 16 if sub is 16
  alignas(64) float min[2 * kChunkSubs][kGroupRows];
};

}  // namespace fathom::cpu
