#include "train/torch/dispatch.h"

#include <numeric>

#include "base/error.h"

namespace fathom::train {
namespace {

/// One expert's rows after the other's.
std::int64_t lay_out(const std::vector<std::int64_t>& counts, std::int64_t align,
                     std::vector<Rows>& rows) {
  std::int64_t first = 0;
  for (const std::int64_t count : counts) {
    rows.push_back({first, (count + align - 1) / align * align});
    first += rows.back().count;
  }
  return first;
}

}  // namespace

Dispatch::Dispatch(const Tensor& ids, std::int64_t experts, std::int64_t align, const Ranks& ranks)
    : ranks_(ranks) {
  const Tensor host = ids.to(at::kCPU).contiguous();
  const auto* id = host.const_data_ptr<std::int64_t>();
  std::vector<std::int64_t> counts(static_cast<std::size_t>(experts));
  for (std::int64_t i = 0; i < host.numel(); ++i) ++counts[static_cast<std::size_t>(id[i])];

  // What is sent is not filled up: that is done where it arrives.
  std::vector<Rows> sorted;
  const std::int64_t copies = lay_out(counts, ranks_.alone() ? align : 1, sorted);
  Tensor token = at::zeros({copies}, at::kLong), place = at::empty_like(host);
  auto *of_copy = token.data_ptr<std::int64_t>(), *of_token = place.data_ptr<std::int64_t>();
  std::vector<std::int64_t> next;
  for (const Rows& rows : sorted) next.push_back(rows.first);
  for (std::int64_t i = 0; i < host.numel(); ++i) {
    const std::int64_t copy = next[static_cast<std::size_t>(id[i])]++;
    of_copy[copy] = i / host.size(1);
    of_token[i] = copy;
  }
  token_ = token.to(ids.device());
  place_ = place.to(ids.device());
  if (ranks_.alone()) {
    rows_ = std::move(sorted);
    all_rows_ = copies;
  } else {
    send(counts, align);
  }
}

void Dispatch::send(const std::vector<std::int64_t>& counts, std::int64_t align) {
  const auto size = static_cast<std::size_t>(ranks_.size());
  require(counts.size() % size == 0, ErrorCode::Internal, "{} experts on {} ranks", counts.size(),
          size);
  const std::size_t own = counts.size() / size;
  const std::vector<std::int64_t> each(size, static_cast<std::int64_t>(own));
  const Tensor coming = ranks_.exchange(at::tensor(counts, at::kLong), each, each);
  const auto* came = coming.const_data_ptr<std::int64_t>();  // [ranks, own experts]
  std::vector<std::int64_t> here(own);
  for (std::size_t rank = 0; rank < size; ++rank) {
    const auto begin = counts.begin() + static_cast<std::ptrdiff_t>(rank * own);
    to_.push_back(std::accumulate(begin, begin + static_cast<std::ptrdiff_t>(own), 0LL));
    from_.push_back(std::accumulate(came + rank * own, came + (rank + 1) * own, 0LL));
    for (std::size_t e = 0; e < own; ++e) here[e] += came[rank * own + e];
  }
  all_rows_ = lay_out(here, align, rows_);
  Tensor places = at::empty({std::accumulate(from_.begin(), from_.end(), 0LL)}, at::kLong);
  auto* row = places.data_ptr<std::int64_t>();
  std::vector<std::int64_t> next;
  for (const Rows& rows : rows_) next.push_back(rows.first);
  for (std::size_t i = 0; i < size * own; ++i) {
    for (std::int64_t k = 0; k < came[i]; ++k) *row++ = next[i % own]++;
  }
  row_ = places.to(token_.device());
}

Tensor Dispatch::to_experts(const Tensor& copies) const {
  if (ranks_.alone()) return copies;
  const Tensor came = ranks_.exchange(copies, to_, from_);
  return at::zeros({all_rows_, copies.size(1)}, copies.options()).index_copy_(0, row_, came);
}

Tensor Dispatch::from_experts(const Tensor& rows) const {
  if (ranks_.alone()) return rows;
  return ranks_.exchange(rows.index_select(0, row_), from_, to_);
}

}  // namespace fathom::train
