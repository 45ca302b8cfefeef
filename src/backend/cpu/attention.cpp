// Attention over the paged KV cache, plainly: one query head at a time, one block of keys at a
// time.
#include "backend/cpu/attention.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "base/error.h"

namespace fathom::cpu {
namespace {

float load(DType dtype, const std::byte* row, std::size_t i) {
  if (dtype == DType::F32) {
    float value;
    std::memcpy(&value, row + 4 * i, 4);
    return value;
  }
  std::uint16_t half;
  std::memcpy(&half, row + 2 * i, 2);
  return std::bit_cast<float>(static_cast<std::uint32_t>(half) << 16);
}

void attend(const AttentionShape& shape, const AttentionSpan& span, std::size_t token,
            std::size_t head) {
  const std::size_t group = head / (shape.heads / shape.kv_heads);
  const std::size_t k_at = shape.k_offset + shape.k_step * group;
  const std::size_t v_at = shape.v_offset + shape.v_step * group;
  const std::size_t element = shape.kv_dtype == DType::F32 ? 4 : 2;
  const float* q = span.q + (token * shape.heads + head) * shape.k_dim;
  const std::size_t context = span.first_position + token + 1;
  std::vector<float> out(shape.v_dim, 0.0F);
  float scores[kPageTokens];
  float max = -std::numeric_limits<float>::infinity();
  float sum = 0;
  for (std::size_t begin = 0; begin < context; begin += kPageTokens) {
    const std::size_t rows = std::min(kPageTokens, context - begin);
    const std::byte* page = span.pages[begin / kPageTokens];
    float block_max = max;
    for (std::size_t r = 0; r < rows; ++r) {
      const std::byte* row = page + r * shape.row_width * element;
      float dot = 0;
      for (std::size_t i = 0; i < shape.k_dim; ++i)
        dot += q[i] * load(shape.kv_dtype, row, k_at + i);
      scores[r] = dot * shape.scale;
      block_max = std::max(block_max, scores[r]);
    }
    const float shrink = std::exp(max - block_max);  // 0 for the first block
    max = block_max;
    sum *= shrink;
    for (float& o : out) o *= shrink;
    for (std::size_t r = 0; r < rows; ++r) {
      const std::byte* row = page + r * shape.row_width * element;
      const float p = std::exp(scores[r] - max);
      sum += p;
      for (std::size_t i = 0; i < shape.v_dim; ++i) {
        out[i] += p * load(shape.kv_dtype, row, v_at + i);
      }
    }
  }
  float* to = span.out + (token * shape.heads + head) * shape.v_dim;
  for (std::size_t i = 0; i < shape.v_dim; ++i) to[i] = out[i] / sum;
}

}  // namespace

void attention(ThreadPool& pool, CpuLevel /*level*/, const AttentionShape& shape,
               std::span<const AttentionSpan> spans) {
  require(shape.kv_dtype == DType::F32 || shape.kv_dtype == DType::BF16, ErrorCode::Unsupported,
          "the KV cache holds {}, but attention reads only F32 and BF16",
          to_string(shape.kv_dtype));
  for (const AttentionSpan& span : spans) {
    pool.run(span.tokens * shape.heads, [&](std::size_t chunk, unsigned) {
      attend(shape, span, chunk / shape.heads, chunk % shape.heads);
    });
  }
}

}  // namespace fathom::cpu
