// Eight lanes of AVX2 with FMA and F16C: only for units named *_avx2.cpp. See simd_avx512.h.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "backend/cpu/header_bytes_avx2.h"
#include "backend/cpu/packed_layout.h"
#include "base/cpu_features.h"

namespace fathom::cpu {

struct Avx2 {
  static constexpr const char* kName = "avx2";
  static constexpr CpuLevel kLevel = CpuLevel::Avx2;
  static constexpr int kLanes = 8;
  static constexpr int kSide = 2;  // both halves of a group
  static constexpr int kTokens = 4;
  static constexpr int kStreamTokens = 2;
  static constexpr int kStreamMost = 8;
  static constexpr int kStreamMostBytes = 32;  // twice the stores to take them apart
  static constexpr int kF32Tokens = 6;
  static constexpr int kDotTokens = 3;
  static constexpr bool kPermutes = false;  // has a permutation that reaches so far
  static constexpr int kDotRows = 2;
  using F = __m256;
  using I = __m256i;

  static F zero() { return _mm256_setzero_ps(); }
  static F all(float x) { return _mm256_set1_ps(x); }
  static F load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, F x) { _mm256_storeu_ps(p, x); }
  static F add(F a, F b) { return _mm256_add_ps(a, b); }
  static F sub(F a, F b) { return _mm256_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F div(F a, F b) { return _mm256_div_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  /// a < b ? a : b, thus b if either is NaN.
  static F min(F a, F b) { return _mm256_min_ps(a, b); }
  static F max(F a, F b) { return _mm256_max_ps(a, b); }
  static F half(const void* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  }
  static F brain(const void* p) {
    const __m128i bits = _mm_loadu_si128(static_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
  /// The first and the second of each pair of BF16.
  static F brain_even(const void* p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(words(p), 16));
  }
  static F brain_odd(const void* p) {
    return _mm256_castsi256_ps(_mm256_and_si256(words(p), all_words(0xFFFF0000U)));
  }
  static float sum(F x) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }

  static void transpose(F* rows) {
    F pair[8];
    F quad[8];
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
      pair[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
      pair[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
      quad[i] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0x44);
      quad[i + 1] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0xEE);
      quad[i + 2] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0x44);
      quad[i + 3] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0xEE);
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
      rows[c] = _mm256_permute2f128_ps(quad[c], quad[4 + c], 0x20);
      rows[4 + c] = _mm256_permute2f128_ps(quad[c], quad[4 + c], 0x31);
    }
  }
  static float largest(F x) {
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
  }

  static I words(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  static void store_words(void* p, I x) { _mm256_storeu_si256(static_cast<__m256i*>(p), x); }
  static I all_words(std::uint32_t x) { return _mm256_set1_epi32(static_cast<int>(x)); }
  static I bytes(const void* p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p)));
  }
  static I signed_bytes(const void* p) {
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p)));
  }
  /// Byte k of each lane, with its sign.
  static I signed_byte(I w, int k) {
    return _mm256_srai_epi32(_mm256_slli_epi32(w, 24 - 8 * k), 24);
  }
  static void spread_six_bits(const std::uint8_t* low, const std::uint8_t* high,
                              std::uint8_t* first, std::uint8_t* second) {
    cpu::spread_six_bits(low, high, first, second);
  }
  static void spread_nibbles(const std::uint8_t* bytes, std::uint8_t* low, std::uint8_t* high) {
    cpu::spread_nibbles(bytes, low, high);
  }
  static I bit_and(I a, I b) { return _mm256_and_si256(a, b); }
  static I bit_or(I a, I b) { return _mm256_or_si256(a, b); }
  static I add_words(I a, I b) { return _mm256_add_epi32(a, b); }
  static I sub_words(I a, I b) { return _mm256_sub_epi32(a, b); }
  static I left(I a, int n) { return _mm256_sll_epi32(a, _mm_cvtsi32_si128(n)); }
  /// a, where F32 has its exponent.
  static I exponent(I a) { return _mm256_slli_epi32(a, 23); }
  static I right(I a, int n) { return _mm256_srl_epi32(a, _mm_cvtsi32_si128(n)); }
  static F to_float(I x) { return _mm256_cvtepi32_ps(x); }
  static I round(F x) { return _mm256_cvtps_epi32(x); }
  static I bits(F x) { return _mm256_castps_si256(x); }
  static F from_bits(I x) { return _mm256_castsi256_ps(x); }
  static F half_words(I x) {
    const __m128i halves =
        _mm_packus_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    return _mm256_cvtph_ps(halves);
  }
  static I where_equal(I a, I b, I yes, I no) {
    return _mm256_blendv_epi8(no, yes, _mm256_cmpeq_epi32(a, b));
  }
  static I max_words(I a, I b) { return _mm256_max_epu32(a, b); }
  static std::uint32_t max_word(I x) {
    __m128i m = _mm_max_epu32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4E));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0xB1));
    return static_cast<std::uint32_t>(_mm_cvtsi128_si32(m));
  }
  static int sum_words(I x) {
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4E));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xB1));
    return _mm_cvtsi128_si32(s);
  }
  /// The low byte of each lane, which must hold -128..127.
  static void store_bytes(void* p, I x) {
    const __m128i words16 =
        _mm_packs_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    _mm_storel_epi64(static_cast<__m128i*>(p), _mm_packs_epi16(words16, words16));
  }

  /// Of each byte's low four bits (the rest being zero), that byte of the table.
  static I lookup(const std::uint8_t* table, I w) {
    const __m128i sixteen = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(sixteen), w);
  }
  /// table[ranks]. Plain loads: gathers are slow on much of what has AVX2 and no AVX-512, and on
  /// Intel's since Downfall.
  static I quads(const std::uint32_t* table, I ranks) {
    alignas(32) std::uint32_t r[8];
    store_words(r, ranks);
    const auto at = [&](int i) { return static_cast<int>(table[r[i]]); };
    return _mm256_setr_epi32(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7));
  }
  /// The first and the second four bytes of table[ranks].
  static void octets(const std::uint64_t* table, I ranks, I& first, I& second) {
    alignas(32) std::uint32_t r[8];
    store_words(r, ranks);
    const auto at = [&](int i) { return static_cast<std::int64_t>(table[r[i]]); };
    const F a = _mm256_castsi256_ps(_mm256_setr_epi64x(at(0), at(1), at(4), at(5)));
    const F b = _mm256_castsi256_ps(_mm256_setr_epi64x(at(2), at(3), at(6), at(7)));
    first = _mm256_castps_si256(_mm256_shuffle_ps(a, b, 0x88));
    second = _mm256_castps_si256(_mm256_shuffle_ps(a, b, 0xDD));
  }
  /// Bytes of w become Sum - w where bit j of the same byte of `signs` is set.
  template <int Sum>
  static I mirror(I w, I signs, int j) {
    const I mirrored = _mm256_sub_epi8(_mm256_set1_epi8(static_cast<char>(Sum)), w);
    return _mm256_blendv_epi8(w, mirrored, left(signs, 7 - j));
  }
  /// w - amount in the lanes whose `flags` have that bit, byte by byte without borrows.
  static I subtract_where(I w, I flags, std::uint32_t bit, I amount) {
    const I set = _mm256_cmpeq_epi32(bit_and(flags, all_words(bit)), all_words(bit));
    return _mm256_sub_epi32(w, bit_and(set, amount));
  }

  template <int Zero, int First, int N>
  static I offset(const ActivationRecord& x, int b) {
    if constexpr (Zero == 0) {
      return _mm256_setzero_si256();
    } else {
      constexpr std::uint32_t z = static_cast<std::uint16_t>(-Zero);
      constexpr std::uint32_t pair = (First == 0 ? z : 0U) | (First + N == 8 ? z << 16 : 0U);
      std::int32_t sums;
      std::memcpy(&sums, x.sum + 2 * b, 4);
      return _mm256_madd_epi16(_mm256_set1_epi32(sums), all_words(pair));
    }
  }
  static I four(const ActivationRecord& x, int b, int j) {
    std::int32_t word;
    std::memcpy(&word, x.q + 32 * b + 4 * j, 4);
    return _mm256_set1_epi32(word);
  }
  static I widen(I pairs) { return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)); }

  /// Products of four codes that fit 16 bits when added up: 2 * 127 * (2^Bits - 1) * depth < 2^15.
  template <int Bits>
  static constexpr int kDepth = Bits <= 4   ? 8
                                : Bits == 5 ? 4
                                : Bits == 6 ? 2
                                            : 1;

  /// Integer sums are exact in any order, and compilers know: GCC makes trees of these chains, with
  /// more leaves than there are registers. An order that it cannot see through stays as written.
  static I in_order(I x) {
    asm("" : "+x"(x));
    return x;
  }

  /// sums[r * T + t] = the product of codes First..First+N (vectors 64 bytes apart) of R vectors,
  /// each `stride` bytes after the last, with T tokens' activations b.
  template <int Bits, int Zero, int First, int N, int R, int T>
  static void dot(const std::uint8_t* codes, std::size_t stride, const ActivationRecord* x, int b,
                  I* sums) {
    const auto code = [&](int r, int j) {
      return words(codes + static_cast<unsigned>(r) * stride +
                   4 * kGroupRows * static_cast<unsigned>(j));
    };
    if constexpr (Bits == 8) {
      // Codes of 8 bits would overflow: they are made signed again (hence need no offset), and
      // their sign is moved to the activation.
#pragma GCC unroll 8
      for (int i = 0; i < R * T; ++i) sums[i] = _mm256_setzero_si256();
#pragma GCC unroll 8
      for (int j = First; j < First + N; ++j) {
        I q[R];
        I size[R];
#pragma GCC unroll 2
        for (int r = 0; r < R; ++r) {
          q[r] = _mm256_xor_si256(code(r, j), _mm256_set1_epi8(-128));
          size[r] = _mm256_abs_epi8(q[r]);
        }
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) {
          const I activations = four(x[t], b, j);
#pragma GCC unroll 2
          for (int r = 0; r < R; ++r) {
            const I signs = _mm256_sign_epi8(activations, q[r]);
            I& sum = sums[r * T + t];
            sum = in_order(_mm256_add_epi32(sum, widen(_mm256_maddubs_epi16(size[r], signs))));
          }
        }
      }
    } else {
      constexpr int depth = kDepth<Bits> < N ? kDepth<Bits> : N;
#pragma GCC unroll 8
      for (int j0 = First; j0 < First + N; j0 += depth) {
        I pairs[R * T];
#pragma GCC unroll 8
        for (int j = j0; j < j0 + depth; ++j) {
          I w[R];
#pragma GCC unroll 2
          for (int r = 0; r < R; ++r) w[r] = code(r, j);
#pragma GCC unroll 4
          for (int t = 0; t < T; ++t) {
            const I activations = four(x[t], b, j);
#pragma GCC unroll 2
            for (int r = 0; r < R; ++r) {
              const I product = _mm256_maddubs_epi16(w[r], activations);
              I& pair = pairs[r * T + t];
              pair = in_order(j == j0 ? product : _mm256_add_epi16(pair, product));
            }
          }
        }
#pragma GCC unroll 8
        for (int i = 0; i < R * T; ++i) {
          const I start = j0 == First ? offset<Zero, First, N>(x[i % T], b) : sums[i];
          sums[i] = _mm256_add_epi32(start, widen(pairs[i]));
        }
      }
    }
  }
  /// The same for codes in registers: one vector, one token.
  template <int Bits, int Zero, int First, int N, int T>
  static void dot(const I* w, const ActivationRecord* x, int b, I* sums) {
    static_assert(T == 1);
    I sum = _mm256_setzero_si256();
    if constexpr (Bits == 8) {
#pragma GCC unroll 8
      for (int j = First; j < First + N; ++j) {
        const I q = _mm256_xor_si256(w[j], _mm256_set1_epi8(-128));
        const I signs = _mm256_sign_epi8(four(*x, b, j), q);
        sum =
            in_order(_mm256_add_epi32(sum, widen(_mm256_maddubs_epi16(_mm256_abs_epi8(q), signs))));
      }
    } else {
      constexpr int depth = kDepth<Bits> < N ? kDepth<Bits> : N;
      sum = offset<Zero, First, N>(*x, b);
#pragma GCC unroll 8
      for (int i0 = 0; i0 < N; i0 += depth) {
        I pairs = _mm256_setzero_si256();
#pragma GCC unroll 8
        for (int i = i0; i < i0 + depth; ++i) {
          // Both nibbles of a byte one after the other: of eight vectors few are held at a time.
          const int j = N == 8 ? i / 2 + 4 * (i % 2) : First + i;
          const I product = _mm256_maddubs_epi16(w[j], four(*x, b, j));
          pairs = in_order(i == i0 ? product : _mm256_add_epi16(pairs, product));
        }
        sum = _mm256_add_epi32(sum, widen(pairs));
      }
    }
    sums[0] = sum;
  }
  /// Both halves of a group, w[2][8] in registers, so that they share each activation:
  /// sums[half * T + t].
  template <int Bits, int Zero, int First, int N, int T>
  static void dot_halves(const I (&w)[2][8], const ActivationRecord* x, int b, I* sums) {
    constexpr int depth = Bits == 8 ? 1 : kDepth<Bits> < N ? kDepth<Bits> : N;
#pragma GCC unroll 8
    for (int i = 0; i < 2 * T; ++i) {
      // Codes of 8 bits are made signed again, as above.
      sums[i] = Bits == 8 ? _mm256_setzero_si256() : offset<Zero, First, N>(x[i % T], b);
    }
#pragma GCC unroll 8
    for (int i0 = 0; i0 < N; i0 += depth) {
      I pairs[2 * T];
#pragma GCC unroll 8
      for (int i = i0; i < i0 + depth; ++i) {
        const int j = N == 8 ? i / 2 + 4 * (i % 2) : First + i;
        I code[2] = {w[0][j], w[1][j]};
        I signs[2] = {};
        if constexpr (Bits == 8) {
          for (int v = 0; v < 2; ++v) {
            signs[v] = _mm256_xor_si256(code[v], _mm256_set1_epi8(-128));
            code[v] = _mm256_abs_epi8(signs[v]);
          }
        }
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) {
          const I activations = four(x[t], b, j);
#pragma GCC unroll 2
          for (int v = 0; v < 2; ++v) {
            const I signed_too = Bits == 8 ? _mm256_sign_epi8(activations, signs[v]) : activations;
            const I product = _mm256_maddubs_epi16(code[v], signed_too);
            I& pair = pairs[v * T + t];
            pair = in_order(i == i0 ? product : _mm256_add_epi16(pair, product));
          }
        }
      }
#pragma GCC unroll 8
      for (int i = 0; i < 2 * T; ++i) {
        sums[i] = in_order(_mm256_add_epi32(sums[i], widen(pairs[i])));
      }
    }
  }

  /// acc plus four 8-bit products a lane, codes of up to 7 bits times signed bytes.
  static I add_product(I acc, I w, I x) {
    return _mm256_add_epi32(acc, widen(_mm256_maddubs_epi16(w, x)));
  }

  /// Makes the compiler believe that x is used, and may have changed.
  static void keep(F& x) { asm volatile("" : "+x"(x)); }
  static void keep(I& x) { asm volatile("" : "+x"(x)); }
};

}  // namespace fathom::cpu
