// Weights as CpuBackend keeps them, and how they are made from a checkpoint's. Internal to cpu/.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/kept_weights.h"
#include "backend/cpu/matmul.h"
#include "backend/cpu/packed_file.h"
#include "backend/cpu/weight_memory.h"
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

/// Packs weights for one precision and instruction set, or finds them packed in `kept.file`.
class WeightPacker {
 public:
  WeightPacker(ThreadPool& pool, CpuLevel level, Precision precision, KeptWeights kept = {})
      : pool_(pool), level_(level), precision_(precision), memory_(pool), kept_(std::move(kept)) {}

  /// Bytes that `packed` views but the checkpoint does not hold are added to `storage`.
  PackedMatrix pack(const WeightSource& source, Precision precision,
                    std::vector<std::vector<std::byte>>& storage);
  FeedForward pack(const FfnSource& source, std::vector<std::vector<std::byte>>& storage);
  std::unique_ptr<CpuLatentHeads> pack(const LatentHeadsSource& source, const LatentSizes& sizes);

  std::uint64_t packed_bytes(const WeightSource& source, Precision precision) const;
  std::uint64_t packed_bytes(const LatentHeadsSource& source, const LatentSizes& sizes) const;

  Precision precision() const { return precision_; }

 private:
  /// Packs a view, and drops the last of `storage` if the view was of that and is not needed.
  PackedMatrix pack_stored(const std::string& name, const TensorView& view, Precision precision,
                           std::vector<std::vector<std::byte>>& storage);
  /// Packs a view, or finds it in the file, or adds it to the new one.
  PackedMatrix pack_view(const std::string& name, const TensorView& view, Precision precision);
  PackedMatrix from_file(const std::string& name, DType dtype, std::size_t rows,
                         std::size_t features, Precision precision,
                         std::span<const std::byte> source);
  void keep(const std::string& name, const PackedMatrix& packed, DType dtype,
            std::span<const std::byte> source);
  /// Head `h`'s k_b, the transposed rows [begin, begin + qk_nope_head_dim) of kv_b.
  PackedMatrix pack_turned(const std::string& name, const TensorView& kv_b, std::size_t begin,
                           std::size_t rows, std::vector<std::vector<std::byte>>& storage);
  /// Native FP8 with its block scales applied, as a plain tensor in `storage`.
  TensorView without_scales(const WeightSource& source,
                            std::vector<std::vector<std::byte>>& storage) const;
  DType fp8_becomes() const;
  DType transposed_becomes(DType source, std::size_t in_features) const;

  ThreadPool& pool_;
  CpuLevel level_;
  Precision precision_;
  WeightMemory memory_;
  KeptWeights kept_;
};

}  // namespace fathom::cpu
