// The machinery under matmul(), feed_forward() and mixture_of_experts(): activations prepared once,
// then any number of products in one parallel pass.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "backend/cpu/activations.h"
#include "backend/cpu/matmul.h"
#include "backend/cpu/matmul_table.h"
#include "backend/cpu/pack.h"

namespace fathom::cpu {

struct PackedMatrix::Impl {
  DType dtype = DType::F32;
  std::size_t out_features = 0;
  std::size_t in_features = 0;
  Precision precision = Precision::F32;
  const MatmulTable* table = nullptr;
  PackedFormat format;              // bits == 0: stored rows are read as they are
  const std::byte* data = nullptr;  // packed groups, or rows
  std::size_t stride = 0;           // bytes of a group or a row
  WeightBuffer owned;
  std::vector<WeightBuffer> copies;  // of `owned`, for NUMA nodes after the first
  InputSums* inputs = nullptr;       // gets the inputs of every product, if not null

  bool packed() const { return format.bits != 0; }
  /// The copy that ThreadPool::copy() names.
  const std::byte* data_of(std::size_t copy) const {
    return copy == 0 || copies.empty() ? data : copies[copy - 1].data();
  }
};

/// weight x, to y; or silu(weight x) * (up x), in the forms of `gated` that the next weight reads.
struct Job {
  const PackedMatrix::Impl* weight = nullptr;
  const Activations* x = nullptr;
  float* y = nullptr;
  std::size_t y_stride = 0;
  const float* bias = nullptr;
  bool accumulate = false;
  const PackedMatrix::Impl* up = nullptr;  // of weight's shape
  const Activations* gated = nullptr;
};

/// Runs all jobs as one parallel loop.
void run(ThreadPool& pool, std::span<const Job> jobs);

}  // namespace fathom::cpu
