// The kernels of matmul_table.h as templates over the lanes of simd_*.h: one text, three
// instruction sets, one order of every sum.
//
// A packed product takes, for each 32 (or 16) features, the exact integer dot product of codes and
// quantised activations, then acc = fma(dot * scale, d, acc) and, with minimums,
// acc = fma(min, d * sum, acc). No kernel does it otherwise, whatever the number of tokens, hence
// no result depends on it. Weights that are not packed have their kernels in dot_simd.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "backend/cpu/codes_simd.h"
#include "backend/cpu/dot_simd.h"
#include "backend/cpu/kernel_trace.h"
#include "backend/cpu/matmul_table.h"
#include "backend/cpu/pack_simd.h"
#include "backend/cpu/packed_layout.h"
#include "backend/cpu/stream_simd.h"
#include "backend/cpu/tile_products.h"
#include "backend/cpu/vector_math.h"

namespace fathom::cpu {

/// The part of PackedFormat that the arithmetic depends on; formats that share it share kernels.
struct CodeKind {
  int bits, zero, sub;
  bool min;
};

template <class S>
struct MatmulKernels {
  using F = typename S::F;
  using I = typename S::I;
  static constexpr int L = S::kLanes;
  static constexpr int kParts = 16 / L;  // vectors that make sixteen lanes
  using Codes = CodeKernels<S>;

  /// What one dot product adds to the accumulator.
  template <bool Min>
  static F step(I dot, F scale, F min, float d, float d_sum, F acc) {
    return add_dot<S, Min>(dot, scale, min, S::all(d), S::all(d_sum), acc);
  }

  // ---- several tokens: spread a chunk of one group, then multiply it by all of them ---------

  /// `Signed`: codes less their zero, as tile units want them.
  template <DType D, bool Signed = false>
  static void unpack(const std::byte* group, std::size_t first, std::size_t subs,
                     UnpackedTile* tile) {
    constexpr PackedFormat f = packed_format(D);
    constexpr std::size_t tile_subs = f.tile_subs();
    constexpr std::size_t tile_bytes = f.tile_bytes();
    constexpr int per_sub = 32 / f.sub;
    typename Codes::template TileScales<D> scales;
    for (std::size_t b = 0; b < subs; ++b) {
      const std::byte* at = group + (first + b) / tile_subs * tile_bytes;
      const int s = static_cast<int>((first + b) % tile_subs);
      if (b == 0 || s == 0) scales.open(at);
      // The next chunk comes while this one is multiplied.
      const std::size_t ahead = kChunk / f.tile_features * tile_bytes;
      prefetch(at, ahead + tile_bytes * s / tile_subs, ahead + tile_bytes * (s + 1) / tile_subs);
      for (int part = 0; part < kParts; ++part) {
        I w[8];
        Codes::template tile_codes<D>(at, s, L * part, w);
        if constexpr (Signed && f.zero != 0) {
          for (int j = 0; j < 8; ++j) w[j] = S::sub_bytes(w[j], f.zero);
        }
        for (int j = 0; j < 8; ++j) S::store_words(tile->codes[8 * b + j] + 4 * L * part, w[j]);
        F scale[2] = {};
        F min[2] = {};
        scales.get(at, s, L * part, scale, min);
        for (int i = 0; i < per_sub; ++i) {
          S::store(tile->scale[per_sub * b + i] + L * part, scale[i]);
          if constexpr (f.min) S::store(tile->min[per_sub * b + i] + L * part, min[i]);
        }
      }
    }
  }

  template <DType D>
  static void dequantise(const std::byte* group, std::size_t first, std::size_t subs,
                         float* weights) {
    constexpr PackedFormat f = packed_format(D);
    constexpr std::size_t tile_subs = f.tile_subs();
    constexpr std::size_t tile_bytes = f.tile_bytes();
    const I byte = S::all_words(255);
    const I zero = S::all_words(f.zero);
    typename Codes::template TileScales<D> scales;
    for (std::size_t b = 0; b < subs; ++b) {
      const std::byte* at = group + (first + b) / tile_subs * tile_bytes;
      const int s = static_cast<int>((first + b) % tile_subs);
      if (b == 0 || s == 0) scales.open(at);
      for (int part = 0; part < kParts; ++part) {
        I w[8];
        F scale[2] = {};
        F min[2] = {};
        Codes::template tile_codes<D>(at, s, L * part, w);
        scales.get(at, s, L * part, scale, min);
        for (int j = 0; j < 8; ++j) {
          const int half = f.sub == 16 ? j / 4 : 0;
          for (int i = 0; i < 4; ++i) {
            const I q = S::sub_words(S::bit_and(S::right(w[j], 8 * i), byte), zero);
            F x = S::mul(scale[half], S::to_float(q));
            if constexpr (f.min) x = S::add(x, min[half]);
            S::store(weights + 16 * (32 * b + 4 * j + i) + L * part, x);
          }
        }
      }
    }
  }

  // Vectors are multiplied side by side, so that a token's activations are fetched once for all of
  // them: those of several groups where a vector has all sixteen rows, else the parts of one group.
  static constexpr bool kSplit = kParts > 1;
  static constexpr int kGroupsAtOnce = kSplit ? 1 : S::kSide;

  /// Where vector v (part `part` of the first group being vector 0) has what lies 16 lanes a group.
  static std::size_t lanes(int part, int v, std::size_t group_stride) {
    return kSplit ? static_cast<std::size_t>(L * (part + v))
                  : static_cast<std::size_t>(v) * group_stride;
  }

  /// Sums of V vectors and T tokens stay in registers over a chunk.
  template <CodeKind K, int V, int T>
  static void multiply_tokens(const UnpackedTile* tiles, std::size_t subs,
                              const ActivationRecord* x, std::size_t tokens, float* sums,
                              std::size_t sums_stride) {
    constexpr std::size_t stride = kSplit ? 4 * L : sizeof(UnpackedTile);
    for (; tokens >= T; tokens -= T, x += T, sums += 16 * T) {
      for (int part = 0; part < kParts; part += kSplit ? V : 1) {
        F acc[V * T];
#pragma GCC unroll 12
        for (int i = 0; i < V * T; ++i) {
          acc[i] = S::load(sums + lanes(part, i / T, sums_stride) + 16 * (i % T));
        }
        for (std::size_t block = 0; block < subs; ++block) {
          const int b = static_cast<int>(block);
          const std::uint8_t* code = tiles->codes[8 * block] + 4 * L * part;
          I dots[V * T];
          if constexpr (K.sub == 32) {
            S::template dot<K.bits, K.zero, 0, 8, V, T>(code, stride, x, b, dots);
            add_steps<K, V, T>(dots, tiles, block, x, b, 0, part, acc);
          } else {
            S::template dot<K.bits, K.zero, 0, 4, V, T>(code, stride, x, b, dots);
            add_steps<K, V, T>(dots, tiles, 2 * block, x, b, 0, part, acc);
            S::template dot<K.bits, K.zero, 4, 4, V, T>(code, stride, x, b, dots);
            add_steps<K, V, T>(dots, tiles, 2 * block + 1, x, b, 1, part, acc);
          }
        }
#pragma GCC unroll 12
        for (int i = 0; i < V * T; ++i) {
          S::store(sums + lanes(part, i / T, sums_stride) + 16 * (i % T), acc[i]);
        }
      }
    }
    if constexpr (T > 1) multiply_tokens<K, V, T / 2>(tiles, subs, x, tokens, sums, sums_stride);
  }

  template <CodeKind K, int V, int T>
  static void add_steps(const I* dots, const UnpackedTile* tiles, std::size_t index,
                        const ActivationRecord* x, int b, int half, int part, F* acc) {
    constexpr std::size_t stride = sizeof(UnpackedTile) / sizeof(float);
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) {
      const F scale = S::load(tiles->scale[index] + lanes(part, v, stride));
      F min = S::zero();
      if constexpr (K.min) min = S::load(tiles->min[index] + lanes(part, v, stride));
#pragma GCC unroll 12
      for (int t = 0; t < T; ++t) {
        const float d_sum = K.sub == 32 ? x[t].sum32[b] : x[t].sum16[2 * b + half];
        F& sum = acc[v * T + t];
        sum = step<K.min>(dots[v * T + t], scale, min, x[t].d[b], d_sum, sum);
      }
    }
  }

  template <CodeKind K>
  static void multiply(const UnpackedTile* tiles, std::size_t groups, std::size_t subs,
                       const ActivationRecord* x, std::size_t tokens, float* sums,
                       std::size_t sums_stride) {
    constexpr int R = kGroupsAtOnce;
    for (; groups >= R; groups -= R, tiles += R, sums += R * sums_stride) {
      multiply_tokens<K, S::kSide, S::kTokens>(tiles, subs, x, tokens, sums, sums_stride);
    }
    if constexpr (R > 1) {
      for (; groups > 0; --groups, ++tiles, sums += sums_stride) {
        multiply_tokens<K, 1, 2 * S::kTokens>(tiles, subs, x, tokens, sums, sums_stride);
      }
    }
  }

  // ---- F32 activations ----------------------------------------------------------------------

  template <int V, int T>
  static void multiply_f32_tokens(const float* weights, std::size_t weights_stride,
                                  std::size_t features, const float* x, std::size_t x_stride,
                                  std::size_t tokens, float* sums, std::size_t sums_stride) {
    for (; tokens >= T; tokens -= T, x += T * x_stride, sums += 16 * T) {
      for (int part = 0; part < kParts; part += kSplit ? V : 1) {
        F acc[V * T];
#pragma GCC unroll 12
        for (int i = 0; i < V * T; ++i) acc[i] = S::zero();
        const float* w = weights;
        for (std::size_t k = 0; k < features; ++k, w += 16) {
          F wk[V];
#pragma GCC unroll 2
          for (int v = 0; v < V; ++v) wk[v] = S::load(w + lanes(part, v, weights_stride));
#pragma GCC unroll 12
          for (int t = 0; t < T; ++t) {
            const F xt = S::all(x[t * x_stride + k]);
#pragma GCC unroll 2
            for (int v = 0; v < V; ++v) acc[v * T + t] = S::fma(wk[v], xt, acc[v * T + t]);
          }
        }
#pragma GCC unroll 12
        for (int i = 0; i < V * T; ++i) {
          float* to = sums + lanes(part, i / T, sums_stride) + 16 * (i % T);
          S::store(to, S::add(S::load(to), acc[i]));
        }
      }
    }
    if constexpr (T > 1) {
      multiply_f32_tokens<V, T / 2>(weights, weights_stride, features, x, x_stride, tokens, sums,
                                    sums_stride);
    }
  }

  static void multiply_f32(const float* weights, std::size_t weights_stride, std::size_t groups,
                           std::size_t features, const float* x, std::size_t x_stride,
                           std::size_t tokens, float* sums, std::size_t sums_stride) {
    constexpr int R = kGroupsAtOnce;
    for (; groups >= R; groups -= R, weights += R * weights_stride, sums += R * sums_stride) {
      multiply_f32_tokens<S::kSide, S::kF32Tokens>(weights, weights_stride, features, x, x_stride,
                                                   tokens, sums, sums_stride);
    }
    if constexpr (R > 1) {
      for (; groups > 0; --groups, weights += weights_stride, sums += sums_stride) {
        multiply_f32_tokens<1, S::kF32Tokens>(weights, weights_stride, features, x, x_stride,
                                              tokens, sums, sums_stride);
      }
    }
  }

  static void finish(const float* sums, std::size_t sums_stride, std::size_t rows,
                     std::size_t tokens, const float* bias, bool accumulate, float* y,
                     std::size_t y_stride) {
    ran(g_products_ran, S::kLevel);
    for (std::size_t t = 0; t < tokens; ++t, sums += 16, y += y_stride) {
      const float* from = sums;
      std::size_t r = 0;
      for (; r + 16 <= rows; r += 16, from += sums_stride) {
        for (std::size_t i = 0; i < 16; i += L) {
          F x = S::load(from + i);
          if (bias != nullptr) x = S::add(x, S::load(bias + r + i));
          if (accumulate) x = S::add(S::load(y + r + i), x);
          S::store(y + r + i, x);
        }
      }
      for (; r < rows; ++r, ++from) {
        const float x = bias != nullptr ? *from + bias[r] : *from;
        y[r] = accumulate ? y[r] + x : x;
      }
    }
  }

  // ---- activations --------------------------------------------------------------------------

  static void quantise(const float* x, std::size_t first, std::size_t subs,
                       ActivationRecord* record) {
    constexpr int vectors = 32 / L;
    const I absolute = S::all_words(0x7FFFFFFFU);
    for (std::size_t b = first; b < first + subs; ++b, x += 32) {
      F value[vectors];
      I largest = S::all_words(0);
      for (int v = 0; v < vectors; ++v) {
        value[v] = S::load(x + L * v);
        // Of non-negative floats the larger has the larger bits, NaN's being the largest.
        largest = S::max_words(largest, S::bit_and(S::bits(value[v]), absolute));
      }
      const std::uint32_t bits = S::max_word(largest);
      float most;
      std::memcpy(&most, &bits, 4);
      // Below 1e-30 all 32 count as zero (127 / most might overflow); NaN spoils every output.
      const bool finite = bits < 0x7F800000U;
      const bool usable = finite && most >= 1e-30F;
      const float d = usable ? most / 127.0F : finite ? 0.0F : __builtin_nanf("");
      const F inverse = S::all(usable ? 127.0F / most : 0.0F);
      int sums[2];
      for (int half = 0; half < 2; ++half) {
        I sum = S::all_words(0);
        for (int v = half * vectors / 2; v < (half + 1) * vectors / 2; ++v) {
          const I q = usable ? S::round(S::mul(value[v], inverse)) : S::all_words(0);
          S::store_bytes(record->q + 32 * b + L * v, q);
          sum = S::add_words(sum, q);
        }
        sums[half] = S::sum_words(sum);
        record->sum[2 * b + half] = static_cast<std::int16_t>(sums[half]);
        record->sum16[2 * b + half] = d * static_cast<float>(sums[half]);
      }
      record->d[b] = d;
      record->sum32[b] = d * static_cast<float>(sums[0] + sums[1]);
    }
  }

  static void silu_mul(float* gate, const float* up, std::size_t count) {
    std::size_t i = 0;
    for (; i + L <= count; i += L) {
      S::store(gate + i, S::mul(silu<S>(S::load(gate + i)), S::load(up + i)));
    }
    if (i < count) {
      float g[L] = {};
      float u[L] = {};
      std::memcpy(g, gate + i, (count - i) * 4);
      std::memcpy(u, up + i, (count - i) * 4);
      S::store(g, S::mul(silu<S>(S::load(g)), S::load(u)));
      std::memcpy(gate + i, g, (count - i) * 4);
    }
  }

  // ---- the table ----------------------------------------------------------------------------

  template <typename Block>
  static constexpr MatmulTable::Format format() {
    constexpr DType D = Block::kType;
    constexpr PackedFormat f = packed_format(D);
    MatmulTable::Format kernels{&PackKernels<S>::template pack_group<Block>,
                                &StreamKernels<S>::template stream<D>,
                                f.bits == 8 ? S::kStreamMostBytes : S::kStreamMost,
                                &unpack<D>,
                                &dequantise<D>,
                                &multiply<CodeKind{f.bits, f.zero, f.sub, f.min}>};
    if constexpr (requires { typename S::Tiles; }) {
      using Tiles = TileProducts<S, typename S::Tiles, f.sub, f.min>;
      kernels.open_tiles = &Tiles::open;
      kernels.close_tiles = &Tiles::close;
      kernels.unpack_tiles = &unpack<D, true>;
      kernels.multiply_tiles = &Tiles::multiply;
    }
    return kernels;
  }

  template <typename... Blocks>
  static constexpr void set_formats(MatmulTable& table) {
    ((table.formats[static_cast<std::size_t>(Blocks::kType)] = format<Blocks>()), ...);
  }

  static constexpr MatmulTable table() {
    static_assert(S::kStreamMost <= kMostStreamTokens && S::kStreamMostBytes <= kMostStreamTokens);
    MatmulTable t{};
    t.name = S::kName;
    t.stream_at_once = S::kStreamTokens;
    set_formats<BlockQ8_0, BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ5_1, BlockQ2_K, BlockQ3_K,
                BlockQ4_K, BlockQ5_K, BlockQ6_K, BlockIQ1_S, BlockIQ1_M, BlockIQ2_XXS, BlockIQ2_XS,
                BlockIQ2_S, BlockIQ3_XXS, BlockIQ3_S, BlockIQ4_NL, BlockIQ4_XS>(t);
    t.multiply_f32 = &multiply_f32;
    t.dot_rows[static_cast<std::size_t>(DType::F32)] =
        &DotKernels<S>::template dot_rows<DType::F32>;
    t.dot_rows[static_cast<std::size_t>(DType::F16)] =
        &DotKernels<S>::template dot_rows<DType::F16>;
    t.dot_rows[static_cast<std::size_t>(DType::BF16)] =
        &DotKernels<S>::template dot_rows<DType::BF16>;
    t.dot_rows[static_cast<std::size_t>(DType::F8_E4M3)] =
        &DotKernels<S>::template dot_rows<DType::F8_E4M3>;
    t.finish = &finish;
    t.quantise = &quantise;
    t.silu_mul = &silu_mul;
    return t;
  }
};

}  // namespace fathom::cpu
