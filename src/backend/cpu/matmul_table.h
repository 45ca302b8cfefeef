// The inner loops of matmul.h as a table of functions, one table an instruction set.
//
// All tables give bit-identical results: the templates in matmul_simd.h fix the order of every sum,
// and fused multiply-adds are explicit. None of them allocates, throws or reads past its inputs.
#pragma once

#include <cstddef>

#include "backend/cpu/packed_layout.h"
#include "base/cpu_features.h"
#include "tensor/dtype.h"

namespace fathom::cpu {

/// Rows and tokens a call of `dot_rows` takes at most.
inline constexpr std::size_t kDotRows = 4;

/// Tokens from which on the tile unit pays, and the records that kernels may read past the last.
inline constexpr std::size_t kTileTokens = 4;
inline constexpr std::size_t kRecordsPast = 7;

/// The most tokens that any table multiplies straight from the packed form.
inline constexpr std::size_t kMostStreamTokens = 32;

/// What a thread will read after its present groups: group g at `at + g * stride`. `at` may be
/// null. Only advice, and may lead past the weights.
struct Upcoming {
  const std::byte* at = nullptr;
  std::size_t stride = 0;
};

/// What a streaming kernel asks the memory for before it needs it: what lies some way ahead in its
/// own groups if `ask`, and the beginnings of `next`.
struct Ahead {
  bool ask = false;
  Upcoming next;
};

struct MatmulTable {
  const char* name;
  /// Tokens that `stream` multiplies at once.
  std::size_t stream_at_once;

  /// Kernels of one packed format.
  struct Format {
    /// Packs `count` (at most 16) stored rows, row_bytes apart, into a group.
    void (*pack)(const std::byte* rows, std::size_t row_bytes, std::size_t count,
                 std::size_t features, std::byte* group);
    /// out[g, t, 16] = group g times token t, for `count` (at most 4) groups and up to
    /// stream_at_once tokens; groups are out_stride floats apart. features: a multiple of 32.
    /// activations: ceil(features / 256) times `tokens` records, `stride` records apart. One more
    /// may be read, and counts for nothing.
    void (*stream)(const std::byte* const* groups, std::size_t count, std::size_t features,
                   const ActivationRecord* activations, std::size_t stride, std::size_t tokens,
                   float* out, std::size_t out_stride, Ahead ahead);
    /// Up to how many tokens, of several passes, that is the quickest way.
    std::size_t stream_tokens;
    /// Spreads `subs` sub-tiles of a chunk, which starts at sub-tile `first` of the group.
    void (*unpack)(const std::byte* group, std::size_t first, std::size_t subs, UnpackedTile* tile);
    /// The same as F32: weights [32 * subs, 16].
    void (*dequantise)(const std::byte* group, std::size_t first, std::size_t subs, float* weights);
    /// sums[g, t, 16] += tile g times token t; groups are sums_stride floats apart.
    void (*multiply)(const UnpackedTile* tiles, std::size_t groups, std::size_t subs,
                     const ActivationRecord* activations, std::size_t tokens, float* sums,
                     std::size_t sums_stride);
    /// The same on a tile unit, from kTileTokens tokens up: null at levels that have none. Each
    /// thread opens its unit for products of `tokens` (at most 96) tokens and closes it afterwards.
    /// The codes of these UnpackedTiles are signed. Up to 7 records after the last token's are
    /// read, and whatever they hold counts for nothing.
    void (*open_tiles)(std::size_t tokens) = nullptr;
    void (*close_tiles)() = nullptr;
    void (*unpack_tiles)(const std::byte* group, std::size_t first, std::size_t subs,
                         UnpackedTile* tile) = nullptr;
    void (*multiply_tiles)(const UnpackedTile* tiles, std::size_t groups, std::size_t subs,
                           const ActivationRecord* activations, std::size_t tokens, float* sums,
                           std::size_t sums_stride) = nullptr;
  };
  Format formats[static_cast<std::size_t>(DType::Bool) + 1];

  /// sums[g, t, 16] += the sum over k of weights[g, k, 16] * x[t, k]; groups are weights_stride and
  /// sums_stride floats apart. The inner sum starts at 0.
  void (*multiply_f32)(const float* weights, std::size_t weights_stride, std::size_t groups,
                       std::size_t features, const float* x, std::size_t x_stride,
                       std::size_t tokens, float* sums, std::size_t sums_stride);

  /// out[r * tokens + t] = row r (stored as F32, F16, BF16 or F8_E4M3) times x[t].
  void (*dot_rows[static_cast<std::size_t>(DType::F8_E4M3) + 1])(
      const std::byte* rows, std::size_t row_bytes, std::size_t row_count, std::size_t features,
      const float* x, std::size_t x_stride, std::size_t tokens, float* out);

  /// y[t, r] = sums[r / 16, t, r % 16] + bias[r] for `rows` rows, or y[t, r] += with `accumulate`.
  /// bias may be null.
  void (*finish)(const float* sums, std::size_t sums_stride, std::size_t rows, std::size_t tokens,
                 const float* bias, bool accumulate, float* y, std::size_t y_stride);

  /// Quantises `subs` * 32 features of one token into a record, from its sub-tile `first` on.
  void (*quantise)(const float* x, std::size_t first, std::size_t subs, ActivationRecord* record);

  /// gate[i] = silu(gate[i]) * up[i]
  void (*silu_mul)(float* gate, const float* up, std::size_t count);
};

/// The table of a level; levels without one of their own use the next lower one.
const MatmulTable& matmul_table(CpuLevel level);

extern const MatmulTable kMatmulScalar;
extern const MatmulTable kMatmulAvx2;
extern const MatmulTable kMatmulAvx2Vnni;
extern const MatmulTable kMatmulAvx512;
extern const MatmulTable kMatmulAmx;
extern const MatmulTable kMatmulTwinScalar;  // the kernels of AMX over a tile unit in C++
extern const MatmulTable kMatmulTwinAvx512;

}  // namespace fathom::cpu
