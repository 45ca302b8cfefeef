// Reference conversion of every element type to and from F32.
//
// Block layouts are GGUF's (blocks.h); dequantisation is bit-exact with the `gguf` Python package,
// quantisation error no worse than its. These are the oracles of the kernels in backend/cpu,
// written to be read. Both run on one thread; rows are independent, so callers spread rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "tensor/dtype.h"
#include "tensor/tensor_view.h"

namespace fathom {

/// Converts out.size() elements. `bytes` must hold exactly row_bytes(dtype, out.size()); any
/// alignment. A NaN or infinite scale gives what IEEE arithmetic gives. Throws Error(Unsupported)
/// for integer types, Error(InvalidArgument) if the sizes disagree.
void dequantise(DType dtype, std::span<const std::byte> bytes, std::span<float> out);

/// Converts in.size() elements (whole blocks) into `out`, exactly row_bytes(dtype, in.size()) long.
/// Deterministic: the same input gives the same bytes on every machine.
///
/// `importance`, if not empty, holds one weight a column (finite, >= 0): how much an error in that
/// column matters, as an importance matrix measures it (mean square of the activations that meet
/// the column). in.size() must be a multiple of importance.size(), the row's length. F32, F16,
/// BF16, F8_E4M3 and Q8_0 do not use it.
///
/// NaN and infinity pass through F32, F16 and BF16; F8_E4M3 keeps NaN and saturates the rest at
/// 448. Block types have no code for them: Error(InvalidArgument) names the element. The same code
/// for a block whose scale would not fit F16; with magnitudes up to 32768 that cannot happen.
/// Throws Error(Unsupported) for types that Fathom reads but does not write.
void quantise(DType dtype, std::span<const float> in, std::span<std::byte> out,
              std::span<const float> importance = {});

/// All elements of a tensor as F32, rows in order.
std::vector<float> to_f32(const TensorView& tensor);

/// Side of the square blocks that share one scale in DeepSeek-V3's native FP8 checkpoints
/// (DeepSeek-V3 report, section 3.3.2; `weight_block_size` in config.json).
inline constexpr std::uint64_t kFp8Block = 128;

/// Rows [begin, end) of a DeepSeek-V3 FP8 weight as F32: out[r, c] = weight[r, c] *
/// scale_inv[r / 128, c / 128].
///
/// weight     F8_E4M3 [out_features, in_features]
/// scale_inv  F32, F16 or BF16 [ceil(out_features / 128), ceil(in_features / 128)], the
///            checkpoint's `weight_scale_inv` (a factor to multiply by, despite its name)
/// out        [end - begin, in_features]
/// Throws Error(Corrupt) if the shapes contradict each other, Error(Unsupported) for other types.
void dequantise_fp8_blocks(const TensorView& weight, const TensorView& scale_inv,
                           std::uint64_t begin, std::uint64_t end, std::span<float> out);

}  // namespace fathom
