// What the kernels want of a matrix unit, and a unit that is plain C++: the twin of tile_amx.h, by
// which every machine runs and tests the kernels that are written for AMX.
//
// A unit has eight tiles of up to 16 rows of 64 bytes (Intel SDM, volume 1, chapter 18), used alike
// by all kernels:
//   0..3  sums, `rows` rows of sixteen 32-bit sums
//   4..5  left factors, `rows` rows of `bytes` bytes
//   6..7  right factors: row k holds, for each of the sixteen columns, the four bytes (or two BF16)
//         4k to 4k + 3 of that column; bytes / 4 rows
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "tensor/half.h"

namespace fathom::cpu {

inline constexpr std::size_t kTileRows = 16;

/// Rows of a tile for `tokens` tokens, shared out evenly: 17 become twice 9, not 16 and 1.
constexpr std::size_t tile_rows(std::size_t tokens) {
  const std::size_t tiles = (tokens + kTileRows - 1) / kTileRows;
  return tiles == 0 ? 0 : (tokens + tiles - 1) / tiles;
}

/// `Unit` only keeps apart what is compiled for different instruction sets.
template <class Unit>
struct TwinTiles {
  static void open(std::size_t rows, std::size_t bytes) {
    std::memset(&state, 0, sizeof(state));
    for (int t = 0; t < 8; ++t) {
      state.rows[t] = t >= 6 ? bytes / 4 : rows;
      state.bytes[t] = t == 4 || t == 5 ? bytes : 64;
    }
  }
  static void close() { std::memset(&state, 0, sizeof(state)); }

  template <int T>
  static void zero() {
    std::memset(state.tile[T], 0, sizeof(state.tile[T]));
  }
  template <int T>
  static void load(const void* from, std::size_t stride) {
    zero<T>();
    for (std::size_t r = 0; r < state.rows[T]; ++r) {
      std::memcpy(state.tile[T][r], static_cast<const std::byte*>(from) + r * stride,
                  state.bytes[T]);
    }
  }
  template <int T>
  static void store(void* to, std::size_t stride) {
    for (std::size_t r = 0; r < state.rows[T]; ++r) {
      std::memcpy(static_cast<std::byte*>(to) + r * stride, state.tile[T][r], state.bytes[T]);
    }
  }
  /// C += A B, signed bytes (TDPBSSD).
  template <int C, int A, int B>
  static void add_int8() {
    for (std::size_t m = 0; m < state.rows[C]; ++m) {
      std::int32_t sums[16];
      std::memcpy(sums, state.tile[C][m], 64);
      for (std::size_t k = 0; k < state.rows[B]; ++k) {
        std::int8_t a[4];
        std::int8_t b[64];
        std::memcpy(a, state.tile[A][m] + 4 * k, 4);
        std::memcpy(b, state.tile[B][k], 64);
        for (std::size_t n = 0; n < 16; ++n) {
          for (std::size_t i = 0; i < 4; ++i) sums[n] += a[i] * b[4 * n + i];
        }
      }
      std::memcpy(state.tile[C][m], sums, 64);
    }
  }
  /// C += A B, BF16 with F32 sums (TDPBF16PS): in each row k the even products are added first, to
  /// sums of their own, then the odd ones. Subnormal factors and sums count as zero.
  template <int C, int A, int B>
  static void add_bf16() {
    for (std::size_t m = 0; m < state.rows[C]; ++m) {
      float even[16] = {};
      float odd[16] = {};
      for (std::size_t k = 0; k < state.rows[B]; ++k) {
        std::uint16_t a[2];
        std::uint16_t b[32];
        std::memcpy(a, state.tile[A][m] + 4 * k, 4);
        std::memcpy(b, state.tile[B][k], 64);
        for (std::size_t n = 0; n < 16; ++n) {
          even[n] = flushed(__builtin_fmaf(factor(a[0]), factor(b[2 * n]), even[n]));
          odd[n] = flushed(__builtin_fmaf(factor(a[1]), factor(b[2 * n + 1]), odd[n]));
        }
      }
      float sums[16];
      std::memcpy(sums, state.tile[C][m], 64);
      for (std::size_t n = 0; n < 16; ++n)
        sums[n] = flushed(flushed(sums[n]) + flushed(even[n] + odd[n]));
      std::memcpy(state.tile[C][m], sums, 64);
    }
  }

 private:
  static float factor(std::uint16_t bits) {
    return (bits & 0x7F80U) == 0 ? 0.0F : bf16_to_f32(bits);
  }

  static float flushed(float x) { return x > -0x1p-126F && x < 0x1p-126F ? 0.0F : x; }

  struct State {
    std::size_t rows[8];
    std::size_t bytes[8];
    std::byte tile[8][kTileRows][64];
  };
  static inline thread_local State state{};
};

}  // namespace fathom::cpu
