// How a page of the KV cache lies in memory: as the attention kernels multiply it, so that nothing
// is turned or spread when it is read, which happens once a token, but when it is written, once.
//
// A layer of a page holds, for one kv head after another, 64 keys and then 64 values:
//
//   F32   keys [64 / 16, k_dim, 16]               sixteen keys side by side
//         values [64, v_dim]
//   BF16  keys [64 / 16, stored_k_dim / 2, 16, 2] the same, two elements of a key in a word
//         values [64 / 2, v_dim, 2]               an element of two tokens' values in a word
//
// Latent entries, key and value in one, are laid out like values. Pairs are what BF16 products
// (vdpbf16ps, AMX) take; without those, a shift and a mask make two vectors of F32 of a vector of
// pairs, fewer operations than widening halves.
#pragma once

#include <cstddef>

#include "backend/backend.h"

namespace fathom::cpu {

inline constexpr std::size_t kPageTokens = KvLayout::kPageTokens;
inline constexpr std::size_t kLaneKeys = 16;

inline std::size_t element_bytes(const KvLayout& layout) { return info(layout.dtype).block_bytes; }

/// Bytes from the beginning of a page's layer to the keys (or entries) and the values of a kv head.
inline std::size_t keys_offset(const KvLayout& layout, std::size_t kv_head) {
  return kv_head * kPageTokens * (layout.stored_k_dim() + layout.v_dim) * element_bytes(layout);
}
inline std::size_t values_offset(const KvLayout& layout, std::size_t kv_head) {
  if (layout.latent()) return keys_offset(layout, kv_head);
  return keys_offset(layout, kv_head) + kPageTokens * layout.stored_k_dim() * element_bytes(layout);
}

/// Stores tokens [first, first + tokens) of a page's layer, of one kv head, rounding to BF16 if
/// that is the layout's type. k: [tokens, k_dim], rows k_stride floats apart; v likewise, unused if
/// latent. Tokens after `first` may be overwritten, those before are left alone.
void store_tokens(const KvLayout& layout, std::byte* page_layer, std::size_t kv_head,
                  std::size_t first, std::size_t tokens, const float* k, std::size_t k_stride,
                  const float* v, std::size_t v_stride);

}  // namespace fathom::cpu
