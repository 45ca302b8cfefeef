#include "train/row_kernels.h"

#include <cmath>
#include <cstring>

#include "train/for_each_cpu.h"

namespace fathom::train {
namespace {

FATHOM_PART float sigmoid(float x) {
  const float e = exp_of_nonpositive(x < 0 ? x : -x), share = 1.0f / (1.0f + e);
  return x < 0 ? e * share : share;
}

template <class T>
FATHOM_PART void rms_norm_part(const T* x, const float* weight, T* y, float* scales,
                               std::int64_t from, std::int64_t to, std::int64_t size,
                               float epsilon) {
  for (std::int64_t row = from; row < to; ++row) {
    const T* in = x + row * size;
    T* out = y + row * size;
    float squares = 0;
#pragma omp simd reduction(+ : squares)
    for (std::int64_t i = 0; i < size; ++i) squares += get(in[i]) * get(in[i]);
    const float scale = 1.0f / std::sqrt(squares / static_cast<float>(size) + epsilon);
    scales[row] = scale;
#pragma omp simd
    for (std::int64_t i = 0; i < size; ++i) put(out[i], get(in[i]) * scale * weight[i]);
  }
}

// With s = 1 / sqrt(mean(x^2) + epsilon) and h = to_y * weight:
// to_x = s h - x s^3 mean(h x), to_weight = sum over rows of to_y x s.
template <class T>
FATHOM_PART void rms_norm_back_part(const T* to_y, const T* x, const float* weight,
                                    const float* scales, T* to_x, float* to_weight,
                                    std::int64_t from, std::int64_t to, std::int64_t size) {
  for (std::int64_t row = from; row < to; ++row) {
    const T *in = x + row * size, *coming = to_y + row * size;
    T* out = to_x + row * size;
    const float scale = scales[row];
    float product = 0;
#pragma omp simd reduction(+ : product)
    for (std::int64_t i = 0; i < size; ++i) product += get(coming[i]) * weight[i] * get(in[i]);
    const float pull = product * scale * scale * scale / static_cast<float>(size);
#pragma omp simd
    for (std::int64_t i = 0; i < size; ++i) {
      const float h = get(coming[i]), own = get(in[i]);
      put(out[i], h * weight[i] * scale - own * pull);
      to_weight[i] += h * own * scale;
    }
  }
}

template <class T>
FATHOM_PART void swiglu_part(const T* gate, const T* up, T* y, std::int64_t from, std::int64_t to,
                             std::int64_t size, std::int64_t stride) {
  for (std::int64_t row = from; row < to; ++row) {
    const T *g = gate + row * stride, *u = up + row * stride;
    T* out = y + row * size;
#pragma omp simd
    for (std::int64_t i = 0; i < size; ++i) put(out[i], get(g[i]) * sigmoid(get(g[i])) * get(u[i]));
  }
}

template <class T>
FATHOM_PART void swiglu_back_part(const T* to_y, const T* gate, const T* up, T* to_gate, T* to_up,
                                  std::int64_t from, std::int64_t to, std::int64_t size,
                                  std::int64_t stride) {
  for (std::int64_t row = from; row < to; ++row) {
    const T *g = gate + row * stride, *u = up + row * stride, *coming = to_y + row * size;
    T *dg = to_gate + row * stride, *du = to_up + row * stride;
#pragma omp simd
    for (std::int64_t i = 0; i < size; ++i) {
      const float s = sigmoid(get(g[i])), silu = get(g[i]) * s, h = get(coming[i]);
      put(dg[i], h * get(u[i]) * (s + silu * (1.0f - s)));
      put(du[i], h * silu);
    }
  }
}

template <class T>
FATHOM_PART void rotate_part(const T* x, const float* cosines, const float* sines, T* y,
                             std::int64_t from, std::int64_t to, const RotationShape& shape) {
  const std::int64_t pairs = shape.turned / 2, width = shape.plain + shape.turned;
  const float way = shape.back ? -1.0f : 1.0f;
  for (std::int64_t row = from; row < to; ++row) {
    const float *cosine = cosines + row * pairs, *sine = sines + row * pairs;
    for (std::int64_t head = 0; head < shape.heads; ++head) {
      const T* in = x + row * shape.row_stride + head * shape.head_stride;
      T* out = y + (row * shape.heads + head) * width;
      std::memcpy(out, in, static_cast<std::size_t>(shape.plain) * sizeof(T));
      in += shape.plain;
      out += shape.plain;
      if (shape.neighbours) {
#pragma omp simd
        for (std::int64_t i = 0; i < pairs; ++i) {
          const float a = get(in[2 * i]), b = get(in[2 * i + 1]), s = sine[i] * way;
          put(out[2 * i], a * cosine[i] - b * s);
          put(out[2 * i + 1], a * s + b * cosine[i]);
        }
      } else {
#pragma omp simd
        for (std::int64_t i = 0; i < pairs; ++i) {
          const float a = get(in[i]), b = get(in[pairs + i]), s = sine[i] * way;
          put(out[i], a * cosine[i] - b * s);
          put(out[pairs + i], a * s + b * cosine[i]);
        }
      }
    }
  }
}

template <class T>
FATHOM_PART void combine_part(const T* outputs, const std::int64_t* place, const float* weight,
                              T* y, std::int64_t from, std::int64_t to, std::int64_t per_row,
                              std::int64_t size) {
  for (std::int64_t row = from; row < to; ++row) {
    T* out = y + row * size;
    const float* w = weight + row * per_row;
    const std::int64_t* at = place + row * per_row;
    // Two at a time keep sums in registers for the usual few experts.
    for (std::int64_t k = 0; k < per_row; k += 2) {
      const bool two = k + 1 < per_row;
      const T *a = outputs + at[k] * size, *b = two ? outputs + at[k + 1] * size : a;
      const float wa = w[k], wb = two ? w[k + 1] : 0.0f, kept = k == 0 ? 0.0f : 1.0f;
#pragma omp simd
      for (std::int64_t i = 0; i < size; ++i) {
        const float before = kept == 0.0f ? 0.0f : get(out[i]);
        put(out[i], before + wa * get(a[i]) + wb * get(b[i]));
      }
    }
  }
}

template <class T>
FATHOM_PART void combine_back_part(const T* to_y, const T* outputs, const std::int64_t* place,
                                   const float* weight, T* to_outputs, float* to_weight,
                                   std::int64_t from, std::int64_t to, std::int64_t per_row,
                                   std::int64_t size) {
  for (std::int64_t row = from; row < to; ++row) {
    const T* coming = to_y + row * size;
    for (std::int64_t k = 0; k < per_row; ++k) {
      const std::int64_t at = place[row * per_row + k];
      const T* in = outputs + at * size;
      const float w = weight[row * per_row + k];
      T* out = to_outputs + at * size;
      float product = 0;
#pragma omp simd reduction(+ : product)
      for (std::int64_t i = 0; i < size; ++i) {
        product += get(coming[i]) * get(in[i]);
        put(out[i], w * get(coming[i]));
      }
      to_weight[row * per_row + k] = product;
    }
  }
}

}  // namespace

// Attributes belong to functions, not to templates: one of each by hand.
template <>
FATHOM_FOR_EACH_CPU void rms_norm_rows(const float* x, const float* weight, float* y, float* scales,
                                       std::int64_t from, std::int64_t to, std::int64_t size,
                                       float epsilon) {
  rms_norm_part(x, weight, y, scales, from, to, size, epsilon);
}
template <>
FATHOM_FOR_EACH_CPU void rms_norm_rows(const Bf16* x, const float* weight, Bf16* y, float* scales,
                                       std::int64_t from, std::int64_t to, std::int64_t size,
                                       float epsilon) {
  rms_norm_part(x, weight, y, scales, from, to, size, epsilon);
}

template <>
FATHOM_FOR_EACH_CPU void rms_norm_back_rows(const float* to_y, const float* x, const float* weight,
                                            const float* scales, float* to_x, float* to_weight,
                                            std::int64_t from, std::int64_t to, std::int64_t size) {
  rms_norm_back_part(to_y, x, weight, scales, to_x, to_weight, from, to, size);
}
template <>
FATHOM_FOR_EACH_CPU void rms_norm_back_rows(const Bf16* to_y, const Bf16* x, const float* weight,
                                            const float* scales, Bf16* to_x, float* to_weight,
                                            std::int64_t from, std::int64_t to, std::int64_t size) {
  rms_norm_back_part(to_y, x, weight, scales, to_x, to_weight, from, to, size);
}

template <>
FATHOM_FOR_EACH_CPU void swiglu_rows(const float* gate, const float* up, float* y,
                                     std::int64_t from, std::int64_t to, std::int64_t size,
                                     std::int64_t stride) {
  swiglu_part(gate, up, y, from, to, size, stride);
}
template <>
FATHOM_FOR_EACH_CPU void swiglu_rows(const Bf16* gate, const Bf16* up, Bf16* y, std::int64_t from,
                                     std::int64_t to, std::int64_t size, std::int64_t stride) {
  swiglu_part(gate, up, y, from, to, size, stride);
}

template <>
FATHOM_FOR_EACH_CPU void swiglu_back_rows(const float* to_y, const float* gate, const float* up,
                                          float* to_gate, float* to_up, std::int64_t from,
                                          std::int64_t to, std::int64_t size, std::int64_t stride) {
  swiglu_back_part(to_y, gate, up, to_gate, to_up, from, to, size, stride);
}
template <>
FATHOM_FOR_EACH_CPU void swiglu_back_rows(const Bf16* to_y, const Bf16* gate, const Bf16* up,
                                          Bf16* to_gate, Bf16* to_up, std::int64_t from,
                                          std::int64_t to, std::int64_t size, std::int64_t stride) {
  swiglu_back_part(to_y, gate, up, to_gate, to_up, from, to, size, stride);
}

template <>
FATHOM_FOR_EACH_CPU void rotate_rows(const float* x, const float* cosines, const float* sines,
                                     float* y, std::int64_t from, std::int64_t to,
                                     const RotationShape& shape) {
  rotate_part(x, cosines, sines, y, from, to, shape);
}
template <>
FATHOM_FOR_EACH_CPU void rotate_rows(const Bf16* x, const float* cosines, const float* sines,
                                     Bf16* y, std::int64_t from, std::int64_t to,
                                     const RotationShape& shape) {
  rotate_part(x, cosines, sines, y, from, to, shape);
}

template <>
FATHOM_FOR_EACH_CPU void combine_rows(const float* outputs, const std::int64_t* place,
                                      const float* weight, float* y, std::int64_t from,
                                      std::int64_t to, std::int64_t per_row, std::int64_t size) {
  combine_part(outputs, place, weight, y, from, to, per_row, size);
}
template <>
FATHOM_FOR_EACH_CPU void combine_rows(const Bf16* outputs, const std::int64_t* place,
                                      const float* weight, Bf16* y, std::int64_t from,
                                      std::int64_t to, std::int64_t per_row, std::int64_t size) {
  combine_part(outputs, place, weight, y, from, to, per_row, size);
}

template <>
FATHOM_FOR_EACH_CPU void combine_back_rows(const float* to_y, const float* outputs,
                                           const std::int64_t* place, const float* weight,
                                           float* to_outputs, float* to_weight, std::int64_t from,
                                           std::int64_t to, std::int64_t per_row,
                                           std::int64_t size) {
  combine_back_part(to_y, outputs, place, weight, to_outputs, to_weight, from, to, per_row, size);
}
template <>
FATHOM_FOR_EACH_CPU void combine_back_rows(const Bf16* to_y, const Bf16* outputs,
                                           const std::int64_t* place, const float* weight,
                                           Bf16* to_outputs, float* to_weight, std::int64_t from,
                                           std::int64_t to, std::int64_t per_row,
                                           std::int64_t size) {
  combine_back_part(to_y, outputs, place, weight, to_outputs, to_weight, from, to, per_row, size);
}

}  // namespace fathom::train
