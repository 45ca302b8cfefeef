// Causal attention of training, with its gradient, for rows that hold many short documents: each
// sees itself alone, so that work grows with the squares of documents, not of rows; or itself and
// another before it that it goes on from, so that many answers share their prompt. Made for each
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
  /// What was taken since then may be taken again.
  std::size_t mark() const { return used_; }
  void rewind(std::size_t mark) { used_ = mark; }

 private:
  std::vector<std::vector<float>> blocks_;
  std::size_t used_ = 0;
};

/// What the tokens of a row see.
struct RowSight {
  const std::int64_t* starts;  // [length]: the first token of each one's document
  /// [length]: the first token of the document that each one's goes on from and sees all of: the
  /// last before it that goes on from none; -1: none. Null: none for all.
  const std::int64_t* prefixes = nullptr;
  std::int64_t first = 0;  // what these call the first token that is given, of a part of a row
};

/// One row, or a part of one that begins and ends with documents that go on from none before it,
/// and the queries of one key-value head. out: [length, heads, v_dim].
template <class T>
void attend_row(const T* q, const T* k, const T* v, const RowSight& sight, T* out,
                std::int64_t kv_head, const AttentionShape& shape, AttentionScratch& scratch);
/// From out's gradient those of q [length, heads, dim], k [length, kv_heads, dim] and v [length,
/// kv_heads, v_dim], of that head.
template <class T>
void attend_back_row(const T* to_out, const T* q, const T* k, const T* v, const RowSight& sight,
                     T* to_q, T* to_k, T* to_v, std::int64_t kv_head, const AttentionShape& shape,
                     AttentionScratch& scratch);

}  // namespace fathom::train
