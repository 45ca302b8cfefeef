// One to eight tokens (two, where there are sixteen registers) times packed weights, straight from
// the packed form: codes are taken apart in registers, multiplied by all tokens and forgotten. Up
// to 32 tokens take several such passes over rows that are in a cache by then; for more, taking
// codes apart once into the first cache pays (matmul_simd.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cpu/codes_simd.h"
#include "backend/cpu/matmul_table.h"
#include "backend/cpu/packed_layout.h"
#include "backend/cpu/tile_products.h"

namespace fathom::cpu {

/// Asks for bytes [begin, end) of what lies at `base`, which may lead past the matrix. Always
/// inline: a copy that one unit made with AVX-512 must not serve another.
[[gnu::always_inline]] inline void prefetch(const std::byte* base, std::size_t begin,
                                            std::size_t end) {
  const auto address = reinterpret_cast<std::uintptr_t>(base);
  for (std::size_t line = begin / 64; line < end / 64; ++line) {
    __builtin_prefetch(reinterpret_cast<const void*>(address + 64 * line));
  }
}

template <class S>
struct StreamKernels {
  using F = typename S::F;
  using I = typename S::I;
  using Codes = CodeKernels<S>;
  static constexpr int L = S::kLanes;
  static constexpr int kParts = 16 / L;        // vectors that make sixteen lanes
  static constexpr std::size_t kAhead = 2048;  // bytes of a group to be asked for

  /// Vectors of a group that share each activation: both halves, if there is more than one token.
  template <int T>
  static constexpr int kTogether = kParts == 2 && T > 1 ? 2 : 1;

  template <DType D, int First, int N, int V, int T>
  [[gnu::always_inline]] static void dot(const I (&w)[V][8], const ActivationRecord* x, int b,
                                         I* sums) {
    constexpr PackedFormat f = packed_format(D);
    if constexpr (V == 2) {
      S::template dot_halves<f.bits, f.zero, First, N, T>(w, x, b, sums);
    } else {
      S::template dot<f.bits, f.zero, First, N, T>(w[0], x, b, sums);
    }
  }

  /// R groups side by side times T tokens, of which `valid` (T or T - 1) are wanted: the record
  /// past the last is there to be read. Not inline: in a larger function GCC 12 keeps the sums in
  /// memory, which halves the speed.
  template <DType D, int R, int T>
  [[gnu::noinline]] static void run(const std::byte* const* groups, std::size_t features,
                                    const ActivationRecord* x, std::size_t x_stride,
                                    std::size_t valid, float* out, std::size_t out_stride,
                                    Ahead ahead) {
    constexpr PackedFormat f = packed_format(D);
    constexpr int subs = static_cast<int>(f.tile_subs());
    constexpr std::size_t tile_bytes = f.tile_bytes();
    constexpr int halves = 32 / f.sub;  // scales of a sub-tile
    constexpr int words = 8 / halves;   // vectors of codes that share one
    constexpr int V = kTogether<T>;
    F acc[kParts][R * T];
    for (int part = 0; part < kParts; ++part) {
#pragma GCC unroll 8
      for (int i = 0; i < R * T; ++i) acc[part][i] = S::zero();
    }
    const std::size_t tiles = features / f.tile_features;
    for (std::size_t tile = 0; tile < tiles; ++tile) {
      const ActivationRecord* record = x + tile * f.tile_features / kChunk * x_stride;
      typename Codes::template TileScales<D> scales[R];
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) scales[r].open(groups[r] + tile * tile_bytes);
      const int first = static_cast<int>(tile * f.tile_features % kChunk / kSubTile);
      // Bytes at kAhead from here: of the same groups, or of those after them.
      std::size_t from = tile * tile_bytes + kAhead;
      const bool past = from >= tiles * tile_bytes;
      if (past) from -= tiles * tile_bytes;
      const bool ask = past ? ahead.next.at != nullptr : ahead.ask;
      for (int s = 0; s < subs; ++s) {
        const int b = first + s;
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          const std::byte* at = groups[r] + tile * tile_bytes;
          if (ask) {
            prefetch(
                past ? ahead.next.at + static_cast<unsigned>(r) * ahead.next.stride : groups[r],
                from + tile_bytes * static_cast<unsigned>(s) / subs,
                from + tile_bytes * static_cast<unsigned>(s + 1) / subs);
          }
          for (int part = 0; part < kParts; part += V) {
            I w[V][8];
            F scale[V][2] = {};
            F min[V][2] = {};
#pragma GCC unroll 2
            for (int v = 0; v < V; ++v) {
              Codes::template tile_codes<D>(at, s, L * (part + v), w[v]);
              scales[r].get(at, s, L * (part + v), scale[v], min[v]);
            }
#pragma GCC unroll 2
            for (int half = 0; half < halves; ++half) {
              I dots[V * T];
              if (half == 0) {
                dot<D, 0, words, V, T>(w, record, b, dots);
              } else {
                dot<D, 8 - words, words, V, T>(w, record, b, dots);
              }
#pragma GCC unroll 8
              for (int i = 0; i < V * T; ++i) {
                const int v = i / T;
                const int t = i % T;
                const float d_sum =
                    f.sub == 32 ? record[t].sum32[b] : record[t].sum16[2 * b + half];
                F& sum = acc[part + v][r * T + t];
                sum = add_dot<S, f.min>(dots[i], scale[v][half], min[v][half],
                                        S::all(record[t].d[b]), S::all(d_sum), sum);
              }
            }
          }
        }
      }
    }
    for (int r = 0; r < R; ++r) {
      for (std::size_t t = 0; t < valid; ++t) {
        for (int part = 0; part < kParts; ++part) {
          S::store(out + static_cast<unsigned>(r) * out_stride + 16 * t + L * part,
                   acc[part][static_cast<std::size_t>(r) * T + t]);
        }
      }
    }
  }

  template <DType D, int R, int T>
  static void by_tokens(const std::byte* const* groups, std::size_t features,
                        const ActivationRecord* x, std::size_t x_stride, std::size_t tokens,
                        float* out, std::size_t out_stride, Ahead ahead) {
    if constexpr (T < S::kStreamTokens) {
      if (tokens > T) {
        constexpr int more = T == 1 ? 2 : T + 2;
        return by_tokens<D, R, more>(groups, features, x, x_stride, tokens, out, out_stride, ahead);
      }
    }
    run<D, R, T>(groups, features, x, x_stride, tokens, out, out_stride, ahead);
  }

  template <DType D>
  static void stream(const std::byte* const* groups, std::size_t count, std::size_t features,
                     const ActivationRecord* x, std::size_t x_stride, std::size_t tokens,
                     float* out, std::size_t out_stride, Ahead ahead) {
    const Ahead within{ahead.ask, {}};
    if constexpr (L > 1) {  // plain C++ gains nothing by it, and takes its time to compile
      if (count == 4 && tokens == 1) {
        return run<D, 4, 1>(groups, features, x, x_stride, 1, out, out_stride, ahead);
      }
      while (count >= 2 && tokens == 1) {
        run<D, 2, 1>(groups, features, x, x_stride, 1, out, out_stride,
                     count == 2 ? ahead : within);
        groups += 2;
        count -= 2;
        out += 2 * out_stride;
      }
    }
    for (; count > 0; --count, ++groups, out += out_stride) {
      by_tokens<D, 1, 1>(groups, features, x, x_stride, tokens, out, out_stride,
                         count == 1 ? ahead : within);
    }
  }
};

}  // namespace fathom::cpu
