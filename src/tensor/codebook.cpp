#include "tensor/codebook.h"

#include "tensor/block_fit.h"

namespace fathom::encode {
namespace {

/// Candidates of a point that the lattice lacks: all within the smallest distance that gives so
/// many. More than twice as many gain less than 0.1 % of the error.
constexpr std::size_t kCandidates = 16;

int distance(const std::uint8_t* a, const std::uint8_t* b, std::size_t dims) {
  int sum = 0;
  for (std::size_t k = 0; k < dims; ++k) sum += (a[k] - b[k]) * (a[k] - b[k]);
  return sum;
}

}  // namespace

Codebook::Codebook(std::span<const std::uint8_t> digits, std::size_t dims,
                   std::span<const float> levels)
    : dims_(dims), digits_(digits.begin(), digits.end()) {
  const std::size_t points = digits.size() / dims;
  const auto base = static_cast<unsigned>(levels.size());
  std::size_t grid = 1;
  for (std::size_t k = 0; k < dims; ++k) grid *= base;
  auto lists = std::make_shared<Lists>();
  lists->rank.assign(grid, -1);
  for (std::size_t p = 0; p < points; ++p) {
    std::size_t at = 0;
    for (std::size_t k = dims; k-- > 0;) at = at * base + digits[p * dims + k];
    lists->rank[at] = static_cast<std::int16_t>(p);
  }
  std::vector<int> distances(points);
  std::vector<std::size_t> histogram;
  for (std::size_t at = 0; at < grid; ++at) {
    lists->begin.push_back(static_cast<std::uint32_t>(lists->near.size()));
    if (lists->rank[at] >= 0) continue;
    std::uint8_t wanted[8];
    std::size_t rest = at;
    for (std::size_t k = 0; k < dims; ++k, rest /= base) {
      wanted[k] = static_cast<std::uint8_t>(rest % base);
    }
    histogram.assign(1 + dims * (base - 1) * (base - 1), 0);
    for (std::size_t p = 0; p < points; ++p) {
      distances[p] =
          dims == 8 ? distance(&digits[p * 8], wanted, 8) : distance(&digits[p * 4], wanted, 4);
      ++histogram[static_cast<std::size_t>(distances[p])];
    }
    int radius = 0;
    for (std::size_t found = histogram[0]; found < kCandidates && found < points;) {
      found += histogram[static_cast<std::size_t>(++radius)];
    }
    for (std::size_t p = 0; p < points; ++p) {
      if (distances[p] <= radius) lists->near.push_back(static_cast<std::uint16_t>(p));
    }
  }
  lists->begin.push_back(static_cast<std::uint32_t>(lists->near.size()));
  lists_ = std::move(lists);
  set_levels(levels);
}

Codebook::Codebook(const Codebook& lattice, std::span<const float> levels)
    : dims_(lattice.dims_), digits_(lattice.digits_), lists_(lattice.lists_) {
  set_levels(levels);
}

void Codebook::set_levels(std::span<const float> levels) {
  count_ = levels.size();
  for (std::size_t l = 0; l < count_; ++l) levels_[l] = levels[l];
  for (std::size_t l = 0; l + 1 < count_; ++l) middles_[l] = 0.5F * (levels[l] + levels[l + 1]);
  values_.clear();
  for (const std::uint8_t digit : digits_) values_.push_back(levels[digit]);
}

unsigned Codebook::nearest(const float* x, const float* w, float scale) const {
  const float inverse = 1 / scale;
  std::size_t at = 0;
  for (std::size_t k = dims_; k-- > 0;) {
    const float v = x[k] * inverse;
    std::size_t digit = 0;
    for (std::size_t l = 0; l + 1 < count_; ++l) digit += v > middles_[l] ? 1 : 0;
    at = at * count_ + digit;
  }
  if (const int rank = lists_->rank[at]; rank >= 0) return static_cast<unsigned>(rank);
  // sum w (x - s q)^2 = s (s sum w q^2 - 2 sum w x q) and what does not depend on q.
  using fit::Lanes;
  Lanes weight[2], product[2];
  for (std::size_t k = 0; k < dims_; k += 4) {
    weight[k / 4] = fit::load(w + k) * scale;
    product[k / 4] = fit::load(w + k) * fit::load(x + k) * 2.0F;
  }
  float best = 0;
  unsigned rank = lists_->near[lists_->begin[at]];
  bool first = true;
  for (std::uint32_t i = lists_->begin[at]; i < lists_->begin[at + 1]; ++i) {
    const float* q = values(lists_->near[i]);
    Lanes q4 = fit::load(q);
    Lanes cost = q4 * (weight[0] * q4 - product[0]);
    if (dims_ == 8) {
      q4 = fit::load(q + 4);
      cost += q4 * (weight[1] * q4 - product[1]);
    }
    const float total = fit::sum(cost);
    if (first || total < best) {
      first = false;
      best = total;
      rank = lists_->near[i];
    }
  }
  return rank;
}

}  // namespace fathom::encode
