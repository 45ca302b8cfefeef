// Quantised weights times INT8 activations on a tile unit (tile_unit.h), with the bits of the
// vector kernels: a tile multiplies no more features than share a scale, 32 or 16, so that its sums
// are the exact dot products; vectors then scale and add them in the order of matmul_simd.h.
//
// Left factors are up to 16 tokens as their records lie, right factors the codes of a group as
// unpack() leaves them. The vectors, not the tiles, are the limit: for each 32 features of 16
// tokens and 16 rows the unit is busy for 16 cycles, and they for 24 (32 with minimums). So the two
// work side by side: while one unit of work is scaled, the tiles of the next are multiplied.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cpu/packed_layout.h"
#include "backend/cpu/tile_unit.h"

namespace fathom::cpu {

/// What one dot product adds to the accumulator, in all kernels of packed weights.
template <class S, bool Min>
typename S::F add_dot(typename S::I dot, typename S::F scale, typename S::F min, typename S::F d,
                      typename S::F d_sum, typename S::F acc) {
  acc = S::fma(S::mul(S::to_float(dot), scale), d, acc);
  if constexpr (Min) acc = S::fma(min, d_sum, acc);
  return acc;
}

/// Sub: features that share a scale. Min: whether there are minimums.
template <class S, class Tiles, int Sub, bool Min>
struct TileProducts {
  using F = typename S::F;
  static constexpr int L = S::kLanes;
  static constexpr int kParts = 16 / L;
  static constexpr std::size_t kGroups = 2;  // that share the loads of activations
  // Of `Sub` features: few enough that two units' dot products stay in the first cache beside
  // what they are made from.
  static constexpr std::size_t kSteps = 4;

  struct Dots {
    alignas(64) std::int32_t of[kSteps][kGroups][kTileRows][16];
  };

  /// Up to kSteps steps of up to 16 tokens and two groups.
  struct Work {
    const UnpackedTile* tiles = nullptr;
    std::size_t groups = 0;
    const ActivationRecord* x = nullptr;
    std::size_t tokens = 0;
    float* sums = nullptr;
    std::size_t first = 0;  // step of the chunk
    std::size_t steps = 0;
    std::size_t products() const { return steps * kGroups; }
  };

  static void open(std::size_t tokens) { Tiles::open(tile_rows(tokens), Sub); }
  static void close() { Tiles::close(); }

  /// The dot products of step i / 2 and group i % 2.
  static void product(const Work& w, std::size_t i, Dots& dots) {
    const std::size_t step = i / kGroups;
    const std::size_t at = w.first + step;
    const auto* codes = w.tiles->codes[Sub / 4 * at];
    auto& to = dots.of[step];
    if (i % kGroups == 0) {
      Tiles::template load<4>(w.x->q + Sub * at, sizeof(ActivationRecord));
      Tiles::template load<6>(codes, 64);
      Tiles::template zero<0>();
      Tiles::template add_int8<0, 4, 6>();
      Tiles::template store<0>(to[0], 64);
    } else if (w.groups > 1) {
      Tiles::template load<7>(codes + sizeof(UnpackedTile), 64);
      Tiles::template zero<1>();
      Tiles::template add_int8<1, 4, 7>();
      Tiles::template store<1>(to[1], 64);
    }
  }

  /// Multiplies the next unit of work bit by bit, as the vectors ask for it.
  struct Feeder {
    const Work& work;
    Dots& dots;
    std::size_t done = 0;
    void one() {
      if (done < work.products()) product(work, done++, dots);
    }
    void rest() {
      while (done < work.products()) product(work, done++, dots);
    }
  };

  /// Adds the dot products of T tokens from `token` on and R groups to their sums.
  template <int R, int T>
  static void add_tokens(const Work& w, const Dots& dots, std::size_t token,
                         std::size_t sums_stride, Feeder& feeder) {
    const ActivationRecord* x = w.x + token;
    float* sums = w.sums + 16 * token;
    for (int part = 0; part < kParts; ++part) {
      F acc[R * T];
#pragma GCC unroll 16
      for (int i = 0; i < R * T; ++i) {
        acc[i] = S::load(sums + i / T * sums_stride + 16 * (i % T) + L * part);
      }
      for (std::size_t step = 0; step < w.steps; ++step) {
        const std::size_t at = w.first + step;
        const std::size_t b = at * Sub / kSubTile;
        F scale[R];
        F min[R];
#pragma GCC unroll 2
        for (int r = 0; r < R; ++r) {
          scale[r] = S::load(w.tiles[r].scale[at] + L * part);
          min[r] = Min ? S::load(w.tiles[r].min[at] + L * part) : S::zero();
        }
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t) {
          const F d = S::all(x[t].d[b]);
          F d_sum = S::zero();
          if constexpr (Min) d_sum = S::all(Sub == 32 ? x[t].sum32[b] : x[t].sum16[at]);
#pragma GCC unroll 2
          for (int r = 0; r < R; ++r) {
            const auto dot = S::words(dots.of[step][r][token + t] + L * part);
            acc[r * T + t] = add_dot<S, Min>(dot, scale[r], min[r], d, d_sum, acc[r * T + t]);
          }
        }
        if (part == 0) feeder.one();
      }
#pragma GCC unroll 16
      for (int i = 0; i < R * T; ++i) {
        S::store(sums + i / T * sums_stride + 16 * (i % T) + L * part, acc[i]);
      }
    }
  }

  template <int R, int T>
  static void add(const Work& w, const Dots& dots, std::size_t token, std::size_t sums_stride,
                  Feeder& feeder) {
    for (; w.tokens - token >= T; token += T) {
      add_tokens<R, T>(w, dots, token, sums_stride, feeder);
    }
    if constexpr (T > 1) add<R, T / 2>(w, dots, token, sums_stride, feeder);
  }

  /// Goes through a product's units of work; a group's and token's steps come in order.
  struct Cursor {
    const UnpackedTile* tiles;
    std::size_t groups;
    std::size_t steps;
    const ActivationRecord* x;
    std::size_t tokens;
    float* sums;
    std::size_t sums_stride;
    std::size_t rows;
    std::size_t token = 0, group = 0, step = 0;

    bool next(Work* work) {
      if (token >= tokens) return false;
      *work = {tiles + group,
               groups - group < kGroups ? groups - group : kGroups,
               x + token,
               tokens - token < rows ? tokens - token : rows,
               sums + group * sums_stride + 16 * token,
               step,
               steps - step < kSteps ? steps - step : kSteps};
      step += kSteps;
      if (step < steps) return true;
      step = 0;
      group += kGroups;
      if (group < groups) return true;
      group = 0;
      token += rows;
      return true;
    }
  };

  static void multiply(const UnpackedTile* tiles, std::size_t groups, std::size_t subs,
                       const ActivationRecord* x, std::size_t tokens, float* sums,
                       std::size_t sums_stride) {
    Cursor cursor{tiles, groups,      subs * (kSubTile / Sub), x, tokens,
                  sums,  sums_stride, tile_rows(tokens)};
    Dots dots[2];
    Work work[2];
    std::size_t now = 0;
    if (!cursor.next(&work[now])) return;
    Feeder{work[now], dots[now]}.rest();
    for (bool more = true; more; now = 1 - now) {
      Work& after = work[1 - now];
      more = cursor.next(&after);
      if (!more) after = {};
      Feeder feeder{after, dots[1 - now]};
      if (work[now].groups == kGroups) {
        add<2, 8>(work[now], dots[now], 0, sums_stride, feeder);
      } else {
        add<1, 8>(work[now], dots[now], 0, sums_stride, feeder);
      }
      feeder.rest();
    }
  }
};

}  // namespace fathom::cpu
