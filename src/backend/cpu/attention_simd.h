// The kernels of attention_table.h as templates over the lanes of simd_*.h.
#pragma once

#include <cstddef>
#include <cstring>

#include "backend/cpu/attention_table.h"
#include "backend/cpu/kernel_trace.h"
#include "backend/cpu/vector_math.h"

namespace fathom::cpu {

template <class S>
struct AttentionKernels {
  using F = typename S::F;
  static constexpr std::size_t L = S::kLanes;
  static constexpr std::size_t kParts = 16 / L;

  struct F32Rows {
    static constexpr std::size_t kBytes = 4;
    static F load(const std::byte* p) { return S::load(reinterpret_cast<const float*>(p)); }
  };
  struct BF16Rows {
    static constexpr std::size_t kBytes = 2;
    static F load(const std::byte* p) { return S::brain(p); }
  };

  /// Elements [i, min(i + L, dim)) of a row, zeros after them.
  template <class Rows>
  static F load(const std::byte* row, std::size_t i, std::size_t dim) {
    if (i + L <= dim) return Rows::load(row + i * Rows::kBytes);
    std::byte padded[L * Rows::kBytes] = {};
    std::memcpy(padded, row + i * Rows::kBytes, (dim - i) * Rows::kBytes);
    return Rows::load(padded);
  }

  template <class Rows>
  static void spread_keys_of(const std::byte* rows, std::size_t row_bytes, std::size_t keys,
                             std::size_t dim, float* panel) {
    for (std::size_t key = 0; key < kPageTokens; key += L) {
      float* to = panel + key / 16 * dim * 16 + key % 16;
      for (std::size_t i = 0; i < dim; i += L) {
        F block[L];
        for (std::size_t k = 0; k < L; ++k) {
          block[k] = key + k < keys ? load<Rows>(rows + (key + k) * row_bytes, i, dim) : S::zero();
        }
        S::transpose(block);
        const std::size_t count = dim - i < L ? dim - i : L;
        for (std::size_t k = 0; k < count; ++k) S::store(to + 16 * (i + k), block[k]);
      }
    }
  }

  template <class Rows>
  static void spread_values_of(const std::byte* rows, std::size_t row_bytes, std::size_t keys,
                               std::size_t dim, float* panel) {
    const std::size_t padded = (dim + 15) / 16 * 16;
    for (std::size_t key = 0; key < kPageTokens; ++key) {
      const std::byte* row = rows + key * row_bytes;
      for (std::size_t i = 0; i < padded; i += L) {
        const F x = key < keys && i < dim ? load<Rows>(row, i, dim) : S::zero();
        S::store(panel + (i / 16 * kPageTokens + key) * 16 + i % 16, x);
      }
    }
  }

  static void spread_keys(DType dtype, const std::byte* rows, std::size_t row_bytes,
                          std::size_t keys, std::size_t dim, float* panel) {
    if (dtype == DType::F32) return spread_keys_of<F32Rows>(rows, row_bytes, keys, dim, panel);
    spread_keys_of<BF16Rows>(rows, row_bytes, keys, dim, panel);
  }

  static void spread_values(DType dtype, const std::byte* rows, std::size_t row_bytes,
                            std::size_t keys, std::size_t dim, float* panel) {
    if (dtype == DType::F32) return spread_values_of<F32Rows>(rows, row_bytes, keys, dim, panel);
    spread_values_of<BF16Rows>(rows, row_bytes, keys, dim, panel);
  }

  /// e^x of one number, with the bits that every lane would give.
  static float exp1(float x) {
    float lanes[L];
    S::store(lanes, exp<S>(S::all(x)));
    return lanes[0];
  }

  /// The sum of 64 numbers in sixteen partial sums, 8 onto 8, 4 onto 4, and so on.
  static float total(const F* x) {
    constexpr std::size_t vectors = kPageTokens / L;
    F parts[kParts];
    for (std::size_t p = 0; p < kParts; ++p) {
      parts[p] = x[p];
      for (std::size_t v = p + kParts; v < vectors; v += kParts) parts[p] = S::add(parts[p], x[v]);
    }
    for (std::size_t n = kParts / 2; n > 0; n /= 2) {
      for (std::size_t p = 0; p < n; ++p) parts[p] = S::add(parts[p], parts[p + n]);
    }
    return S::sum(parts[0]);
  }

  static void softmax(const float* scores, std::size_t queries, const std::size_t* limits,
                      float scale, float* most, float* sum, float* shrink, float* weights) {
    constexpr std::size_t vectors = kPageTokens / L;
    const F scales = S::all(scale);
    for (std::size_t q = 0; q < queries; ++q) {
      float* w = weights + q * kPageTokens;
      if (limits[q] == 0) {
        std::memset(w, 0, kPageTokens * sizeof(float));
        shrink[q] = 1;
        continue;
      }
      F x[vectors];
      for (std::size_t v = 0; v < vectors; ++v) {
        const std::size_t key = v * L;
        x[v] = S::mul(S::load(scores + (key / 16 * queries + q) * 16 + key % 16), scales);
      }
      if (limits[q] < kPageTokens) {
        // Only the last page of a query comes here: lanes past the limit must not count.
        for (std::size_t v = 0; v < vectors; ++v) S::store(w + v * L, x[v]);
        for (std::size_t k = limits[q]; k < kPageTokens; ++k) w[k] = -__builtin_inff();
        for (std::size_t v = 0; v < vectors; ++v) x[v] = S::load(w + v * L);
      }
      F high = x[0];
      for (std::size_t v = 1; v < vectors; ++v) high = S::max(high, x[v]);
      const float page = S::largest(high);
      const float now = page > most[q] ? page : most[q];
      const F base = S::all(now);
      for (std::size_t v = 0; v < vectors; ++v) {
        x[v] = exp<S>(S::sub(x[v], base));
        S::store(w + v * L, x[v]);
      }
      if (limits[q] < kPageTokens) {
        // exp() does not reach 0.
        for (std::size_t k = limits[q]; k < kPageTokens; ++k) w[k] = 0;
        for (std::size_t v = 0; v < vectors; ++v) x[v] = S::load(w + v * L);
      }
      shrink[q] = exp1(most[q] - now);
      sum[q] = sum[q] * shrink[q] + total(x);
      most[q] = now;
    }
  }

  static void scale(float* values, std::size_t groups, std::size_t queries, const float* factors) {
    for (std::size_t g = 0; g < groups; ++g) {
      for (std::size_t q = 0; q < queries; ++q, values += 16) {
        const F factor = S::all(factors[q]);
        for (std::size_t i = 0; i < 16; i += L) {
          S::store(values + i, S::mul(S::load(values + i), factor));
        }
      }
    }
  }

  static void merge(float* most, float* sum, float* values, float part_most, float part_sum,
                    const float* part_values, std::size_t groups, std::size_t stride) {
    if (part_sum == 0) return;
    const float now = part_most > *most ? part_most : *most;
    const float a = exp1(*most - now);
    const float b = exp1(part_most - now);
    *sum = *sum * a + part_sum * b;
    *most = now;
    const F before = S::all(a);
    const F part = S::all(b);
    for (std::size_t g = 0; g < groups; ++g) {
      for (std::size_t i = g * stride; i < g * stride + 16; i += L) {
        const F from = S::load(part_values + i);
        S::store(values + i, S::fma(from, part, S::mul(S::load(values + i), before)));
      }
    }
  }

  static void write(const float* values, std::size_t stride, std::size_t dim, float sum,
                    float* out) {
    ran(g_attention_ran, S::kLevel);
    const F divisor = S::all(sum);
    std::size_t i = 0;
    for (; i + 16 <= dim; i += 16, values += stride) {
      for (std::size_t l = 0; l < 16; l += L) {
        S::store(out + i + l, S::div(S::load(values + l), divisor));
      }
    }
    for (; i < dim; ++i, ++values) out[i] = *values / sum;
  }

  static constexpr AttentionTable table() {
    return {S::kName, &spread_keys, &spread_values, &softmax, &scale, &merge, &write};
  }
};

}  // namespace fathom::cpu
