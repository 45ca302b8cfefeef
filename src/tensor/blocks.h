// The layouts of GGUF's quantised blocks, as they lie in a file, and the unpacking of their packed
// scales. Owns no arithmetic on weights: see quantise.h for the reference, backend/cpu for kernels.
//
// Every struct is packed (alignment 1), hence a mapped file's bytes may be read through it at any
// offset. Multi-byte fields are little-endian; F16 fields hold raw bits (half.h turns them into
// floats). `x` below is the block's element, `i` its index in the block.
//
// Layout facts: the ggml project's GGUF quantisation types, as its `gguf` Python package decodes
// them.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

namespace fathom {

static_assert(std::endian::native == std::endian::little, "blocks are read in place");

/// Elements of a small block (Q8_0, Q4_0, Q4_1, Q5_0, Q5_1).
inline constexpr std::size_t kBlock = 32;
/// Elements of a K-quant's super-block, which holds 8 or 16 sub-blocks with scales of their own.
inline constexpr std::size_t kSuperBlock = 256;

// ---- 32 elements, one scale ----------------------------------------------------------------

/// x = d * q[i]
struct [[gnu::packed]] BlockQ8_0 {
  static constexpr DType kType = DType::Q8_0;
  std::uint16_t d;        // F16 scale
  std::int8_t q[kBlock];  // written in -127..127; a file may hold -128
};

/// x = d * (q - 8), q in 0..15
struct [[gnu::packed]] BlockQ4_0 {
  static constexpr DType kType = DType::Q4_0;
  std::uint16_t d;             // F16 scale
  std::uint8_t q[kBlock / 2];  // byte i: low nibble is element i, high nibble element i + 16
};

/// x = d * q + m, q in 0..15
struct [[gnu::packed]] BlockQ4_1 {
  static constexpr DType kType = DType::Q4_1;
  std::uint16_t d;             // F16 scale
  std::uint16_t m;             // F16 minimum
  std::uint8_t q[kBlock / 2];  // nibbles as in Q4_0
};

/// x = d * (q - 16), q in 0..31
struct [[gnu::packed]] BlockQ5_0 {
  static constexpr DType kType = DType::Q5_0;
  std::uint16_t d;             // F16 scale
  std::uint8_t qh[4];          // as one little-endian word: bit i is element i's fifth bit
  std::uint8_t q[kBlock / 2];  // the low four bits, nibbles as in Q4_0
};

/// x = d * q + m, q in 0..31
struct [[gnu::packed]] BlockQ5_1 {
  static constexpr DType kType = DType::Q5_1;
  std::uint16_t d;             // F16 scale
  std::uint16_t m;             // F16 minimum
  std::uint8_t qh[4];          // fifth bits as in Q5_0
  std::uint8_t q[kBlock / 2];  // the low four bits, nibbles as in Q4_0
};

// ---- 256 elements, scales of sub-blocks quantised too --------------------------------------

/// 16 sub-blocks of 16: x = (d * (scales[s] & 15)) * q - dmin * (scales[s] >> 4), s = i / 16,
/// q in 0..3
struct [[gnu::packed]] BlockQ2_K {
  static constexpr DType kType = DType::Q2_K;
  std::uint8_t scales[16];  // sub-block s: scale in the low nibble, minimum in the high one
  std::uint8_t q[64];       // 2 bits: elements 128*h + 32*j + l are bits 2j.. of byte 32*h + l
  std::uint16_t d;          // F16 scale of the scales
  std::uint16_t dmin;       // F16 scale of the minimums
};

/// 16 sub-blocks of 16: x = (d * (scale[s] - 32)) * q, s = i / 16, q in -4..3
struct [[gnu::packed]] BlockQ3_K {
  static constexpr DType kType = DType::Q3_K;
  std::uint8_t hmask[32];   // bit i / 32 of byte i % 32 is element i's third bit, *clear* for q < 0
  std::uint8_t q[64];       // low two bits as in Q2_K; q = low bits - (third bit clear ? 4 : 0)
  std::uint8_t scales[12];  // 16 scales of 6 bits: unpack_scales_q3_k
  std::uint16_t d;          // F16 scale of the scales
};

/// 8 sub-blocks of 32: x = (d * scale[s]) * q - dmin * min[s], s = i / 32, q in 0..15
struct [[gnu::packed]] BlockQ4_K {
  static constexpr DType kType = DType::Q4_K;
  std::uint16_t d;          // F16 scale of the scales
  std::uint16_t dmin;       // F16 scale of the minimums
  std::uint8_t scales[12];  // 8 scales and 8 minimums of 6 bits: unpack_scales_q4_k
  std::uint8_t q[128];      // byte 32*c + l: element 64*c + l in the low nibble, 64*c + 32 + l high
};

/// 8 sub-blocks of 32: x = (d * scale[s]) * q - dmin * min[s], s = i / 32, q in 0..31
struct [[gnu::packed]] BlockQ5_K {
  static constexpr DType kType = DType::Q5_K;
  std::uint16_t d;          // F16 scale of the scales
  std::uint16_t dmin;       // F16 scale of the minimums
  std::uint8_t scales[12];  // as in Q4_K
  std::uint8_t qh[32];      // bit i / 32 of byte i % 32 is element i's fifth bit
  std::uint8_t q[128];      // the low four bits, nibbles as in Q4_K
};

/// 16 sub-blocks of 16: x = (d * scales[s]) * (q - 32), s = i / 16, q in 0..63
struct [[gnu::packed]] BlockQ6_K {
  static constexpr DType kType = DType::Q6_K;
  std::uint8_t ql[128];    // low four bits: byte 64*h + l holds 128*h + l low, 128*h + 64 + l high
  std::uint8_t qh[64];     // high two bits: 128*h + 32*j + l are bits 2j.. of byte 32*h + l
  std::int8_t scales[16];  // signed 8-bit scales
  std::uint16_t d;         // F16 scale of the scales
};

// ---- lattices: points named by their rank (lattices.h) --------------------------------------
//
// "Octet" and "quad" o: elements 8*o.. and 4*o.. of the block. A sign byte's bit k is set where
// element k of the octet is negative; of seven stored signs the eighth makes the number even.

/// x = d * (0.5 + scale) / 4 * sign * level. Of each 32 elements two words: the ranks of four
/// octets (a byte each), then four times seven signs (octet o at bit 7*o) and a scale of 4 bits.
struct [[gnu::packed]] BlockIQ2_XXS {
  static constexpr DType kType = DType::IQ2_XXS;
  std::uint16_t d;        // F16 scale
  std::uint32_t q[8][2];  // [32 elements][ranks, signs and scale]
};

/// x = d * (0.5 + scale[i / 16]) / 4 * sign * level
struct [[gnu::packed]] BlockIQ2_XS {
  static constexpr DType kType = DType::IQ2_XS;
  std::uint16_t d;         // F16 scale
  std::uint16_t q[32];     // octet's rank in 9 bits, its seven signs above
  std::uint8_t scales[8];  // of 32 elements: the first 16's in the low nibble
};

/// x = d * (0.5 + scale[i / 16]) / 4 * sign * level
struct [[gnu::packed]] BlockIQ2_S {
  static constexpr DType kType = DType::IQ2_S;
  std::uint16_t d;         // F16 scale
  std::uint8_t q[32];      // low eight bits of the octets' ranks
  std::uint8_t signs[32];  // of each octet, all eight
  std::uint8_t qh[8];      // of 32 elements: two more bits of rank for each of four octets
  std::uint8_t scales[8];  // as in IQ2_XS
};

/// x = d * (0.5 + scale) / 2 * sign * level
struct [[gnu::packed]] BlockIQ3_XXS {
  static constexpr DType kType = DType::IQ3_XXS;
  std::uint16_t d;         // F16 scale
  std::uint8_t q[64];      // quads' ranks
  std::uint32_t signs[8];  // of 32 elements: four octets' seven signs, then a scale of 4 bits
};

/// x = d * (1 + 2 * scale) * sign * level
struct [[gnu::packed]] BlockIQ3_S {
  static constexpr DType kType = DType::IQ3_S;
  std::uint16_t d;         // F16 scale
  std::uint8_t q[64];      // low eight bits of the quads' ranks
  std::uint8_t qh[8];      // of 32 elements: the ninth bit for each of eight quads
  std::uint8_t signs[32];  // of each octet
  std::uint8_t scales[4];  // of 64 elements: the first 32's in the low nibble
};

/// x = d * (1 + 2 * scale) * (digit - 1 +- 1/8)
struct [[gnu::packed]] BlockIQ1_S {
  static constexpr DType kType = DType::IQ1_S;
  std::uint16_t d;      // F16 scale
  std::uint8_t q[32];   // low eight bits of the octets' ranks
  std::uint16_t qh[8];  // of 32 elements: 3 more bits for each octet, a scale of 3 bits at bit 12,
                        // and bit 15 set where the eighth is taken off
};

/// x = d * (1 + 2 * scale[i / 16]) * (digit - 1 +- 1/8)
struct [[gnu::packed]] BlockIQ1_M {
  static constexpr DType kType = DType::IQ1_M;
  std::uint8_t q[32];       // low eight bits of the octets' ranks
  std::uint8_t qh[16];      // octet's nibble: 3 more bits, and 8 where the eighth is taken off
  std::uint16_t scales[4];  // of 64 elements: four scales of 3 bits; the top nibbles are d's F16
};

// ---- 16 uneven values -----------------------------------------------------------------------

/// x = d * kIq4Values[q]
struct [[gnu::packed]] BlockIQ4_NL {
  static constexpr DType kType = DType::IQ4_NL;
  std::uint16_t d;             // F16 scale
  std::uint8_t q[kBlock / 2];  // nibbles as in Q4_0
};

/// 8 sub-blocks of 32: x = (d * (scale[s] - 32)) * kIq4Values[q]
struct [[gnu::packed]] BlockIQ4_XS {
  static constexpr DType kType = DType::IQ4_XS;
  std::uint16_t d;           // F16 scale
  std::uint16_t scales_h;    // upper two bits of scale s at bit 2*s
  std::uint8_t scales_l[4];  // low four bits: scale 2*k in the low nibble of byte k
  std::uint8_t q[128];       // of sub-block s 16 bytes, nibbles as in Q4_0
};

static_assert(sizeof(BlockQ8_0) == 34 && sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_1) == 20);
static_assert(sizeof(BlockQ5_0) == 22 && sizeof(BlockQ5_1) == 24 && sizeof(BlockQ2_K) == 84);
static_assert(sizeof(BlockQ3_K) == 110 && sizeof(BlockQ4_K) == 144 && sizeof(BlockQ5_K) == 176);
static_assert(sizeof(BlockQ6_K) == 210 && alignof(BlockQ6_K) == 1 && alignof(BlockQ4_K) == 1);
static_assert(sizeof(BlockIQ2_XXS) == 66 && sizeof(BlockIQ2_XS) == 74 && sizeof(BlockIQ2_S) == 82);
static_assert(sizeof(BlockIQ3_XXS) == 98 && sizeof(BlockIQ3_S) == 110 && sizeof(BlockIQ1_S) == 50);
static_assert(sizeof(BlockIQ1_M) == 56 && sizeof(BlockIQ4_NL) == 18 && sizeof(BlockIQ4_XS) == 136);

// ---- packed scales -------------------------------------------------------------------------

/// Scales and minimums of Q4_K and Q5_K, each 0..63.
struct ScalesQ4K {
  std::array<std::uint8_t, 8> scale;
  std::array<std::uint8_t, 8> min;
};

/// Sub-blocks 0..3 keep their six bits in the low part of bytes 0..3 (scale) and 4..7 (minimum).
/// Of sub-blocks 4..7 the low four bits are in bytes 8..11 (scale low, minimum high nibble), and
/// the high two on top of bytes 0..3 and 4..7.
constexpr ScalesQ4K unpack_scales_q4_k(const std::uint8_t (&packed)[12]) {
  ScalesQ4K out{};
  for (std::size_t s = 0; s < 4; ++s) {
    const unsigned low = packed[s], mid = packed[s + 4], high = packed[s + 8];
    out.scale[s] = static_cast<std::uint8_t>(low & 63U);
    out.min[s] = static_cast<std::uint8_t>(mid & 63U);
    out.scale[s + 4] = static_cast<std::uint8_t>((high & 15U) | ((low >> 6) << 4));
    out.min[s + 4] = static_cast<std::uint8_t>((high >> 4) | ((mid >> 6) << 4));
  }
  return out;
}

constexpr void pack_scales_q4_k(const ScalesQ4K& in, std::uint8_t (&packed)[12]) {
  for (std::size_t s = 0; s < 4; ++s) {
    packed[s] = static_cast<std::uint8_t>(in.scale[s] | ((in.scale[s + 4] >> 4) << 6));
    packed[s + 4] = static_cast<std::uint8_t>(in.min[s] | ((in.min[s + 4] >> 4) << 6));
    packed[s + 8] =
        static_cast<std::uint8_t>((in.scale[s + 4] & 15U) | ((in.min[s + 4] & 15U) << 4));
  }
}

/// Scales of Q3_K, -32..31. The low four bits of scale s are in byte s % 8 (low nibble for s < 8),
/// the high two in byte 8 + s % 4, at bit 2 * (s / 4); stored with 32 added.
constexpr std::array<std::int8_t, 16> unpack_scales_q3_k(const std::uint8_t (&packed)[12]) {
  std::array<std::int8_t, 16> out{};
  for (std::size_t s = 0; s < 16; ++s) {
    const unsigned low = (packed[s % 8] >> (4 * (s / 8))) & 15U;
    const unsigned high = (packed[8 + s % 4] >> (2 * (s / 4))) & 3U;
    out[s] = static_cast<std::int8_t>(static_cast<int>(low | (high << 4)) - 32);
  }
  return out;
}

constexpr void pack_scales_q3_k(const std::array<std::int8_t, 16>& in, std::uint8_t (&packed)[12]) {
  for (std::uint8_t& byte : packed) byte = 0;
  for (std::size_t s = 0; s < 16; ++s) {
    const auto stored = static_cast<unsigned>(in[s] + 32);
    packed[s % 8] = static_cast<std::uint8_t>(packed[s % 8] | ((stored & 15U) << (4 * (s / 8))));
    packed[8 + s % 4] =
        static_cast<std::uint8_t>(packed[8 + s % 4] | ((stored >> 4) << (2 * (s / 4))));
  }
}

/// Scales of IQ4_XS, -32..31.
constexpr std::array<std::int8_t, 8> unpack_scales_iq4_xs(std::uint16_t high,
                                                          const std::uint8_t (&low)[4]) {
  std::array<std::int8_t, 8> out{};
  for (std::size_t s = 0; s < 8; ++s) {
    const unsigned four = (low[s / 2] >> (4 * (s % 2))) & 15U;
    out[s] = static_cast<std::int8_t>(static_cast<int>(four | ((high >> (2 * s)) & 3U) << 4) - 32);
  }
  return out;
}

/// The F16 scale of an IQ1_M block, gathered from the top nibbles of its four words of scales.
constexpr std::uint16_t scale_of_iq1_m(const std::uint16_t (&scales)[4]) {
  return static_cast<std::uint16_t>((scales[0] >> 12) | ((scales[1] >> 8) & 0x00F0U) |
                                    ((scales[2] >> 4) & 0x0F00U) | (scales[3] & 0xF000U));
}

}  // namespace fathom
