// Sixteen lanes of AVX-512 (F, BW, DQ, VL and VNNI): only for units named *_avx512.cpp.
//
// The three simd_*.h offer the same names; the kernels are templates over them, so that every
// instruction set runs the same sums in the same order (matmul_simd.h, attention_simd.h).
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "backend/cpu/header_bytes_avx2.h"
#include "backend/cpu/packed_layout.h"
#include "base/cpu_features.h"

namespace fathom::cpu {

struct Avx512 {
  static constexpr const char* kName = "avx512";
  static constexpr CpuLevel kLevel = CpuLevel::Avx512;
  static constexpr int kLanes = 16;
  static constexpr int kSide = 2;  // vectors and tokens that a packed kernel keeps in registers
  static constexpr int kTokens = 6;
  static constexpr int kStreamTokens = 8;  // that share codes taken apart in registers
  static constexpr int kStreamMost = 32;
  static constexpr int kStreamMostBytes = 32;
  static constexpr int kF32Tokens = 12;
  static constexpr int kDotTokens = 6;     // the same for row products
  static constexpr bool kPermutes = true;  // has a permutation that reaches so far
  static constexpr int kDotRows = 4;
  using F = __m512;   // 16 floats
  using I = __m512i;  // 16 words, each a sum or four codes

  static F zero() { return _mm512_setzero_ps(); }
  static F all(float x) { return _mm512_set1_ps(x); }
  static F load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, F x) { _mm512_storeu_ps(p, x); }
  static F add(F a, F b) { return _mm512_add_ps(a, b); }
  static F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F div(F a, F b) { return _mm512_div_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  /// a < b ? a : b, thus b if either is NaN.
  static F min(F a, F b) { return _mm512_min_ps(a, b); }
  static F max(F a, F b) { return _mm512_max_ps(a, b); }
  static F half(const void* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
  }
  static F brain(const void* p) {
    const __m256i bits = _mm256_loadu_si256(static_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
  /// The first and the second of each pair of BF16.
  static F brain_even(const void* p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16));
  }
  static F brain_odd(const void* p) {
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(p), all_words(0xFFFF0000U)));
  }
  /// Lanes 8..15 onto 0..7, 4..7 onto 0..3, and so on: the order that all levels share.
  static float sum(F x) {
    const __m256 high = _mm512_extractf32x8_ps(x, 1);
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(x), high);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }

  /// rows[i] lane k becomes rows[k] lane i.
  static void transpose(F* rows) {
    F pair[16];
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
      pair[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
      pair[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
    }
    // quad[4 * i + c]: column c, 4 + c, 8 + c, 12 + c of rows 4 * i to 4 * i + 3.
    F quad[16];
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
      const auto low = [&](int a, int b) {
        return _mm512_castpd_ps(
            _mm512_unpacklo_pd(_mm512_castps_pd(pair[i + a]), _mm512_castps_pd(pair[i + b])));
      };
      const auto high = [&](int a, int b) {
        return _mm512_castpd_ps(
            _mm512_unpackhi_pd(_mm512_castps_pd(pair[i + a]), _mm512_castps_pd(pair[i + b])));
      };
      quad[i] = low(0, 2);
      quad[i + 1] = high(0, 2);
      quad[i + 2] = low(1, 3);
      quad[i + 3] = high(1, 3);
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
      const F a = _mm512_shuffle_f32x4(quad[c], quad[4 + c], 0x88);
      const F b = _mm512_shuffle_f32x4(quad[8 + c], quad[12 + c], 0x88);
      const F d = _mm512_shuffle_f32x4(quad[c], quad[4 + c], 0xDD);
      const F e = _mm512_shuffle_f32x4(quad[8 + c], quad[12 + c], 0xDD);
      rows[c] = _mm512_shuffle_f32x4(a, b, 0x88);
      rows[8 + c] = _mm512_shuffle_f32x4(a, b, 0xDD);
      rows[4 + c] = _mm512_shuffle_f32x4(d, e, 0x88);
      rows[12 + c] = _mm512_shuffle_f32x4(d, e, 0xDD);
    }
  }
  static float largest(F x) { return _mm512_reduce_max_ps(x); }

  static I words(const void* p) { return _mm512_loadu_si512(p); }
  static void store_words(void* p, I x) { _mm512_storeu_si512(p, x); }
  static I all_words(std::uint32_t x) { return _mm512_set1_epi32(static_cast<int>(x)); }
  static I bytes(const void* p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  }
  static I signed_bytes(const void* p) {
    return _mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  }
  /// Byte k of each lane, with its sign.
  static I signed_byte(I w, int k) {
    return _mm512_srai_epi32(_mm512_slli_epi32(w, static_cast<unsigned>(24 - 8 * k)), 24);
  }
  static void spread_six_bits(const std::uint8_t* low, const std::uint8_t* high,
                              std::uint8_t* first, std::uint8_t* second) {
    cpu::spread_six_bits(low, high, first, second);
  }
  static void spread_nibbles(const std::uint8_t* bytes, std::uint8_t* low, std::uint8_t* high) {
    cpu::spread_nibbles(bytes, low, high);
  }
  static I bit_and(I a, I b) { return _mm512_and_si512(a, b); }
  static I bit_or(I a, I b) { return _mm512_or_si512(a, b); }
  static I add_words(I a, I b) { return _mm512_add_epi32(a, b); }
  static I sub_words(I a, I b) { return _mm512_sub_epi32(a, b); }
  static I sub_bytes(I a, std::uint8_t b) {
    return _mm512_sub_epi8(a, _mm512_set1_epi8(static_cast<char>(b)));
  }
  static I left(I a, int n) { return _mm512_sll_epi32(a, _mm_cvtsi32_si128(n)); }
  /// a, where F32 has its exponent.
  static I exponent(I a) { return _mm512_slli_epi32(a, 23); }
  static I right(I a, int n) { return _mm512_srl_epi32(a, _mm_cvtsi32_si128(n)); }
  static F to_float(I x) { return _mm512_cvtepi32_ps(x); }
  static I round(F x) { return _mm512_cvtps_epi32(x); }
  static I bits(F x) { return _mm512_castps_si512(x); }
  static F from_bits(I x) { return _mm512_castsi512_ps(x); }
  /// The low half of each lane, as F16.
  static F half_words(I x) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(x)); }
  /// `yes` where a == b.
  static I where_equal(I a, I b, I yes, I no) {
    return _mm512_mask_blend_epi32(_mm512_cmpeq_epi32_mask(a, b), no, yes);
  }
  static I max_words(I a, I b) { return _mm512_max_epu32(a, b); }
  static std::uint32_t max_word(I x) { return _mm512_reduce_max_epu32(x); }
  static int sum_words(I x) { return _mm512_reduce_add_epi32(x); }
  /// The low half of each lane.
  static void store_halves(void* p, I x) {
    _mm256_storeu_si256(static_cast<__m256i*>(p), _mm512_cvtepi32_epi16(x));
  }
  /// The low byte of each lane.
  static void store_bytes(void* p, I x) {
    _mm_storeu_si128(static_cast<__m128i*>(p), _mm512_cvtepi32_epi8(x));
  }

  /// Of each byte's low four bits (the rest being zero), that byte of the table.
  static I lookup(const std::uint8_t* table, I w) {
    const __m128i sixteen = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(sixteen), w);
  }
  /// table[ranks]. Loads one by one, each blended into its lane: gathers take twice as long where
  /// microcode mends Downfall, and are hardly faster where it does not.
  static I quads(const std::uint32_t* table, I ranks) {
    alignas(64) std::uint32_t r[16];
    store_words(r, ranks);
    const auto eight = [table](const std::uint32_t* rank) {
      __m256i x = _mm256_set1_epi32(static_cast<int>(table[rank[0]]));
#pragma GCC unroll 8
      for (int i = 1; i < 8; ++i) {
        const auto lane = static_cast<__mmask8>(1U << i);
        asm("vpbroadcastd %1, %0%{%2%}" : "+v"(x) : "m"(table[rank[i]]), "Yk"(lane));
      }
      return x;
    };
    return _mm512_inserti64x4(_mm512_castsi256_si512(eight(r)), eight(r + 8), 1);
  }
  /// The first and the second four bytes of table[ranks].
  static void octets(const std::uint64_t* table, I ranks, I& first, I& second) {
    alignas(64) std::uint32_t r[16];
    store_words(r, ranks);
    const auto eight = [table](const std::uint32_t* rank) {
      I x = _mm512_set1_epi64(static_cast<std::int64_t>(table[rank[0]]));
#pragma GCC unroll 8
      for (int i = 1; i < 8; ++i) {
        const auto lane = static_cast<__mmask8>(1U << i);
        asm("vpbroadcastq %1, %0%{%2%}" : "+v"(x) : "m"(table[rank[i]]), "Yk"(lane));
      }
      return x;
    };
    const I a = eight(r);
    const I b = eight(r + 8);
    const I even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const I odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    first = _mm512_permutex2var_epi32(a, even, b);
    second = _mm512_permutex2var_epi32(a, odd, b);
  }
  struct Nibbles {
    I of[2];
    I operator[](int k) const { return of[k]; }
  };
  /// Twice sixteen table[ranks] of 256 entries of four nibbles 0, 2, 1, 3, each nibble a byte. The
  /// table stays in registers: four permutations of 64 entries, of which two bits choose one.
  static Nibbles lookup256(const std::uint16_t* table, const std::byte* ranks) {
    return spread(permute256(table, sixteen_bits(ranks)));
  }
  /// The same of 512 entries. The ranks' ninth bits: `bit` of sixteen bytes for the first sixteen,
  /// the next bit of the same bytes for the others.
  static Nibbles lookup512(const std::uint16_t* table, const std::byte* ranks,
                           const std::byte* ninths, int bit) {
    const I rank = sixteen_bits(ranks);
    const __m128i sixteen = _mm_loadu_si128(reinterpret_cast<const __m128i*>(ninths));
    const I ninth = _mm512_cvtepu8_epi16(_mm256_broadcastsi128_si256(sixteen));
    const auto wanted = static_cast<short>(1 << bit);
    const I bits = _mm512_inserti64x4(_mm512_set1_epi16(wanted),
                                      _mm256_set1_epi16(static_cast<short>(2 * wanted)), 1);
    const __mmask32 upper = _mm512_test_epi16_mask(ninth, bits);
    return spread(
        _mm512_mask_blend_epi16(upper, permute256(table, rank), permute256(table + 256, rank)));
  }
  static I sixteen_bits(const std::byte* ranks) {
    return _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(ranks)));
  }
  static I permute256(const std::uint16_t* table, I rank) {
    const auto part = [&](int k) {
      return _mm512_permutex2var_epi16(words(table + 64 * k), rank, words(table + 64 * k + 32));
    };
    const __mmask32 bit6 = _mm512_test_epi16_mask(rank, _mm512_set1_epi16(64));
    const __mmask32 bit7 = _mm512_test_epi16_mask(rank, _mm512_set1_epi16(128));
    const I low = _mm512_mask_blend_epi16(bit6, part(0), part(1));
    const I high = _mm512_mask_blend_epi16(bit6, part(2), part(3));
    return _mm512_mask_blend_epi16(bit7, low, high);
  }
  static Nibbles spread(I both) {
    const auto bytes_of = [](__m256i x) {
      const I wide = _mm512_cvtepu16_epi32(x);
      return bit_and(bit_or(wide, _mm512_slli_epi32(wide, 12)), all_words(0x0F0F0F0FU));
    };
    return {{bytes_of(_mm512_castsi512_si256(both)), bytes_of(_mm512_extracti64x4_epi64(both, 1))}};
  }
  /// Bytes of w become Sum - w where bit j of the same byte of `signs` is set.
  template <int Sum>
  static I mirror(I w, I signs, int j) {
    const __mmask64 negative =
        _mm512_test_epi8_mask(signs, _mm512_set1_epi8(static_cast<char>(1U << j)));
    return _mm512_mask_sub_epi8(w, negative, _mm512_set1_epi8(static_cast<char>(Sum)), w);
  }
  /// w - amount in the lanes whose `flags` have that bit, byte by byte without borrows.
  static I subtract_where(I w, I flags, std::uint32_t bit, I amount) {
    return _mm512_mask_sub_epi32(w, _mm512_test_epi32_mask(flags, all_words(bit)), w, amount);
  }

  /// -zero times the sum of the activations whose codes First..First+N are about to be added.
  template <int Zero, int First, int N>
  static I offset(const ActivationRecord& x, int b) {
    if constexpr (Zero == 0) {
      return _mm512_setzero_si512();
    } else {
      constexpr std::uint32_t z = static_cast<std::uint16_t>(-Zero);
      constexpr std::uint32_t pair = (First == 0 ? z : 0U) | (First + N == 8 ? z << 16 : 0U);
      std::int32_t sums;
      std::memcpy(&sums, x.sum + 2 * b, 4);
      return _mm512_dpwssd_epi32(_mm512_setzero_si512(), _mm512_set1_epi32(sums), all_words(pair));
    }
  }

  /// acc plus four 8-bit products a lane, codes times signed bytes.
  static I add_product(I acc, I w, I x) {
    asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(w), "v"(x));
    return acc;
  }

  /// acc += codes times the four bytes at p, repeated over the lanes. In assembly because GCC 12
  /// neither folds the broadcast into the instruction nor updates acc in place, which costs a third
  /// of the speed.
  static void add_products(I& acc, I codes, const std::int8_t* p) {
    using Four [[gnu::may_alias]] = std::int32_t;
    asm("vpdpbusd %2%{1to16%}, %1, %0"
        : "+v"(acc)
        : "v"(codes), "m"(*reinterpret_cast<const Four*>(p)));
  }

  /// sums[r * T + t] = the product of codes First..First+N (vectors 64 bytes apart) of R groups,
  /// each `stride` bytes after the last, with T tokens' activations b.
  template <int Bits, int Zero, int First, int N, int R, int T>
  static void dot(const std::uint8_t* codes, std::size_t stride, const ActivationRecord* x, int b,
                  I* sums) {
#pragma GCC unroll 12
    for (int t = 0; t < T; ++t) {
      const I start = offset<Zero, First, N>(x[t], b);
#pragma GCC unroll 2
      for (int r = 0; r < R; ++r) sums[r * T + t] = start;
    }
    const std::int8_t* q = x->q + 32 * b;
    // One base register and constant distances, rather than a register a token.
    asm("" : "+r"(q));
#pragma GCC unroll 8
    for (int j = First; j < First + N; ++j) {
      I w[R];
#pragma GCC unroll 2
      for (int r = 0; r < R; ++r) {
        w[r] = words(codes + r * stride + 4 * kGroupRows * static_cast<unsigned>(j));
      }
#pragma GCC unroll 12
      for (int t = 0; t < T; ++t) {
        const std::int8_t* four = q + t * sizeof(ActivationRecord) + 4 * j;
        if constexpr (R == 1) {
          add_products(sums[t], w[0], four);
        } else {
          // Broadcast once for all groups: two loads a cycle would not feed two products a cycle.
          std::int32_t word;
          std::memcpy(&word, four, 4);
          const I repeated = _mm512_set1_epi32(word);
#pragma GCC unroll 2
          for (int r = 0; r < R; ++r) {
            sums[r * T + t] = add_product(sums[r * T + t], w[r], repeated);
          }
        }
      }
    }
  }
  /// sums[t] = the product of codes First..First+N, in registers, with T tokens' activations b.
  template <int Bits, int Zero, int First, int N, int T>
  static void dot(const I* w, const ActivationRecord* x, int b, I* sums) {
    // One base register for three tokens: distances of a byte make short instructions.
    constexpr int bases = (T + 2) / 3;
    const std::int8_t* q[bases];
#pragma GCC unroll 3
    for (int i = 0; i < bases; ++i) {
      q[i] = x->q + 32 * b + (3 * i + 1) * static_cast<int>(sizeof(ActivationRecord));
      asm("" : "+r"(q[i]));
    }
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) sums[t] = offset<Zero, First, N>(x[t], b);
#pragma GCC unroll 8
    for (int j = First; j < First + N; ++j) {
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        const int at = (t % 3 - 1) * static_cast<int>(sizeof(ActivationRecord));
        add_products(sums[t], w[j], q[t / 3] + at + 4 * j);
      }
    }
  }

  /// Makes the compiler believe that x is used, and may have changed.
  static void keep(F& x) { asm volatile("" : "+v"(x)); }
  static void keep(I& x) { asm volatile("" : "+v"(x)); }
};

}  // namespace fathom::cpu
