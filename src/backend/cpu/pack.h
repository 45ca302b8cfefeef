// From the file's quantised blocks to the layout of packed_layout.h.
#pragma once

#include <cstddef>

#include "backend/cpu/packed_layout.h"
#include "backend/cpu/weight_memory.h"
#include "base/cpu_features.h"
#include "tensor/tensor_view.h"

namespace fathom::cpu {

inline std::size_t packed_group_bytes(const PackedFormat& format, std::size_t features) {
  return features / format.tile_features * format.tile_bytes();
}

/// Bytes of a matrix after packing; 0 if the type is not packed. Throws Error(Corrupt) if they
/// cannot be counted.
std::size_t packed_matrix_bytes(DType dtype, std::size_t rows, std::size_t features);

/// Packs a rank-2 tensor whose type has a packed_format(). Parallel over groups of 16 rows.
WeightBuffer pack_weights(const TensorView& weight, CpuLevel level, WeightMemory& memory);

}  // namespace fathom::cpu
