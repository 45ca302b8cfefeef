#include "backend/cpu/pack.h"

#include <algorithm>

#include "backend/cpu/matmul_table.h"
#include "base/checked.h"

namespace fathom::cpu {

std::size_t packed_matrix_bytes(DType dtype, std::size_t rows, std::size_t features) {
  const PackedFormat format = packed_format(dtype);
  if (format.bits == 0) return 0;
  const std::size_t groups = rows / kGroupRows + (rows % kGroupRows != 0 ? 1 : 0);
  const std::size_t tiles = checked_mul(groups, features / format.tile_features, "packed weights");
  return checked_mul(tiles, format.tile_bytes(), "packed weights");
}

WeightBuffer pack_weights(const TensorView& weight, CpuLevel level, WeightMemory& memory) {
  const auto& kernels = matmul_table(level).formats[static_cast<std::size_t>(weight.dtype)];
  const PackedFormat format = packed_format(weight.dtype);
  const std::size_t rows = weight.shape[0];
  const std::size_t features = weight.shape[1];
  const std::size_t source_bytes = row_bytes(weight.dtype, features);
  const std::size_t groups = (rows + kGroupRows - 1) / kGroupRows;
  const std::size_t group_bytes = packed_group_bytes(format, features);
  WeightBuffer packed = memory.take(packed_matrix_bytes(weight.dtype, rows, features));
  const std::size_t grain =
      std::max<std::size_t>(1, (256 << 10) / std::max<std::size_t>(1, group_bytes));
  memory.pool().for_ranges(groups, grain, [&](std::size_t begin, std::size_t end) {
    for (std::size_t g = begin; g < end; ++g) {
      const std::size_t first = g * kGroupRows;
      kernels.pack(weight.data.data() + first * source_bytes, source_bytes,
                   std::min(kGroupRows, rows - first), features, packed.data() + g * group_bytes);
    }
  });
  return packed;
}

}  // namespace fathom::cpu
