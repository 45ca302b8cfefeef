// Attention on a tile unit (tile_unit.h), with queries and weights rounded to BF16: the cache, BF16
// in pairs, lies as right factors want it (kv_page.h). Sums, softmax and merging stay in F32.
//
// Every sum adds 32 products at a time, in the order that tile_unit.h gives, whatever rows or
// columns are multiplied beside it: which thread does what does not show in the result.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "backend/cpu/attention_table.h"
#include "backend/cpu/rounded_layout.h"
#include "backend/cpu/tile_unit.h"

namespace fathom::cpu {

template <class S, class Tiles>
struct TileAttention {
  static constexpr std::size_t kPairs = RoundedLayout<S>::kPairs;

  static void open() { Tiles::open(kTileRows, 4 * kPairs); }
  static void close() { Tiles::close(); }

  // ---- the product --------------------------------------------------------------------------

  /// Rows [row, row + 16 R) times groups [group, group + G), as far as there are any.
  template <int R, int G>
  static void block(const RoundedProduct& a, std::size_t row, std::size_t group) {
    load_sums<0, R, G>(a, row, group);
    load_sums<1, R, G>(a, row, group);
    load_sums<2, R, G>(a, row, group);
    load_sums<3, R, G>(a, row, group);
    const std::byte* panel = a.panel + group * a.panel_group;
    const std::uint16_t* x = a.x + row * a.x_row;
    const std::size_t x_bytes = 2 * a.x_row;
    alignas(64) std::byte tail[2][kPairs][64];
    for (std::size_t step = 0; step < a.steps; step += kPairs, x += 2 * kPairs) {
      const std::size_t left = a.steps - step;
      const std::byte* right = panel + step * a.panel_step;
      Tiles::template load<4>(x, x_bytes);
      if constexpr (R > 1) Tiles::template load<5>(x + kTileRows * a.x_row, x_bytes);
      if (left >= kPairs) {
        Tiles::template load<6>(right, a.panel_step);
        if constexpr (G > 1) Tiles::template load<7>(right + a.panel_group, a.panel_step);
      } else {
        // What follows in the cache may be anything, and 0 times that NaN.
        std::memset(tail, 0, sizeof tail);
        for (std::size_t g = 0; g < G; ++g) {
          for (std::size_t i = 0; i < left; ++i) {
            std::memcpy(tail[g][i], right + g * a.panel_group + i * a.panel_step, 64);
          }
        }
        Tiles::template load<6>(tail[0], 64);
        if constexpr (G > 1) Tiles::template load<7>(tail[1], 64);
      }
      Tiles::template add_bf16<0, 4, 6>();
      if constexpr (G > 1) Tiles::template add_bf16<1, 4, 7>();
      if constexpr (R > 1) Tiles::template add_bf16<2, 5, 6>();
      if constexpr (R > 1 && G > 1) Tiles::template add_bf16<3, 5, 7>();
    }
    store_sums<0, R, G>(a, row, group);
    store_sums<1, R, G>(a, row, group);
    store_sums<2, R, G>(a, row, group);
    store_sums<3, R, G>(a, row, group);
  }

  /// Sums of rows that do not fill a tile pass through memory that does.
  template <int T, int R, int G>
  static void load_sums(const RoundedProduct& a, std::size_t row, std::size_t group) {
    if constexpr (T / 2 < R && T % 2 < G) {
      if (!a.add) return Tiles::template zero<T>();
      const float* from = sums(a, row + kTileRows * (T / 2), group + T % 2);
      const std::size_t rows = a.rows - row - kTileRows * (T / 2);
      if (rows >= kTileRows) return Tiles::template load<T>(from, 4 * a.sums_row);
      alignas(64) float some[kTileRows][16] = {};
      for (std::size_t r = 0; r < rows; ++r) std::memcpy(some[r], from + r * a.sums_row, 64);
      Tiles::template load<T>(some, 64);
    }
  }
  template <int T, int R, int G>
  static void store_sums(const RoundedProduct& a, std::size_t row, std::size_t group) {
    if constexpr (T / 2 < R && T % 2 < G) {
      float* to = sums(a, row + kTileRows * (T / 2), group + T % 2);
      const std::size_t rows = a.rows - row - kTileRows * (T / 2);
      if (rows >= kTileRows) return Tiles::template store<T>(to, 4 * a.sums_row);
      alignas(64) float some[kTileRows][16];
      Tiles::template store<T>(some, 64);
      for (std::size_t r = 0; r < rows; ++r) std::memcpy(to + r * a.sums_row, some[r], 64);
    }
  }
  static float* sums(const RoundedProduct& a, std::size_t row, std::size_t group) {
    return a.sums + row * a.sums_row + group * a.sums_group;
  }

  static void multiply(const RoundedProduct& a) {
    for (std::size_t at = 0; at < a.fetch_bytes; at += 64) __builtin_prefetch(a.fetch + at, 0, 2);
    for (std::size_t group = 0; group < a.groups; group += 2) {
      for (std::size_t row = 0; row < a.rows; row += 2 * kTileRows) {
        const bool wide = a.groups - group > 1;
        if (a.rows - row > kTileRows) {
          wide ? block<2, 2>(a, row, group) : block<2, 1>(a, row, group);
        } else {
          wide ? block<1, 2>(a, row, group) : block<1, 1>(a, row, group);
        }
      }
    }
  }

  static constexpr RoundedKernels kernels() {
    RoundedKernels k = RoundedLayout<S>::kernels();
    k.open = &open;
    k.close = &close;
    k.multiply = &multiply;
    k.queries = 2 * kTileRows;
    return k;
  }
};

}  // namespace fathom::cpu
