// Products of stored (often quantised) weights with F32 activations: the bulk of all CPU time.
//
// Weights are packed once for this machine's kernels. Three precisions: F32 keeps activations in
// F32 (the oracle path); Int8 quantises them per block of 32 first (the fast path, VNNI and
// friends); Int8Pair does the same again to what that rounded off and adds both products, so that
// 15 bits of an activation count for twice the arithmetic and the same reads of memory. Results do
// not depend on the number of threads, nor on how tokens are grouped into calls.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/cpu_features.h"
#include "base/thread_pool.h"
#include "tensor/tensor_view.h"

namespace fathom {
struct InputSums;
}

namespace fathom::cpu {

class WeightMemory;

enum class Precision { F32, Int8, Int8Pair };

/// The level whose products run at `level`: only attention multiplies BF16 in vectors.
CpuLevel matmul_level(CpuLevel level);

/// A linear layer's weight [out_features, in_features], ready for the kernels.
/// F32, F16, BF16 and F8_E4M3 are multiplied as they are stored, with F32 activations whatever the
/// precision: the matrix views the checkpoint's mapping, which must outlive it. Quantised weights
/// are copied into the layout of packed_layout.h, byte for byte the same size: the mapping's pages
/// may then be dropped (FileMap::dont_need), and owned_bytes() tells how many.
class PackedMatrix {
 public:
  PackedMatrix();
  ~PackedMatrix();
  PackedMatrix(PackedMatrix&&) noexcept;
  PackedMatrix& operator=(PackedMatrix&&) noexcept;

  /// Packs a rank-2 tensor of any floating or quantised type. Throws Error(Unsupported | Corrupt).
  static PackedMatrix pack(const TensorView& weight, Precision precision, CpuLevel level,
                           WeightMemory& memory);
  /// The same into memory of its own.
  static PackedMatrix pack(const TensorView& weight, Precision precision, CpuLevel level,
                           ThreadPool& pool);
  /// From the bytes that packing a weight of this type and shape gave, packed_matrix_bytes() many.
  /// It views them, unless the weights have places on NUMA nodes, to which it then copies them.
  static PackedMatrix from_packed(DType dtype, std::size_t out_features, std::size_t in_features,
                                  std::span<const std::byte> packed, Precision precision,
                                  CpuLevel level, WeightMemory& memory);

  std::size_t out_features() const;
  std::size_t in_features() const;
  /// Bytes owned (0 when it views the mapping).
  std::size_t owned_bytes() const;
  /// What from_packed() takes; empty where stored rows are multiplied as they are.
  std::span<const std::byte> packed_bytes() const;
  /// Every product's input rows are handed to it first; null: none.
  void watch(InputSums* inputs);
  /// The instruction set whose kernels multiply by it: "scalar", "avx2" or "avx512".
  const char* kernel_name() const;

  struct Impl;
  const Impl& impl() const { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

/// One product of a matmul() call: y[t, o] = sum_i x[t, i] * weight[o, i] + bias[o], or += with
/// `accumulate`.
struct Product {
  const PackedMatrix* weight = nullptr;
  float* y = nullptr;  // [tokens, out_features], rows `y_stride` floats apart
  std::size_t y_stride = 0;
  const float* bias = nullptr;  // [out_features] or null
  bool accumulate = false;
};

/// Several products of the same activations (q, k and v; gate and up) in one parallel pass.
/// x: [tokens, in_features], rows `x_stride` floats apart. All weights have the same in_features.
void matmul(ThreadPool& pool, const float* x, std::size_t x_stride, std::size_t tokens,
            std::span<const Product> products);

/// A SwiGLU feed-forward network (arXiv 2002.05202): down(silu(gate(x)) * up(x)).
struct FeedForward {
  PackedMatrix gate;  // [intermediate, hidden]
  PackedMatrix up;    // [intermediate, hidden]
  PackedMatrix down;  // [hidden, intermediate]
};

/// y = ffn(x), or y += ffn(x) with `accumulate`. x, y: [tokens, hidden], contiguous.
void feed_forward(ThreadPool& pool, const FeedForward& ffn, const float* x, std::size_t tokens,
                  float* y, bool accumulate);

/// What a mixture is told of the gate's choice. Both [tokens, per_token]; ids are below the number
/// of experts, and distinct in a row.
struct Chosen {
  const std::int32_t* ids = nullptr;
  const float* weights = nullptr;
  std::size_t per_token = 0;
};

/// y[t] += sum_k weights[t, k] * experts[ids[t, k]](x[t]), then += shared(x[t]) unless that is
/// null: tokens are grouped by expert, and all networks run in the same passes.
/// x, y: [tokens, hidden]
void mixture_of_experts(ThreadPool& pool, std::span<const FeedForward> experts,
                        const FeedForward* shared, const float* x, std::size_t tokens,
                        const Chosen& chosen, float* y);

}  // namespace fathom::cpu
