// The inner loops of attention.h as a table of functions, one table an instruction set; together
// with MatmulTable::multiply_f32, which does the two products. All tables agree bit for bit.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cpu/attention.h"
#include "tensor/dtype.h"

namespace fathom::cpu {

inline constexpr std::size_t kLaneKeys = 16;
inline constexpr std::size_t kPageGroups = kPageTokens / kLaneKeys;

struct AttentionTable {
  const char* name;

  /// Lays `keys` (at most 64) rows of `dim` elements, row_bytes apart, out as F32
  /// [64 / 16, dim, 16]: sixteen keys side by side. Absent keys become zeros.
  void (*spread_keys)(DType dtype, const std::byte* rows, std::size_t row_bytes, std::size_t keys,
                      std::size_t dim, float* panel);
  /// Lays rows out as F32 [ceil(dim / 16), 64, 16]: sixteen elements side by side. What is absent
  /// becomes zeros.
  void (*spread_values)(DType dtype, const std::byte* rows, std::size_t row_bytes, std::size_t keys,
                        std::size_t dim, float* panel);

  /// One step of the online softmax for `queries` queries.
  /// scores [64 / 16, queries, 16], unscaled; limits [queries]: keys a query may see, 0 to 64.
  /// most, sum [queries]: the running maximum and sum of exponentials, updated.
  /// shrink [queries]: out: what the weighted sum of values so far is to be multiplied by.
  /// weights [queries, 64]: out: exponentials, 0 from the limit on.
  void (*softmax)(const float* scores, std::size_t queries, const std::size_t* limits, float scale,
                  float* most, float* sum, float* shrink, float* weights);

  /// values [groups, queries, 16] *= factors[query]
  void (*scale)(float* values, std::size_t groups, std::size_t queries, const float* factors);

  /// Adds one query's part of the context to the parts before it: (most, sum, values) of both,
  /// `values` being `groups` runs of 16 floats, `stride` floats apart. A part without keys has sum
  /// 0 and changes nothing.
  void (*merge)(float* most, float* sum, float* values, float part_most, float part_sum,
                const float* part_values, std::size_t groups, std::size_t stride);

  /// out[i] = values[i / 16 * stride + i % 16] / sum, for `dim` elements.
  void (*write)(const float* values, std::size_t stride, std::size_t dim, float sum, float* out);
};

const AttentionTable& attention_table(CpuLevel level);

extern const AttentionTable kAttentionScalar;
extern const AttentionTable kAttentionAvx2;
extern const AttentionTable kAttentionAvx512;

}  // namespace fathom::cpu
