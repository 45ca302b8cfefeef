// From the file's quantised blocks to the layout of packed_layout.h.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "backend/cpu/packed_layout.h"
#include "base/cpu_features.h"
#include "base/thread_pool.h"
#include "tensor/tensor_view.h"

namespace fathom::cpu {

/// Memory for weights: 64-byte aligned, in huge pages where the system grants them.
class WeightBuffer {
 public:
  WeightBuffer() = default;
  explicit WeightBuffer(std::size_t bytes);
  std::byte* data() const { return data_.get(); }
  std::size_t size() const { return size_; }

 private:
  struct Free {
    void operator()(std::byte* p) const;
  };
  std::unique_ptr<std::byte, Free> data_;
  std::size_t size_ = 0;
};

inline std::size_t packed_group_bytes(const PackedFormat& format, std::size_t features) {
  return features / format.tile_features * format.tile_bytes();
}

/// Packs a rank-2 tensor whose type has a packed_format(). Parallel over groups of 16 rows.
WeightBuffer pack_weights(const TensorView& weight, CpuLevel level, ThreadPool& pool);

}  // namespace fathom::cpu
