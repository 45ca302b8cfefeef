// The inner loops of attention.h as a table of functions, one table an instruction set. All tables
// agree bit for bit: every sum's order is fixed by the templates in attention_simd.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/cpu_features.h"
#include "tensor/dtype.h"

namespace fathom::cpu {

/// sums[t, g, 16] = (or +=, with `add`) the sum over k of panel[k, g, 16] * x[t, k], one fused
/// multiply-add after another. Distances are in bytes for the panel, in floats for the rest.
struct PanelProduct {
  /// Rows of sixteen F32, or of sixteen pairs of BF16 or F16: rows 2i and 2i + 1 in one, as the
  /// cache has them (kv_page.h).
  DType dtype = DType::F32;
  const std::byte* panel = nullptr;
  std::size_t panel_step = 0;   // from row to row, or from pair of rows to pair
  std::size_t panel_group = 0;  // from sixteen lanes to the next
  std::size_t steps = 0;        // rows, or pairs of rows
  std::size_t groups = 0;
  /// The panel of the next product, fetched towards the cache meanwhile if this one is of pairs:
  /// pages lie anywhere, so the machine's own prefetching stops at each. Null if there is none.
  const std::byte* next = nullptr;
  const float* x = nullptr;
  std::size_t x_row = 0;
  std::size_t x_step = 1;  // from k to k
  std::size_t rows = 0;
  float* sums = nullptr;
  std::size_t sums_row = 0;
  std::size_t sums_group = 16;
  bool add = false;
};

/// The same with x rounded to BF16 and a panel of pairs (tile_attention.h, pair_attention.h): x has
/// 2 * steps elements a row, then zeros up to a multiple of 32, and rows up to a multiple of 16
/// that may be read.
struct RoundedProduct {
  const std::byte* panel = nullptr;
  std::size_t panel_step = 0;
  std::size_t panel_group = 0;
  std::size_t steps = 0;
  std::size_t groups = 0;
  /// What will be read soon, fetched towards the cache meanwhile, evenly: a burst would be dropped.
  const std::byte* fetch = nullptr;
  std::size_t fetch_bytes = 0;
  const std::uint16_t* x = nullptr;
  std::size_t x_row = 0;
  std::size_t rows = 0;
  float* sums = nullptr;
  std::size_t sums_row = 0;
  std::size_t sums_group = 16;
  bool add = false;
};

/// Attention with queries and weights in BF16; null functions where nothing multiplies BF16.
struct RoundedKernels {
  /// A thread opens its unit before multiply() and closes it afterwards.
  void (*open)() = nullptr;
  void (*close)() = nullptr;
  void (*multiply)(const RoundedProduct& product) = nullptr;
  std::size_t queries = 0;  // that multiply() takes at once: masks are cut this fine
  /// out[i] = x[i]; count a multiple of 16
  void (*round_row)(const float* x, std::size_t count, std::uint16_t* out) = nullptr;
  /// out[lane, i] = columns[i, lane] of sixteen lanes; count a multiple of 32
  void (*round_columns)(const float* columns, std::size_t stride, std::size_t count,
                        std::uint16_t* out, std::size_t out_row) = nullptr;
  /// A panel [rows, 16] as pairs of rows, i and i + 16 of each 32; rows a multiple of 16, the
  /// missing sixteen being zeros.
  void (*round_panel)(const float* panel, std::size_t rows, std::uint16_t* out) = nullptr;
  /// Latent entries, two rows of the cache's in one, as two rows of `width` elements in the order
  /// of round_panel(); a width that is no multiple of 32, but of 16, ends with zeros.
  void (*split_entries)(const std::byte* in, std::size_t in_stride, std::size_t rows,
                        std::size_t width, std::uint16_t* out, std::size_t out_row) = nullptr;
};

struct AttentionTable {
  const char* name;

  void (*multiply)(const PanelProduct& product);

  /// Lays `rows` rows of `width` elements (or pairs: twice as many rows) out as F32, rows of
  /// `out_stride` floats; elements from the width to the next multiple of 16 become zeros. `next`,
  /// if not null, is what will be read in the same way after it, and is fetched towards the cache.
  void (*unpack)(DType dtype, const std::byte* in, std::size_t in_stride, std::size_t rows,
                 std::size_t width, float* out, std::size_t out_stride, const std::byte* next);

  /// The same of Q8_0, `words` words of four elements each of sixteen keys: out [4 * words, 16]
  /// floats. scales: of the first of those keys and elements, [words / 8, 64] in F16.
  void (*unpack_keys_q8)(const std::byte* in, std::size_t words, const std::byte* scales,
                         float* out, const std::byte* next);
  /// The same of `rows` rows of `width` words, an element of four tokens' values each: out
  /// [4 * rows, out_stride] floats. scales: of the first token and element, [width / 32, 64].
  void (*unpack_rows_q8)(const std::byte* in, std::size_t in_stride, std::size_t rows,
                         std::size_t width, const std::byte* scales, float* out,
                         std::size_t out_stride, const std::byte* next);

  /// panel[i, lane] = rows[lane][i] for `count` (at most 16) rows of `dim` floats; zeros in the
  /// other lanes.
  void (*turn)(const float* const* rows, std::size_t count, std::size_t dim, float* panel);

  /// Softmax of one row of scores over its first `limit` keys, without the division: scores become
  /// 2^(factor * score - most), zero from the limit up to `keys`. Returns most and the sum.
  /// `scores` has room for whole groups of 16.
  void (*softmax_row)(float* scores, std::size_t limit, std::size_t keys, float factor, float* most,
                      float* sum);
  /// The same for `queries` queries side by side: scores [keys, lanes], limits, most, sum
  /// [queries], lanes being `queries` rounded up to a multiple of 16.
  void (*softmax_columns)(float* scores, std::size_t queries, const std::size_t* limits,
                          std::size_t keys, float factor, float* most, float* sum);

  /// Adds one query's part of the context to the parts before it: (most, sum, values) of both, with
  /// `dim` values, a multiple of 16. A part without keys has sum 0 and changes nothing.
  void (*merge)(float* most, float* sum, float* values, float part_most, float part_sum,
                const float* part_values, std::size_t dim);

  /// out[i] = values[i] / sum
  void (*write)(const float* values, std::size_t dim, float sum, float* out);

  RoundedKernels rounded;
};

/// The table of attention_level(level).
const AttentionTable& attention_table(CpuLevel level);

extern const AttentionTable kAttentionScalar;
extern const AttentionTable kAttentionAvx2;
extern const AttentionTable kAttentionAvx512;
extern const AttentionTable kAttentionAvx512Bf16;
extern const AttentionTable kAttentionAmx;
extern const AttentionTable kAttentionTwinScalar;
extern const AttentionTable kAttentionTwinAvx512;

}  // namespace fathom::cpu
