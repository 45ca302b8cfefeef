// Reference conversion of every element type to and from F32.
//
// Block layouts are GGUF's; dequantisation is bit-exact with the `gguf` Python package,
// quantisation error no worse than its. These are the oracles of the kernels in backend/cpu,
// written to be read.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "tensor/dtype.h"
#include "tensor/tensor_view.h"

namespace fathom {

/// Converts out.size() elements. `bytes` must hold exactly row_bytes(dtype, out.size()); any
/// alignment. Throws Error(Unsupported) for integer types.
void dequantise(DType dtype, std::span<const std::byte> bytes, std::span<float> out);

/// Converts in.size() elements (whole blocks) into `out`, exactly row_bytes(dtype, in.size()) long.
/// Deterministic: the same input gives the same bytes on every machine. Throws Error(Unsupported)
/// for types that Fathom reads but does not write.
void quantise(DType dtype, std::span<const float> in, std::span<std::byte> out);

/// All elements of a tensor as F32, rows in order.
std::vector<float> to_f32(const TensorView& tensor);

}  // namespace fathom
