// Weights as CpuBackend keeps them, and how they are made from a checkpoint's. Internal to cpu/.
#pragma once

#include <cstddef>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/matmul.h"
#include "base/cpu_features.h"
#include "base/thread_pool.h"

namespace fathom::cpu {

struct CpuMatrix final : Matrix {
  PackedMatrix packed;
  std::vector<std::byte> storage;  // what `packed` views, where the file's bytes would not do
};
struct CpuVector final : Vector {
  std::vector<float> values;
};
struct CpuTable final : Table {
  TensorView view;
};
struct CpuFfn final : Ffn {
  FeedForward ffn;
  std::vector<std::vector<std::byte>> storage;
};
struct CpuExperts final : Experts {
  std::vector<FeedForward> experts;
  std::vector<std::vector<std::byte>> storage;
};
struct CpuLatentHeads final : LatentHeads {
  LatentSizes sizes;
  std::vector<PackedMatrix> k_b;  // by head: [kv_lora_rank, qk_nope_head_dim]
  std::vector<PackedMatrix> v_b;  // by head: [v_head_dim, kv_lora_rank]
  std::vector<std::vector<std::byte>> storage;
};

/// Packs weights for one precision and instruction set.
class WeightPacker {
 public:
  WeightPacker(ThreadPool& pool, CpuLevel level, Precision precision)
      : pool_(pool), level_(level), precision_(precision) {}

  /// Bytes that `packed` views but the checkpoint does not hold are added to `storage`.
  PackedMatrix pack(const WeightSource& source, Precision precision,
                    std::vector<std::vector<std::byte>>& storage) const;
  FeedForward pack(const FfnSource& source, std::vector<std::vector<std::byte>>& storage) const;
  std::unique_ptr<CpuLatentHeads> pack(const LatentHeadsSource& source,
                                       const LatentSizes& sizes) const;

  std::uint64_t packed_bytes(const WeightSource& source, Precision precision) const;
  std::uint64_t packed_bytes(const LatentHeadsSource& source, const LatentSizes& sizes) const;

  Precision precision() const { return precision_; }

 private:
  /// Packs a view, and drops the last of `storage` if the view was of that and is not needed.
  PackedMatrix pack_stored(const TensorView& view, Precision precision,
                           std::vector<std::vector<std::byte>>& storage) const;
  /// Native FP8 with its block scales applied, as a plain tensor in `storage`.
  TensorView without_scales(const WeightSource& source,
                            std::vector<std::vector<std::byte>>& storage) const;
  DType fp8_becomes() const;
  DType transposed_becomes(DType source, std::size_t in_features) const;

  ThreadPool& pool_;
  CpuLevel level_;
  Precision precision_;
};

}  // namespace fathom::cpu
