// One lane of plain C++: the scalar twin of simd_avx2.h and simd_avx512.h, and what runs on a CPU
// with neither.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "backend/cpu/packed_layout.h"
#include "base/cpu_features.h"
#include "tensor/half.h"

namespace fathom::cpu {

struct Scalar {
  static constexpr const char* kName = "scalar";
  static constexpr CpuLevel kLevel = CpuLevel::Scalar;
  static constexpr int kLanes = 1;
  static constexpr int kSide = 1;
  static constexpr int kTokens = 4;
  static constexpr int kStreamTokens = 2;
  static constexpr int kStreamMost = 8;
  static constexpr int kStreamMostBytes = 8;
  static constexpr int kF32Tokens = 4;
  static constexpr int kDotTokens = 1;
  static constexpr bool kPermutes = false;  // has a permutation that reaches so far
  static constexpr int kDotRows = 1;
  using F = float;
  using I = std::uint32_t;  // a sum (two's complement) or four codes

  template <typename T>
  static T read(const void* p) {
    T value;
    std::memcpy(&value, p, sizeof(value));
    return value;
  }

  static F zero() { return 0; }
  static F all(float x) { return x; }
  static F load(const float* p) { return *p; }
  static void store(float* p, F x) { *p = x; }
  static F add(F a, F b) { return a + b; }
  static F sub(F a, F b) { return a - b; }
  static F mul(F a, F b) { return a * b; }
  static F div(F a, F b) { return a / b; }
  static F fma(F a, F b, F c) { return std::fma(a, b, c); }
  static F min(F a, F b) { return a < b ? a : b; }
  static F max(F a, F b) { return a > b ? a : b; }
  static F half(const void* p) { return f16_to_f32(read<std::uint16_t>(p)); }
  static F brain(const void* p) { return bf16_to_f32(read<std::uint16_t>(p)); }
  /// The first and the second of each pair of BF16.
  static F brain_even(const void* p) { return from_bits(read<std::uint32_t>(p) << 16); }
  static F brain_odd(const void* p) { return from_bits(read<std::uint32_t>(p) & 0xFFFF0000U); }
  static float sum(F x) { return x; }

  static void transpose(F* /*rows*/) {}
  static float largest(F x) { return x; }

  static I words(const void* p) { return read<std::uint32_t>(p); }
  static void store_words(void* p, I x) { std::memcpy(p, &x, 4); }
  static I all_words(std::uint32_t x) { return x; }
  static I bytes(const void* p) { return read<std::uint8_t>(p); }
  static I signed_bytes(const void* p) { return static_cast<I>(int{read<std::int8_t>(p)}); }
  static I signed_byte(I w, int k) {
    return static_cast<I>(int{static_cast<std::int8_t>(w >> 8 * k)});
  }
  static void spread_six_bits(const std::uint8_t* low, const std::uint8_t* high,
                              std::uint8_t* first, std::uint8_t* second) {
    for (int i = 0; i < 32; ++i) {
      const int upper = high[i % 16] >> (i < 16 ? 0 : 4) & 15;
      first[i] = static_cast<std::uint8_t>((low[i] & 15) | (upper & 3) << 4);
      second[i] = static_cast<std::uint8_t>((low[i] >> 4) | (upper & 12) << 2);
    }
  }
  static void spread_nibbles(const std::uint8_t* bytes, std::uint8_t* low, std::uint8_t* high) {
    for (int i = 0; i < 32; ++i) {
      low[i] = bytes[i] & 15;
      high[i] = static_cast<std::uint8_t>(bytes[i] >> 4);
    }
  }
  static I bit_and(I a, I b) { return a & b; }
  static I bit_or(I a, I b) { return a | b; }
  static I add_words(I a, I b) { return a + b; }
  static I sub_words(I a, I b) { return a - b; }
  static I sub_bytes(I a, std::uint8_t b) {
    I result = 0;
    for (int i = 0; i < 32; i += 8) result |= (((a >> i) - b) & 255U) << i;
    return result;
  }
  static I left(I a, int n) { return a << n; }
  /// a, where F32 has its exponent.
  static I exponent(I a) { return a << 23; }
  static I right(I a, int n) { return a >> n; }
  static F to_float(I x) { return static_cast<float>(static_cast<std::int32_t>(x)); }
  /// To nearest, ties to even, and INT_MIN for what does not fit, as the vector units do.
  static I round(F x) {
    if (!(x >= -0x1p31F && x < 0x1p31F)) return 0x80000000U;
    return static_cast<I>(static_cast<std::int32_t>(std::nearbyint(x)));
  }
  static I bits(F x) { return std::bit_cast<I>(x); }
  static F from_bits(I x) { return std::bit_cast<F>(x); }
  /// The low half of each lane, as F16.
  static F half_words(I x) { return f16_to_f32(static_cast<std::uint16_t>(x)); }
  static I where_equal(I a, I b, I yes, I no) { return a == b ? yes : no; }
  static I max_words(I a, I b) { return a > b ? a : b; }
  static std::uint32_t max_word(I x) { return x; }
  static int sum_words(I x) { return static_cast<std::int32_t>(x); }
  static void store_halves(void* p, I x) {
    const auto low = static_cast<std::uint16_t>(x);
    std::memcpy(p, &low, 2);
  }
  static void store_bytes(void* p, I x) {
    const auto low = static_cast<std::uint8_t>(x);
    std::memcpy(p, &low, 1);
  }

  /// Of each byte's low four bits, that byte of the table.
  static I lookup(const std::uint8_t* table, I w) {
    I out = 0;
    for (int i = 0; i < 32; i += 8) out |= static_cast<I>(table[w >> i & 15U]) << i;
    return out;
  }
  /// table[ranks], and its two halves for tables of eight bytes an entry.
  static I quads(const std::uint32_t* table, I ranks) { return table[ranks]; }
  static void octets(const std::uint64_t* table, I ranks, I& first, I& second) {
    first = static_cast<I>(table[ranks]);
    second = static_cast<I>(table[ranks] >> 32);
  }
  /// Bytes of w become Sum - w where bit j of the same byte of `signs` is set.
  template <int Sum>
  static I mirror(I w, I signs, int j) {
    I out = 0;
    for (int i = 0; i < 32; i += 8) {
      const I code = w >> i & 255U;
      out |= ((signs >> (i + j) & 1U) != 0 ? Sum - code : code) << i;
    }
    return out;
  }
  /// w - amount in the lanes whose `flags` have that bit, byte by byte without borrows.
  static I subtract_where(I w, I flags, std::uint32_t bit, I amount) {
    return (flags & bit) != 0 ? w - amount : w;
  }

  template <int Zero, int First, int N>
  static int dot_word(I w, const ActivationRecord& x, int b, int j) {
    int sum = 0;
    for (int i = 0; i < 4; ++i) {
      const int code = static_cast<int>((w >> (8 * i)) & 255U) - Zero;
      sum += code * x.q[32 * b + 4 * j + i];
    }
    return sum;
  }
  template <int Bits, int Zero, int First, int N, int R, int T>
  static void dot(const std::uint8_t* codes, std::size_t /*stride*/, const ActivationRecord* x,
                  int b, I* sums) {
    static_assert(R == 1);
    for (int t = 0; t < T; ++t) {
      int sum = 0;
      for (int j = First; j < First + N; ++j) {
        sum += dot_word<Zero, First, N>(words(codes + 4 * kGroupRows * static_cast<unsigned>(j)),
                                        x[t], b, j);
      }
      sums[t] = static_cast<I>(sum);
    }
  }
  template <int Bits, int Zero, int First, int N, int T>
  static void dot(const I* w, const ActivationRecord* x, int b, I* sums) {
    for (int t = 0; t < T; ++t) {
      int sum = 0;
      for (int j = First; j < First + N; ++j) sum += dot_word<Zero, First, N>(w[j], x[t], b, j);
      sums[t] = static_cast<I>(sum);
    }
  }

  static I add_product(I acc, I w, I x) {
    for (int i = 0; i < 32; i += 8) {
      acc += ((w >> i) & 255U) * static_cast<I>(int{static_cast<std::int8_t>(x >> i)});
    }
    return acc;
  }

  static void keep(F& x) { asm volatile("" : "+m"(x)); }
  static void keep(I& x) { asm volatile("" : "+m"(x)); }
};

}  // namespace fathom::cpu
