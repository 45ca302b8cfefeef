// The IQ types to F32: blocks.h's formulas, lattices.h's points.
//
// Scales have 11 bits, their factors at most 6, levels at most 7: every product here is exact, so
// that the order of factors does not matter and results are the `gguf` package's, bit for bit.
#include "tensor/decode_iq.h"

#include <cstring>

#include "tensor/half.h"
#include "tensor/lattices.h"

namespace fathom::decode_iq {
namespace {

/// out[k] = scale * level of digit k, negative where bit k of `signs` is set. Digits: bytes of a
/// lattice's member.
template <typename Word, typename Levels>
void write_point(Word digits, const Levels& levels, unsigned signs, float scale, float* out) {
  for (unsigned k = 0; k < sizeof(Word); ++k) {
    const float magnitude = scale * static_cast<float>(levels[digits >> (8 * k) & 255U]);
    out[k] = (signs >> k & 1U) != 0 ? -magnitude : magnitude;
  }
}

/// IQ1: digits -1, 0, 1 moved by an eighth.
void write_ternary(std::uint64_t digits, bool minus, float scale, float* out) {
  const float shift = minus ? -1.125F : -0.875F;
  for (unsigned k = 0; k < 8; ++k) {
    out[k] = scale * (static_cast<float>(digits >> (8 * k) & 255U) + shift);
  }
}

unsigned nibble(const std::uint8_t* bytes, std::size_t i) {
  return (bytes[i / 2] >> (4 * (i % 2))) & 15U;
}

}  // namespace

void decode(const BlockIQ1_S& block, float* out) {
  const float d = f16_to_f32(block.d);
  for (std::size_t octet = 0; octet < 32; ++octet) {
    const unsigned word = block.qh[octet / 4];
    const float scale = d * static_cast<float>(2 * ((word >> 12) & 7U) + 1);
    const unsigned rank = block.q[octet] | ((word >> (3 * (octet % 4))) & 7U) << 8;
    write_ternary(lattice::kIq1[rank], (word & 0x8000U) != 0, scale, out + 8 * octet);
  }
}

void decode(const BlockIQ1_M& block, float* out) {
  std::uint16_t words[4];
  std::memcpy(words, &block.scales, sizeof(words));
  const float d = f16_to_f32(scale_of_iq1_m(words));
  for (std::size_t octet = 0; octet < 32; ++octet) {
    const unsigned three = (words[octet / 8] >> (3 * (octet / 2 % 4))) & 7U;
    const unsigned four = nibble(block.qh, octet);
    const unsigned rank = block.q[octet] | (four & 7U) << 8;
    write_ternary(lattice::kIq1[rank], (four & 8U) != 0, d * static_cast<float>(2 * three + 1),
                  out + 8 * octet);
  }
}

void decode(const BlockIQ2_XXS& block, float* out) {
  const float d = f16_to_f32(block.d) * 0.125F;
  for (std::size_t octet = 0; octet < 32; ++octet) {
    const std::size_t run = octet / 4;
    const std::uint32_t ranks = block.q[run][0];
    const std::uint32_t word = block.q[run][1];
    const unsigned rank = (ranks >> (8 * (octet % 4))) & 255U;
    const unsigned signs = lattice::even_signs((word >> (7 * (octet % 4))) & 127U);
    write_point(lattice::kIq2Xxs[rank], lattice::kIq2Levels, signs,
                d * static_cast<float>(2 * (word >> 28) + 1), out + 8 * octet);
  }
}

void decode(const BlockIQ2_XS& block, float* out) {
  const float d = f16_to_f32(block.d) * 0.125F;
  for (std::size_t octet = 0; octet < 32; ++octet) {
    const unsigned word = block.q[octet];
    write_point(lattice::kIq2Xs[word & 511U], lattice::kIq2Levels, lattice::even_signs(word >> 9),
                d * static_cast<float>(2 * nibble(block.scales, octet / 2) + 1), out + 8 * octet);
  }
}

void decode(const BlockIQ2_S& block, float* out) {
  const float d = f16_to_f32(block.d) * 0.125F;
  for (std::size_t octet = 0; octet < 32; ++octet) {
    const unsigned high = (block.qh[octet / 4] >> (2 * (octet % 4))) & 3U;
    write_point(lattice::kIq2S[block.q[octet] | high << 8], lattice::kIq2Levels, block.signs[octet],
                d * static_cast<float>(2 * nibble(block.scales, octet / 2) + 1), out + 8 * octet);
  }
}

void decode(const BlockIQ3_XXS& block, float* out) {
  const float d = f16_to_f32(block.d) * 0.25F;
  for (std::size_t quad = 0; quad < 64; ++quad) {
    const std::uint32_t word = block.signs[quad / 8];
    const unsigned signs = lattice::even_signs((word >> (7 * (quad / 2 % 4))) & 127U);
    write_point(lattice::kIq3Xxs[block.q[quad]], lattice::kIq3XxsLevels, signs >> (4 * (quad % 2)),
                d * static_cast<float>(2 * (word >> 28) + 1), out + 4 * quad);
  }
}

void decode(const BlockIQ3_S& block, float* out) {
  const float d = f16_to_f32(block.d);
  for (std::size_t quad = 0; quad < 64; ++quad) {
    const unsigned ninth = (block.qh[quad / 8] >> (quad % 8)) & 1U;
    const unsigned signs = static_cast<unsigned>(block.signs[quad / 2]) >> (4 * (quad % 2));
    write_point(lattice::kIq3S[block.q[quad] | ninth << 8], lattice::kIq3SLevels, signs,
                d * static_cast<float>(2 * nibble(block.scales, quad / 8) + 1), out + 4 * quad);
  }
}

void decode(const BlockIQ4_NL& block, float* out) {
  const float d = f16_to_f32(block.d);
  for (std::size_t i = 0; i < kBlock / 2; ++i) {
    out[i] = d * static_cast<float>(lattice::kIq4Values[block.q[i] & 15U]);
    out[i + 16] = d * static_cast<float>(lattice::kIq4Values[block.q[i] >> 4]);
  }
}

void decode(const BlockIQ4_XS& block, float* out) {
  const float d = f16_to_f32(block.d);
  const auto scales = unpack_scales_iq4_xs(block.scales_h, block.scales_l);
  for (std::size_t s = 0; s < 8; ++s, out += 32) {
    const float scale = d * static_cast<float>(scales[s]);
    for (std::size_t i = 0; i < 16; ++i) {
      const unsigned byte = block.q[16 * s + i];
      out[i] = scale * static_cast<float>(lattice::kIq4Values[byte & 15U]);
      out[i + 16] = scale * static_cast<float>(lattice::kIq4Values[byte >> 4]);
    }
  }
}

}  // namespace fathom::decode_iq
