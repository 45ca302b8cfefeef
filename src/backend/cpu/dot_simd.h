// Row products of weights that lie as in the file (F32, F16, BF16, FP8 E4M3), as templates over the
// lanes of simd_*.h: one text, three instruction sets, one order of every sum.
//
// A row product keeps sixteen partial sums, feature i in sum i % 16, whatever the number of tokens.
#pragma once

#include <cstddef>
#include <cstring>

#include "tensor/dtype.h"

namespace fathom::cpu {

template <class S>
struct DotKernels {
  using F = typename S::F;
  using I = typename S::I;
  static constexpr int L = S::kLanes;
  static constexpr int kParts = 16 / L;  // vectors that make sixteen lanes

  template <DType D>
  static F floats(const std::byte* p) {
    if constexpr (D == DType::F32) {
      return S::load(reinterpret_cast<const float*>(p));
    } else if constexpr (D == DType::F16) {
      return S::half(p);
    } else if constexpr (D == DType::BF16) {
      return S::brain(p);
    } else {
      // As F16, whose exponent has one bit more, E4M3 reads 2^8 times too small; F16's subnormals
      // convert at full speed, which F32's would not. The code of 480 is NaN.
      const I code = S::bytes(p);
      const I magnitude = S::left(S::bit_and(code, S::all_words(0x7F)), 7);
      const I sign = S::left(S::bit_and(code, S::all_words(0x80)), 8);
      const F value = S::mul(S::half_words(S::bit_or(magnitude, sign)), S::all(256.0F));
      return S::from_bits(S::where_equal(magnitude, S::all_words(0x7F << 7),
                                         S::all_words(0x7FC00000U), S::bits(value)));
    }
  }

  /// The sum of sixteen lanes: 8 onto 8, 4 onto 4, and so on.
  static float total(F* parts) {
    for (int n = kParts / 2; n > 0; n /= 2) {
      for (int i = 0; i < n; ++i) parts[i] = S::add(parts[i], parts[i + n]);
    }
    return S::sum(parts[0]);
  }

  template <DType D, int R, int T>
  static void dot_block(const std::byte* rows, std::size_t row_bytes, std::size_t features,
                        const float* x, std::size_t x_stride, float* out, std::size_t out_stride) {
    constexpr std::size_t element = D == DType::F32 ? 4 : D == DType::F8_E4M3 ? 1 : 2;
    F acc[R][T][kParts];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        for (int part = 0; part < kParts; ++part) acc[r][t][part] = S::zero();
      }
    }
    const auto add = [&acc](const std::byte* w, std::size_t w_stride, const float* xs,
                            std::size_t xs_stride) {
#pragma GCC unroll 2
      for (int part = 0; part < kParts; ++part) {
        F weight[R];
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) weight[r] = floats<D>(w + r * w_stride + part * L * element);
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t) {
          const F xt = S::load(xs + t * xs_stride + part * L);
#pragma GCC unroll 4
          for (int r = 0; r < R; ++r) acc[r][t][part] = S::fma(weight[r], xt, acc[r][t][part]);
        }
      }
    };
    std::size_t i = 0;
    for (; i + 16 <= features; i += 16) add(rows + i * element, row_bytes, x + i, x_stride);
    if (i < features) {
      // The tail goes through zero-padded copies, so that nothing past a row's end is read.
      std::byte w[R][16 * element] = {};
      float xs[T][16] = {};
      for (int r = 0; r < R; ++r) {
        std::memcpy(w[r], rows + r * row_bytes + i * element, (features - i) * element);
      }
      for (int t = 0; t < T; ++t) std::memcpy(xs[t], x + t * x_stride + i, (features - i) * 4);
      add(w[0], 16 * element, xs[0], 16);
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) out[r * out_stride + t] = total(acc[r][t]);
    }
  }

  template <DType D, int R, int T>
  static void dot_tokens(const std::byte* rows, std::size_t row_bytes, std::size_t features,
                         const float* x, std::size_t x_stride, std::size_t tokens, float* out,
                         std::size_t out_stride) {
    for (; tokens >= T; tokens -= T, x += T * x_stride, out += T) {
      dot_block<D, R, T>(rows, row_bytes, features, x, x_stride, out, out_stride);
    }
    if constexpr (T > 1) {
      dot_tokens<D, R, T / 2>(rows, row_bytes, features, x, x_stride, tokens, out, out_stride);
    }
  }

  template <DType D>
  static void dot_rows(const std::byte* rows, std::size_t row_bytes, std::size_t row_count,
                       std::size_t features, const float* x, std::size_t x_stride,
                       std::size_t tokens, float* out) {
    const std::size_t stride = tokens;
    constexpr int R = S::kDotRows;
    for (; row_count >= R; row_count -= R, rows += R * row_bytes, out += R * stride) {
      dot_tokens<D, R, S::kDotTokens>(rows, row_bytes, features, x, x_stride, tokens, out, stride);
    }
    if constexpr (R > 1) {
      for (; row_count > 0; --row_count, rows += row_bytes, out += stride) {
        dot_tokens<D, 1, S::kDotTokens>(rows, row_bytes, features, x, x_stride, tokens, out,
                                        stride);
      }
    }
  }
};

}  // namespace fathom::cpu
