// Loops over rows of F32 or BF16 that training makes between its matrix products, each one pass
// over memory where PyTorch's operations make several. The compiler makes them for AVX-512, AVX2
// and plain x86-64, and the best is taken at run time. Their twins are PyTorch's own operations
// (tests/train/torch/fused_test.cpp). What is BF16 is computed in F32 and rounded once, to nearest.
//
// T is float or Bf16, and nothing else. All work on rows [from, to) of what they are given, so that
// callers share rows out to threads.
#pragma once

#include <cstdint>

namespace fathom::train {

/// The upper half of an F32.
struct Bf16 {
  std::uint16_t bits;
};

/// y = x / sqrt(mean(x^2) + epsilon) * weight. x, y: [rows, size]; `scales`: [rows], 1 / sqrt(...),
/// kept for the way back.
template <class T>
void rms_norm_rows(const T* x, const float* weight, T* y, float* scales, std::int64_t from,
                   std::int64_t to, std::int64_t size, float epsilon);
/// From y's gradient: x's, and `to_weight` [size], to which these rows' part is added.
template <class T>
void rms_norm_back_rows(const T* to_y, const T* x, const float* weight, const float* scales,
                        T* to_x, float* to_weight, std::int64_t from, std::int64_t to,
                        std::int64_t size);

/// y = silu(gate) * up: gate and up [rows, size], with `stride` floats between rows; y [rows,
/// size].
template <class T>
void swiglu_rows(const T* gate, const T* up, T* y, std::int64_t from, std::int64_t to,
                 std::int64_t size, std::int64_t stride);
/// From y's gradient those of gate and up, with `stride` as above.
template <class T>
void swiglu_back_rows(const T* to_y, const T* gate, const T* up, T* to_gate, T* to_up,
                      std::int64_t from, std::int64_t to, std::int64_t size, std::int64_t stride);

/// How rotate_rows() finds heads: a row is a token, whose heads lie `head_stride` apart.
struct RotationShape {
  std::int64_t heads = 0;
  std::int64_t plain = 0;  // elements of a head that come before the turned ones, and are copied
  std::int64_t turned = 0;
  std::int64_t row_stride = 0, head_stride = 0;  // of what is read, in floats
  bool neighbours = false;                       // pairs are neighbours, else the halves' elements
  bool back = false;                             // turn the other way
};
/// y: [rows, heads, plain + turned]; cosines, sines: [rows, turned / 2].
template <class T>
void rotate_rows(const T* x, const float* cosines, const float* sines, T* y, std::int64_t from,
                 std::int64_t to, const RotationShape& shape);

/// y[t] = sum over k of weight[t, k] * outputs[place[t, k]]. y: [rows, size].
template <class T>
void combine_rows(const T* outputs, const std::int64_t* place, const float* weight, T* y,
                  std::int64_t from, std::int64_t to, std::int64_t per_row, std::int64_t size);
/// From y's gradient: outputs' [places, size], and weight's [rows, per_row].
template <class T>
void combine_back_rows(const T* to_y, const T* outputs, const std::int64_t* place,
                       const float* weight, T* to_outputs, float* to_weight, std::int64_t from,
                       std::int64_t to, std::int64_t per_row, std::int64_t size);

}  // namespace fathom::train
