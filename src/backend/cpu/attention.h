// Attention over the paged KV cache, grouped-query and latent alike.
//
// A cached token's row holds its keys and values; query head h reads K at k_offset + k_step * group
// and V at v_offset + v_step * group, with group = h / (heads / kv_heads). Latent attention in its
// absorbed form (DeepSeek-V2, arXiv 2405.04434, 2.1.2) is the case of one kv head whose value is
// the first kv_lora_rank elements of its key.
#pragma once

#include <cstddef>
#include <span>

#include "base/cpu_features.h"
#include "base/thread_pool.h"
#include "tensor/dtype.h"

namespace fathom::cpu {

inline constexpr std::size_t kPageTokens = 64;

struct AttentionShape {
  std::size_t heads = 0;
  std::size_t kv_heads = 0;
  std::size_t k_dim = 0;  // elements of a query/key head
  std::size_t v_dim = 0;  // elements of a value/output head
  std::size_t k_offset = 0, k_step = 0;
  std::size_t v_offset = 0, v_step = 0;
  std::size_t row_width = 0;    // elements of a cached token's row
  DType kv_dtype = DType::F32;  // F32 or BF16
  float scale = 1;
};

/// Consecutive new tokens of one sequence; token i attends to cached rows [0, first_position + i].
struct AttentionSpan {
  std::span<const std::byte* const> pages;  // of this layer and sequence, each [64, row_width]
  std::size_t first_position = 0;
  std::size_t tokens = 0;
  const float* q = nullptr;  // [tokens, heads, k_dim]
  float* out = nullptr;      // [tokens, heads, v_dim]
};

/// softmax(scale * q.k) v with an online softmax over blocks of pages (arXiv 2205.14135). Long
/// contexts are split over threads in blocks of a fixed size and merged in order, so that the
/// result does not depend on the number of threads.
void attention(ThreadPool& pool, CpuLevel level, const AttentionShape& shape,
               std::span<const AttentionSpan> spans);

}  // namespace fathom::cpu
