// Causal attention of training, with its gradient, for rows that hold many short documents: each
// sees itself alone, so that work grows with the squares of documents, not of rows. Made for each
// instruction set as row_kernels.h is; its twin is PyTorch's own attention
// (tests/train/torch/fused_test.cpp).
#pragma once

#include <cstdint>
#include <vector>

#include "train/row_kernels.h"

namespace fathom::train {

/// Where a head's vectors are: element 0 of token t, head h at data + t * token + h * head.
struct HeadStrides {
  std::int64_t token = 0, head = 0;
};

struct AttentionShape {
  std::int64_t length = 0;  // tokens of a row
  std::int64_t heads = 0, kv_heads = 0;
  std::int64_t dim = 0, v_dim = 0;
  float scale = 1;
  HeadStrides q, k, v;  // of what is read; all else lies tight, [length, heads, dim]
};

/// Memory that calls use again.
class AttentionScratch {
 public:
  float* take(std::int64_t floats);
  void reset() { used_ = 0; }

 private:
  std::vector<std::vector<float>> blocks_;
  std::size_t used_ = 0;
};

/// One row and the queries of one key-value head. `starts`: [length], the first token that each
/// sees: its document's. out: [length, heads, v_dim].
template <class T>
void attend_row(const T* q, const T* k, const T* v, const std::int64_t* starts, T* out,
                std::int64_t kv_head, const AttentionShape& shape, AttentionScratch& scratch);
/// From out's gradient those of q [length, heads, dim], k [length, kv_heads, dim] and v [length,
/// kv_heads, v_dim], of that head.
template <class T>
void attend_back_row(const T* to_out, const T* q, const T* k, const T* v,
                     const std::int64_t* starts, T* to_q, T* to_k, T* to_v, std::int64_t kv_head,
                     const AttentionShape& shape, AttentionScratch& scratch);

}  // namespace fathom::train
