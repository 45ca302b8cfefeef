#include "backend/cpu/kv_page.h"

#include <cmath>
#include <cstdint>
#include <cstring>

#include "tensor/half.h"

namespace fathom::cpu {
namespace {

void put(std::byte* to, std::uint32_t word) { std::memcpy(to, &word, sizeof word); }

/// F16 ends at 65504: what is larger stays finite, or one such key would spoil every answer.
std::uint16_t half(DType dtype, float x) {
  if (dtype == DType::BF16) return f32_to_bf16(x);
  constexpr float kMost = 65504.0F;
  return f32_to_f16(x > kMost ? kMost : x < -kMost ? -kMost : x);
}

std::uint32_t pair(DType dtype, float first, float second) {
  return half(dtype, first) | std::uint32_t{half(dtype, second)} << 16;
}

void store_keys(const KvLayout& layout, std::byte* keys, std::size_t first, std::size_t tokens,
                const float* k, std::size_t stride) {
  const std::size_t per_word = layout.word_elements();
  const std::size_t words = layout.stored_k_dim() / per_word;  // of a key
  // By groups of sixteen keys, so that a prompt's keys fill whole cache lines.
  while (tokens > 0) {
    const std::size_t lane = first % kLaneKeys;
    const std::size_t count = tokens < kLaneKeys - lane ? tokens : kLaneKeys - lane;
    std::byte* group = keys + first / kLaneKeys * words * kLaneKeys * 4 + lane * 4;
    for (std::size_t w = 0; w < words; ++w, group += kLaneKeys * 4) {
      for (std::size_t t = 0; t < count; ++t) {
        const float* key = k + t * stride;
        if (per_word == 1) {
          std::memcpy(group + 4 * t, key + w, 4);
        } else {
          const bool whole = 2 * w + 1 < layout.k_dim;
          put(group + 4 * t, pair(layout.dtype, key[2 * w], whole ? key[2 * w + 1] : 0.0F));
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
        const std::uint16_t second = half(dtype, x[i]);
        std::memcpy(to + 4 * i + 2, &second, 2);
      }
      first += 1;
      x += stride;
    } else if (first + 1 < end) {
      for (std::size_t i = 0; i < dim; ++i) put(to + 4 * i, pair(dtype, x[i], x[stride + i]));
      first += 2;
      x += 2 * stride;
    } else {
      // The absent partner becomes 0: kernels multiply it, by 0.
      for (std::size_t i = 0; i < dim; ++i) put(to + 4 * i, half(dtype, x[i]));
      first += 1;
    }
  }
}

/// `dim` elements of token `token`, rounded; code i goes to `at(i)`. Codes from dim up to `padded`
/// become zeros.
template <typename At>
void store_codes(const float* x, std::size_t dim, std::size_t padded, std::byte* scales,
                 std::size_t token, const At& at) {
  for (std::size_t begin = 0; begin < dim; begin += kScaleElements) {
    const std::size_t end = dim < begin + kScaleElements ? dim : begin + kScaleElements;
    float most = 0;
    bool finite = true;
    for (std::size_t i = begin; i < end; ++i) {
      const float size = std::abs(x[i]);
      most = size > most ? size : most;
      finite = finite && std::isfinite(size);
    }
    // The code is of the scale as it is stored. NaN and infinities spoil all 32, as they should.
    const std::uint16_t stored = finite ? half(DType::F16, most / 127.0F) : std::uint16_t{0x7E00};
    const float scale = f16_to_f32(stored);
    const float inverse = finite && scale > 0 ? 1.0F / scale : 0.0F;
    for (std::size_t i = begin; i < end; ++i) {
      const float code = finite ? std::nearbyint(x[i] * inverse) : 0.0F;
      // A scale rounded down would take the largest to 128.
      *at(i) = static_cast<std::byte>(static_cast<std::int8_t>(code > 127    ? 127
                                                               : code < -127 ? -127
                                                                             : code));
    }
    std::memcpy(scales + (begin / kScaleElements * kPageTokens + token) * 2, &stored, 2);
  }
  for (std::size_t i = dim; i < padded; ++i) *at(i) = std::byte{0};
}

void store_keys_q8(const KvLayout& layout, std::byte* keys, std::size_t first, std::size_t tokens,
                   const float* k, std::size_t stride) {
  const std::size_t padded = layout.stored_k_dim();
  for (std::size_t t = first; t < first + tokens; ++t, k += stride) {
    std::byte* key = keys + t / kLaneKeys * padded * kLaneKeys + t % kLaneKeys * 4;
    store_codes(k, layout.k_dim, padded, keys + scales_offset(padded), t,
                [key](std::size_t i) { return key + i / 4 * kLaneKeys * 4 + i % 4; });
  }
}

void store_rows_q8(std::byte* rows, std::size_t dim, std::size_t first, std::size_t tokens,
                   const float* x, std::size_t stride) {
  for (std::size_t t = first; t < first + tokens; ++t, x += stride) {
    std::byte* row = rows + t / 4 * dim * 4 + t % 4;
    store_codes(x, dim, dim, rows + scales_offset(dim), t,
                [row](std::size_t i) { return row + 4 * i; });
  }
}

}  // namespace

void store_tokens(const KvLayout& layout, std::byte* page_layer, std::size_t kv_head,
                  std::size_t first, std::size_t tokens, const float* k, std::size_t k_stride,
                  const float* v, std::size_t v_stride) {
  std::byte* keys = page_layer + keys_offset(layout, kv_head);
  std::byte* values = page_layer + values_offset(layout, kv_head);
  const bool q8 = layout.dtype == DType::Q8_0;
  const auto store_side = [&](std::byte* rows, std::size_t dim, const float* x,
                              std::size_t stride) {
    if (q8) {
      store_rows_q8(rows, dim, first, tokens, x, stride);
    } else {
      store_rows(layout.dtype, rows, dim, first, tokens, x, stride);
    }
  };
  if (layout.latent()) return store_side(keys, layout.k_dim, k, k_stride);
  if (q8) {
    store_keys_q8(layout, keys, first, tokens, k, k_stride);
  } else {
    store_keys(layout, keys, first, tokens, k, k_stride);
  }
  store_side(values, layout.v_dim, v, v_stride);
}

}  // namespace fathom::cpu
