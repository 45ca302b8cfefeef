// The searches behind the quantisers: scales (and minimums) that make a few codes fit weighted
// floats best. Internal to src/tensor.
//
// All of them try a grid of trial scales around the one that spans the data. Each trial rounds the
// data to codes, and the codes, once fixed, give the best scale by linear least squares; the trial
// with the smallest weighted error wins. Sums run over four lanes in a fixed order, so that every
// machine gets the same bytes, and every compiler vector code without -ffast-math.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>

namespace fathom::fit {

using Lanes [[gnu::vector_size(16)]] = float;
using LaneMask [[gnu::vector_size(16)]] = int;

inline Lanes load(const float* from) {
  Lanes lanes;
  std::memcpy(&lanes, from, sizeof(lanes));
  return lanes;
}
inline void store(float* to, Lanes lanes) { std::memcpy(to, &lanes, sizeof(lanes)); }
inline Lanes splat(float value) { return Lanes{value, value, value, value}; }
inline float sum(Lanes v) { return (v[0] + v[2]) + (v[1] + v[3]); }
inline Lanes smaller(Lanes a, Lanes b) { return a < b ? a : b; }
inline Lanes larger(Lanes a, Lanes b) { return a > b ? a : b; }

/// To the nearest integer, ties to even, for |v| < 2^22: above 1.5 * 2^23 a float has no fraction.
inline Lanes nearest(Lanes v) {
  const Lanes magic = splat(12582912.0F);
  return (v + magic) - magic;
}
inline float nearest(float v) { return (v + 12582912.0F) - 12582912.0F; }

/// Codes of `x`: clamp(round((x - min) * inverse), low, high), as floats.
inline Lanes codes(Lanes x, float min, float inverse, float low, float high) {
  return smaller(larger(nearest((x - min) * inverse), splat(low)), splat(high));
}

/// A grid of trial scales: code ranges of (high + first + step * k), k in 0..count-1, across the
/// data's range.
struct Grid {
  float first;
  float step;
  int count;
};

struct Affine {
  float scale = 0;  // x ~ scale * code + min
  float min = 0;
};

/// The search behind affine(): holds the data and the best fit so far.
template <std::size_t N>
class AffineSearch {
 public:
  /// `lowest` is the smallest element, or the largest allowed minimum if that is smaller. Sums are
  /// of y = x - lowest, lest a large common offset drown the differences. The fitted minimum stays
  /// in lowest + [lowest_offset, highest_offset].
  AffineSearch(const float* x, const float* w, float lowest, float high, double lowest_offset,
               double highest_offset)
      : w_(w), high_(high), lowest_offset_(lowest_offset), highest_offset_(highest_offset) {
    Lanes sum_w = splat(0), sum_wy = splat(0), sum_wyy = splat(0);
    for (std::size_t i = 0; i < N; i += 4) {
      const Lanes y = load(x + i) - lowest;
      const Lanes wy = load(w + i) * y;
      store(y_ + i, y);
      store(wy_ + i, wy);
      sum_w += load(w + i);
      sum_wy += wy;
      sum_wyy += wy * y;
    }
    sum_w_ = sum(sum_w);
    sum_wy_ = sum(sum_wy);
    sum_wyy_ = sum(sum_wyy);
  }

  /// Rounds y to codes by (y - offset) * inverse, fits scale and offset to the codes, and keeps
  /// them if the error is smaller than any before. Returns whether it was.
  bool attempt(double offset, float inverse) {
    Lanes sum_wq = splat(0), sum_wqq = splat(0), sum_wqy = splat(0);
    for (std::size_t i = 0; i < N; i += 4) {
      const Lanes q = codes(load(y_ + i), static_cast<float>(offset), inverse, 0, high_);
      const Lanes wq = load(w_ + i) * q;
      sum_wq += wq;
      sum_wqq += wq * q;
      sum_wqy += load(wy_ + i) * q;
    }
    const double wq = sum(sum_wq), wqq = sum(sum_wqq), wqy = sum(sum_wqy);
    const double determinant = sum_w_ * wqq - wq * wq;
    if (!(determinant > 0)) return false;
    double scale = (sum_w_ * wqy - wq * sum_wy_) / determinant;
    offset = (wqq * sum_wy_ - wq * wqy) / determinant;
    const double bounded = std::clamp(offset, lowest_offset_, highest_offset_);
    if (bounded != offset) {  // the scale alone is left to fit
      offset = bounded;
      scale = (wqy - offset * wq) / wqq;
    }
    const double error = sum_wyy_ - 2 * scale * wqy - 2 * offset * sum_wy_ + scale * scale * wqq +
                         2 * scale * offset * wq + offset * offset * sum_w_;
    if (!(scale > 0) || error >= error_) return false;
    error_ = error;
    scale_ = scale;
    offset_ = offset;
    return true;
  }

  bool found() const { return scale_ > 0; }
  double scale() const { return scale_; }
  double offset() const { return offset_; }

 private:
  const float* w_;
  float high_;
  double lowest_offset_, highest_offset_;
  alignas(16) float y_[N];
  alignas(16) float wy_[N];
  double sum_w_ = 0, sum_wy_ = 0, sum_wyy_ = 0;
  double error_ = HUGE_VAL, scale_ = 0, offset_ = 0;
};

/// Rounds of rounding and fitting again from the grid's best, each no worse than the last.
inline constexpr int kPolish = 3;

/// Best weighted fit of x[N] by scale * code + min with codes 0..high, scale >= 0.
/// `min_not_positive` is for formats that store -min without a sign.
template <std::size_t N>
Affine affine(const float* x, const float* w, float high, Grid grid, bool min_not_positive) {
  const auto [smallest, largest] = std::minmax_element(x, x + N);
  const float lowest = min_not_positive ? std::min(*smallest, 0.0F) : *smallest;
  const float range = *largest - lowest;
  if (!(range > 0)) return {0, lowest};
  // Where few elements carry all the weight, the rest would let the line run far out of the data.
  const double lowest_offset = -range / 4;
  const double highest_offset = min_not_positive ? -lowest : range / 4;
  AffineSearch<N> search(x, w, lowest, high, lowest_offset, highest_offset);
  for (int k = 0; k < grid.count; ++k) {
    const float span = high + grid.first + grid.step * static_cast<float>(k);
    search.attempt(0, span / range);
  }
  if (!search.found()) return {range / high, lowest};
  for (int round = 0; round < kPolish; ++round) {
    const auto inverse = static_cast<float>(1 / search.scale());
    if (!search.attempt(search.offset(), inverse)) break;
  }
  return {static_cast<float>(search.scale()), static_cast<float>(search.offset() + lowest)};
}

/// The search behind symmetric(), as AffineSearch without an offset. Of all scales that fit given
/// codes, the best explains sum(w q x)^2 / sum(w q^2) of sum(w x^2): the gain.
template <std::size_t N>
class SymmetricSearch {
 public:
  SymmetricSearch(const float* x, const float* w, float low, float high)
      : x_(x), w_(w), low_(low), high_(high) {
    for (std::size_t i = 0; i < N; i += 4) store(wx_ + i, load(w + i) * load(x + i));
  }

  bool attempt(float inverse) {
    Lanes sum_wqx = splat(0), sum_wqq = splat(0);
    for (std::size_t i = 0; i < N; i += 4) {
      const Lanes q = codes(load(x_ + i), 0, inverse, low_, high_);
      sum_wqx += load(wx_ + i) * q;
      sum_wqq += load(w_ + i) * q * q;
    }
    const double wqx = sum(sum_wqx), wqq = sum(sum_wqq);
    if (!(wqq > 0) || wqx * wqx <= gain_ * wqq) return false;
    gain_ = wqx * wqx / wqq;
    scale_ = wqx / wqq;
    return true;
  }

  double scale() const { return scale_; }

 private:
  const float* x_;
  const float* w_;
  float low_, high_;
  alignas(16) float wx_[N];
  double gain_ = 0, scale_ = 0;
};

/// Best weighted scale for x[N] ~ scale * code with codes low..high, low <= 0 < high. The element
/// of largest magnitude lands near `low`, the longer side, or, if `both_signs`, near `high` if that
/// fits better; the scale has the sign that follows. With low = 0, x must not be negative.
template <std::size_t N>
float symmetric(const float* x, const float* w, float low, float high, Grid grid, bool both_signs) {
  const auto by_magnitude = [](float a, float b) { return std::fabs(a) < std::fabs(b); };
  const float extreme = *std::max_element(x, x + N, by_magnitude);
  if (extreme == 0) return 0;
  SymmetricSearch<N> search(x, w, low, high);
  for (int k = 0; k < grid.count; ++k) {
    const float widen = grid.first + grid.step * static_cast<float>(k);
    if (low < 0) search.attempt((low - widen) / extreme);
    if (low == 0 || both_signs) search.attempt((high + widen) / extreme);
  }
  if (search.scale() == 0) return extreme / (low < 0 ? low : high);
  for (int round = 0; round < kPolish; ++round) {
    if (!search.attempt(static_cast<float>(1 / search.scale()))) break;
  }
  return static_cast<float>(search.scale());
}

/// Weighted square error of x[N] coded as scale * code + min with codes low..high.
template <std::size_t N>
float error(const float* x, const float* w, float scale, float min, float low, float high) {
  const float inverse = scale != 0 ? 1 / scale : 0;
  Lanes total = splat(0);
  for (std::size_t i = 0; i < N; i += 4) {
    const Lanes values = load(x + i);
    const Lanes miss = codes(values, min, inverse, low, high) * scale + min - values;
    total += load(w + i) * miss * miss;
  }
  return sum(total);
}

/// The codes themselves, as bytes without sign: code - low.
template <std::size_t N>
void write_codes(const float* x, float scale, float min, float low, float high,
                 unsigned char* out) {
  const float inverse = scale != 0 ? 1 / scale : 0;
  for (std::size_t i = 0; i < N; i += 4) {
    const Lanes q = codes(load(x + i), min, inverse, low, high) - low;
    for (std::size_t k = 0; k < 4; ++k) out[i + k] = static_cast<unsigned char>(q[k]);
  }
}

}  // namespace fathom::fit
