// Tokens' copies on their way to experts and back: sorted by expert and, where experts are spread
// over ranks, sent to theirs.
#pragma once

#include <ATen/ATen.h>
#include <ATen/core/ivalue.h>

#include <cstdint>
#include <vector>

#include "train/torch/ranks.h"

namespace fathom::train {

/// Neighbours in a tensor's first dimension.
struct Rows {
  std::int64_t first, count;
  Tensor of(const Tensor& all) const { return all.narrow(0, first, count); }
};

class Dispatch : public torch::CustomClassHolder {
 public:
  /// `ids`: int64 [tokens, per_token], of `experts` in all. Each expert here has a multiple of
  /// `align` rows. With several ranks this is collective work, and each has as many experts.
  Dispatch(const Tensor& ids, std::int64_t experts, std::int64_t align, const Ranks& ranks);

  /// int64 [copies]: the token that each is of. Copies lie by expert; some, which fill up, are of
  /// token 0 and come back to none.
  const Tensor& token() const { return token_; }
  /// int64 [tokens, per_token]: where a token's copies lie.
  const Tensor& place() const { return place_; }

  /// [copies, size] to the rows of this rank's experts. What fills up is 0, or such a copy.
  Tensor to_experts(const Tensor& copies) const;
  /// The other way.
  Tensor from_experts(const Tensor& rows) const;
  std::int64_t experts() const { return static_cast<std::int64_t>(rows_.size()); }
  /// Of an expert of this rank.
  const Rows& rows(std::int64_t expert) const { return rows_[static_cast<std::size_t>(expert)]; }

 private:
  void send(const std::vector<std::int64_t>& counts, std::int64_t align);

  Ranks ranks_;
  std::vector<Rows> rows_;
  std::int64_t all_rows_ = 0;
  Tensor token_, place_;
  // With several ranks: how many copies go to each, how many come, and the row of each that came.
  std::vector<std::int64_t> to_, from_;
  Tensor row_;
};

}  // namespace fathom::train
