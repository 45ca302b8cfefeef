// How a page of the KV cache lies in memory: as the attention kernels multiply it, so that nothing
// is turned or spread when it is read, which happens once a token, but when it is written, once.
//
// A layer of a page holds, for one kv head after another, 64 keys and then 64 values:
//
//   F32   keys [64 / 16, k_dim, 16]               sixteen keys side by side
//         values [64, v_dim]
//   BF16  keys [64 / 16, stored_k_dim / 2, 16, 2] the same, two elements of a key in a word
//   F16   values [64 / 2, v_dim, 2]               an element of two tokens' values in a word
//   Q8_0  keys [64 / 16, stored_k_dim / 4, 16, 4] the same by fours, in signed bytes; after them
//         values [64 / 4, v_dim, 4]               scales [dim / 32, 64] in F16, of keys and values
//
// Latent entries, key and value in one, are laid out like values. Pairs are what BF16 products
// (vdpbf16ps, AMX) take; without those, a shift and a mask make two vectors of F32 of a vector of
// pairs, fewer operations than widening halves.
//
// Q8_0 rounds each 32 elements of a token by themselves, when it is written: later tokens change
// nothing of it, however they come.
#pragma once

#include <cstddef>

#include "backend/backend.h"

namespace fathom::cpu {

inline constexpr std::size_t kPageTokens = KvLayout::kPageTokens;
inline constexpr std::size_t kLaneKeys = 16;

inline constexpr std::size_t kScaleElements = 32;  // that share a scale in Q8_0

/// Bytes from the beginning of a page's layer to the keys (or entries) and the values of a kv head.
inline std::size_t keys_offset(const KvLayout& layout, std::size_t kv_head) {
  return kv_head * (layout.side_bytes(layout.stored_k_dim()) + layout.side_bytes(layout.v_dim));
}
inline std::size_t values_offset(const KvLayout& layout, std::size_t kv_head) {
  if (layout.latent()) return keys_offset(layout, kv_head);
  return keys_offset(layout, kv_head) + layout.side_bytes(layout.stored_k_dim());
}
/// Bytes from keys, values or entries of `dim` elements to their scales, in Q8_0.
inline std::size_t scales_offset(std::size_t dim) { return kPageTokens * dim; }

/// Stores tokens [first, first + tokens) of a page's layer, of one kv head, rounding to the
/// layout's type. k: [tokens, k_dim], rows k_stride floats apart; v likewise, unused if
/// latent. Tokens after `first` may be overwritten, those before are left alone.
void store_tokens(const KvLayout& layout, std::byte* page_layer, std::size_t kv_head,
                  std::size_t first, std::size_t tokens, const float* k, std::size_t k_stride,
                  const float* v, std::size_t v_stride);

}  // namespace fathom::cpu
