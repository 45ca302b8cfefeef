#include "backend/cpu/pack.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <new>

#include "backend/cpu/matmul_table.h"
#include "base/checked.h"

namespace fathom::cpu {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;

}  // namespace

WeightBuffer::WeightBuffer(std::size_t bytes) : size_(bytes) {
  // Streams through gigabytes miss the TLB at every small page; huge pages only help whole ones.
  const std::size_t alignment = bytes >= kHugePage ? kHugePage : 64;
  const std::size_t rounded = checked_align_up(std::max<std::size_t>(bytes, 1), alignment);
  data_.reset(static_cast<std::byte*>(std::aligned_alloc(alignment, rounded)));
  if (!data_) throw std::bad_alloc();
  if (alignment == kHugePage) madvise(data_.get(), rounded, MADV_HUGEPAGE);
}

void WeightBuffer::Free::operator()(std::byte* p) const { std::free(p); }

WeightBuffer pack_weights(const TensorView& weight, CpuLevel level, ThreadPool& pool) {
  const auto& kernels = matmul_table(level).formats[static_cast<std::size_t>(weight.dtype)];
  const PackedFormat format = packed_format(weight.dtype);
  const std::size_t rows = weight.shape[0];
  const std::size_t features = weight.shape[1];
  const std::size_t source_bytes = row_bytes(weight.dtype, features);
  const std::size_t groups = (rows + kGroupRows - 1) / kGroupRows;
  const std::size_t group_bytes = packed_group_bytes(format, features);
  WeightBuffer packed(checked_mul(groups, group_bytes, "packed weights"));
  pool.numa().place({packed.data(), packed.size()}, 0);
  const std::size_t grain =
      std::max<std::size_t>(1, (256 << 10) / std::max<std::size_t>(1, group_bytes));
  pool.for_ranges(groups, grain, [&](std::size_t begin, std::size_t end) {
    for (std::size_t g = begin; g < end; ++g) {
      const std::size_t first = g * kGroupRows;
      kernels.pack(weight.data.data() + first * source_bytes, source_bytes,
                   std::min(kGroupRows, rows - first), features, packed.data() + g * group_bytes);
    }
  });
  return packed;
}

}  // namespace fathom::cpu
