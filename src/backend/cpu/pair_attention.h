// Attention with queries and weights rounded to BF16 on vectors (vdpbf16ps): each instruction adds
// two products to each of sixteen sums, twice what F32 does, of the cache's pairs as they lie
// (kv_page.h).
//
// Every sum adds a pair of products at a time, in the order of k, whatever rows or columns are
// multiplied beside it: which thread does what does not show in the result. Within a pair the order
// and the rounding are the machine's, subnormal factors and sums being zero.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "backend/cpu/attention_table.h"
#include "backend/cpu/rounded_layout.h"

namespace fathom::cpu {

/// S offers, beside what RoundedLayout wants, add_pairs(sums, a, b).
template <class S>
struct PairAttention {
  using F = typename S::F;
  using I = typename S::I;
  static constexpr std::size_t L = S::kLanes;
  static_assert(L == 16, "a group of lanes is one vector");

  static void nothing() {}

  /// Lines that are still to be fetched, one a step of each of R streams that lie `apart`.
  struct Fetch {
    const std::byte* at;
    const std::byte* end;
    std::size_t apart;
  };

  /// Rows times groups, T times R of them, that are kept in registers.
  template <std::size_t R, std::size_t T>
  static void tile(const RoundedProduct& a, const std::byte* panel, const std::uint16_t* x,
                   float* sums, Fetch& fetch) {
    // Copies: what is stored might be `a` itself, for all that the compiler knows.
    const std::size_t panel_step = a.panel_step;
    const std::size_t panel_group = a.panel_group;
    const std::size_t x_row = a.x_row;
    const std::size_t sums_row = a.sums_row;
    const std::size_t sums_group = a.sums_group;
    F acc[R * T];
#pragma GCC unroll 16
    for (std::size_t t = 0; t < T; ++t) {
#pragma GCC unroll 4
      for (std::size_t r = 0; r < R; ++r) {
        acc[t * R + r] = a.add ? S::load(sums + t * sums_row + r * sums_group) : S::zero();
      }
    }
    const std::byte* at = fetch.at;
    const std::byte* const end = fetch.end;
    const std::size_t apart = fetch.apart;
    for (std::size_t step = a.steps; step > 0; --step, panel += panel_step, x += 2) {
      at = at < end ? at + 64 : end;
      I w[R];
#pragma GCC unroll 4
      for (std::size_t r = 0; r < R; ++r) {
        __builtin_prefetch(at + r * apart, 0, 2);
        w[r] = S::words(panel + r * panel_group);
      }
#pragma GCC unroll 16
      for (std::size_t t = 0; t < T; ++t) {
        std::uint32_t pair;
        std::memcpy(&pair, x + t * x_row, sizeof pair);
        const I xt = S::all_words(pair);
#pragma GCC unroll 4
        for (std::size_t r = 0; r < R; ++r) acc[t * R + r] = S::add_pairs(acc[t * R + r], w[r], xt);
      }
    }
    fetch.at = at;
#pragma GCC unroll 16
    for (std::size_t t = 0; t < T; ++t) {
#pragma GCC unroll 4
      for (std::size_t r = 0; r < R; ++r) {
        S::store(sums + t * sums_row + r * sums_group, acc[t * R + r]);
      }
    }
  }

  /// The next smaller number of rows that has a kernel of its own.
  static constexpr std::size_t fewer(std::size_t rows) {
    constexpr std::size_t sizes[] = {16, 12, 6, 4, 3, 2, 1};
    for (const std::size_t size : sizes) {
      if (size < rows) return size;
    }
    return 0;
  }

  template <std::size_t R, std::size_t T>
  static void rows(const RoundedProduct& a, const std::byte* panel, const std::uint16_t* x,
                   float* sums, std::size_t count, Fetch& fetch) {
    for (; count >= T; count -= T, x += T * a.x_row, sums += T * a.sums_row) {
      tile<R, T>(a, panel, x, sums, fetch);
    }
    if constexpr (T > 1) {
      if (count > 0) rows<R, fewer(T)>(a, panel, x, sums, count, fetch);
    }
  }

  template <std::size_t R>
  static void groups(const RoundedProduct& a, const std::byte* panel, float* sums,
                     std::size_t count, Fetch& fetch) {
    constexpr std::size_t kSums = 24;  // of 32 registers
    constexpr std::size_t T = R == 1 ? 16 : kSums / R;
    for (; count >= R; count -= R, panel += R * a.panel_group, sums += R * a.sums_group) {
      rows<R, T>(a, panel, a.x, sums, a.rows, fetch);
    }
    if constexpr (R > 1) {
      if (count > 0) groups<R / 2>(a, panel, sums, count, fetch);
    }
  }

  static void multiply(const RoundedProduct& a) {
    const std::size_t apart = a.fetch_bytes / (a.groups >= 4 ? 4 : a.groups >= 2 ? 2 : 1);
    Fetch fetch{a.fetch, a.fetch + apart, apart};
    groups<4>(a, a.panel, a.sums, a.groups, fetch);
  }

  static constexpr RoundedKernels kernels() {
    RoundedKernels k = RoundedLayout<S>::kernels();
    k.open = &nothing;
    k.close = &nothing;
    k.multiply = &multiply;
    k.queries = 24;
    return k;
  }
};

}  // namespace fathom::cpu
