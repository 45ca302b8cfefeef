// Bytes of packed headers, thirty-two at a time: for units compiled with AVX2 and what includes it.
// Compilers left to themselves make scalar code of these. Always inline: a copy that one unit made
// with AVX-512 must not serve another.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace fathom::cpu {

/// A pair of sub-tiles' six-bit numbers, two a byte (packed_layout.h: lo[2][16], hi[16]), as bytes:
/// first and second are [2][16].
[[gnu::always_inline]] inline void spread_six_bits(const std::uint8_t* low,
                                                   const std::uint8_t* high, std::uint8_t* first,
                                                   std::uint8_t* second) {
  const __m256i nibble = _mm256_set1_epi8(15);
  const __m128i sixteen = _mm_loadu_si128(reinterpret_cast<const __m128i*>(high));
  const __m256i upper =
      _mm256_and_si256(_mm256_setr_m128i(sixteen, _mm_srli_epi16(sixteen, 4)), nibble);
  const __m256i lower = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(low));
  const __m256i a = _mm256_and_si256(upper, _mm256_set1_epi8(3));
  const __m256i b = _mm256_and_si256(upper, _mm256_set1_epi8(12));
  const auto store = [](std::uint8_t* to, __m256i x, __m256i y) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_or_si256(x, y));
  };
  store(first, _mm256_and_si256(lower, nibble), _mm256_slli_epi16(a, 4));
  store(second, _mm256_and_si256(_mm256_srli_epi16(lower, 4), nibble), _mm256_slli_epi16(b, 2));
}

/// Thirty-two bytes' nibbles.
[[gnu::always_inline]] inline void spread_nibbles(const std::uint8_t* bytes, std::uint8_t* low,
                                                  std::uint8_t* high) {
  const __m256i nibble = _mm256_set1_epi8(15);
  const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(low), _mm256_and_si256(both, nibble));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(high),
                      _mm256_and_si256(_mm256_srli_epi16(both, 4), nibble));
}

}  // namespace fathom::cpu
