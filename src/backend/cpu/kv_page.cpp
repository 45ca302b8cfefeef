#include "backend/cpu/kv_page.h"

#include <cstdint>
#include <cstring>

#include "tensor/half.h"

namespace fathom::cpu {
namespace {

void put(std::byte* to, std::uint32_t word) { std::memcpy(to, &word, sizeof word); }

std::uint32_t pair(float first, float second) {
  return f32_to_bf16(first) | std::uint32_t{f32_to_bf16(second)} << 16;
}

void store_keys(const KvLayout& layout, std::byte* keys, std::size_t first, std::size_t tokens,
                const float* k, std::size_t stride) {
  const bool pairs = layout.dtype == DType::BF16;
  const std::size_t per_word = pairs ? 2 : 1;
  const std::size_t words = layout.stored_k_dim() / per_word;  // of a key
  // By groups of sixteen keys, so that a prompt's keys fill whole cache lines.
  while (tokens > 0) {
    const std::size_t lane = first % kLaneKeys;
    const std::size_t count = tokens < kLaneKeys - lane ? tokens : kLaneKeys - lane;
    std::byte* group = keys + first / kLaneKeys * words * kLaneKeys * 4 + lane * 4;
    for (std::size_t w = 0; w < words; ++w, group += kLaneKeys * 4) {
      for (std::size_t t = 0; t < count; ++t) {
        const float* key = k + t * stride;
        if (!pairs) {
          std::memcpy(group + 4 * t, key + w, 4);
        } else {
          const bool whole = 2 * w + 1 < layout.k_dim;
          put(group + 4 * t, pair(key[2 * w], whole ? key[2 * w + 1] : 0.0F));
        }
      }
    }
    first += count;
    tokens -= count;
    k += count * stride;
  }
}

void store_rows(DType dtype, std::byte* rows, std::size_t dim, std::size_t first,
                std::size_t tokens, const float* x, std::size_t stride) {
  if (dtype == DType::F32) {
    for (std::size_t t = 0; t < tokens; ++t, x += stride) {
      std::memcpy(rows + (first + t) * dim * 4, x, dim * 4);
    }
    return;
  }
  for (const std::size_t end = first + tokens; first < end;) {
    std::byte* to = rows + first / 2 * dim * 4;
    if (first % 2 != 0) {
      for (std::size_t i = 0; i < dim; ++i) {
        const std::uint16_t half = f32_to_bf16(x[i]);
        std::memcpy(to + 4 * i + 2, &half, 2);
      }
      first += 1;
      x += stride;
    } else if (first + 1 < end) {
      for (std::size_t i = 0; i < dim; ++i) put(to + 4 * i, pair(x[i], x[stride + i]));
      first += 2;
      x += 2 * stride;
    } else {
      // The absent partner becomes 0: kernels multiply it, by 0.
      for (std::size_t i = 0; i < dim; ++i) put(to + 4 * i, f32_to_bf16(x[i]));
      first += 1;
    }
  }
}

}  // namespace

void store_tokens(const KvLayout& layout, std::byte* page_layer, std::size_t kv_head,
                  std::size_t first, std::size_t tokens, const float* k, std::size_t k_stride,
                  const float* v, std::size_t v_stride) {
  std::byte* keys = page_layer + keys_offset(layout, kv_head);
  if (layout.latent()) {
    store_rows(layout.dtype, keys, layout.k_dim, first, tokens, k, k_stride);
    return;
  }
  store_keys(layout, keys, first, tokens, k, k_stride);
  store_rows(layout.dtype, page_layer + values_offset(layout, kv_head), layout.v_dim, first, tokens,
             v, v_stride);
}

}  // namespace fathom::cpu
