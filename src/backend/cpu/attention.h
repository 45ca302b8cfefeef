// Attention over the paged KV cache, grouped-query and latent alike.
//
// Latent attention in its absorbed form (DeepSeek-V2, arXiv 2405.04434, 2.1.2) is attention with
// one kv head whose value is the first kv_lora_rank elements of its key.
#pragma once

#include <cstddef>
#include <span>

#include "backend/cpu/kv_page.h"
#include "base/cpu_features.h"
#include "base/thread_pool.h"

namespace fathom::cpu {

struct AttentionShape {
  KvLayout kv;            // dtype: any that KvLayout knows
  std::size_t heads = 0;  // query head h goes with kv head h / (heads / kv_heads)
  std::size_t v_dim = 0;  // elements of an output head; latent: at most kv.k_dim
  float scale = 1;        // above 0
  /// Queries and softmax weights may be rounded to BF16, if that is the cache's type: for the
  /// levels that have tiles, where v_dim and a latent k_dim are multiples of 16.
  bool rounded = false;
};

/// Consecutive new tokens of one sequence; token i attends to cached rows [0, first_position + i].
struct AttentionSpan {
  std::span<const std::byte* const> pages;  // of this layer and sequence (kv_page.h)
  std::size_t first_position = 0;
  std::size_t tokens = 0;
  const float* q = nullptr;  // [tokens, heads, k_dim]
  float* out = nullptr;      // [tokens, heads, v_dim]
};

/// The level whose attention kernels run at `level`: attention has no use for AVX-VNNI.
CpuLevel attention_level(CpuLevel level);

/// softmax(scale * q.k) v, in parts of 256 keys with a softmax of their own (arXiv 2205.14135) that
/// are merged in order. Threads share out kv heads, tokens and parts; which thread did what does
/// not show in the result, nor does how a prompt is cut into calls.
void attention(ThreadPool& pool, CpuLevel level, const AttentionShape& shape,
               std::span<const AttentionSpan> spans);

}  // namespace fathom::cpu
