// The machinery under matmul(), feed_forward() and mixture_of_experts(): activations prepared once,
// then any number of products in one parallel pass.
#pragma once

#include <cstddef>
#include <span>

#include "backend/cpu/arena.h"
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
  InputSums* inputs = nullptr;  // gets the inputs of every product, if not null

  bool packed() const { return format.bits != 0; }
};

/// The activations of one or more products, in the forms that their weights need.
struct Activations {
  const float* x = nullptr;  // [tokens, features], rows x_stride floats apart
  std::size_t x_stride = 0;
  std::size_t tokens = 0;
  std::size_t features = 0;
  ActivationRecord* records = nullptr;  // [chunks, tokens], for packed weights in Int8, Int8Pair
  ActivationRecord* rest = nullptr;     // the same of what those round off, for Int8Pair
  const float* panel = nullptr;         // [chunks, tokens, 256], for packed weights in F32

  std::size_t chunks() const { return (features + kChunk - 1) / kChunk; }
};

/// Which forms `weight` reads.
void need(Activations& x, const PackedMatrix& weight, Arena& arena);

/// Fills the forms of all `activations` from their x, in parallel. With `up`, x is first
/// multiplied in place: x = silu(x) * up (both then have rows of x_stride).
void prepare(ThreadPool& pool, const MatmulTable& table, std::span<Activations> activations);
void prepare_gated(ThreadPool& pool, const MatmulTable& table, std::span<Activations> gates,
                   std::span<const float* const> ups);

struct Job {
  const PackedMatrix::Impl* weight = nullptr;
  const Activations* x = nullptr;
  float* y = nullptr;
  std::size_t y_stride = 0;
  const float* bias = nullptr;
  bool accumulate = false;
};

/// Runs all jobs as one parallel loop.
void run(ThreadPool& pool, std::span<const Job> jobs);

}  // namespace fathom::cpu
