// Finding the point of a lattice that fits weighted floats best. Internal to src/tensor.
//
// Rounding each element to its own nearest level gives a point of the full grid. If the lattice has
// it, nothing is better. If not, the candidates are the lattice's points around it, listed once for
// every point of the grid. (The idea is the ggml project's; the lists here reach further.)
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace fathom::encode {

class Codebook {
 public:
  static constexpr std::size_t kMostLevels = 8;

  /// digits: the lattice's points, `dims` (4 or 8) digits each; levels: what digits stand for.
  Codebook(std::span<const std::uint8_t> digits, std::size_t dims, std::span<const float> levels);
  /// The same lattice with other levels (as many, in the same order).
  Codebook(const Codebook& lattice, std::span<const float> levels);

  std::size_t dims() const { return dims_; }
  float lowest() const { return levels_[0]; }
  float highest() const { return levels_[count_ - 1]; }
  /// The values of a point: dims() levels.
  const float* values(unsigned rank) const { return &values_[rank * dims_]; }

  /// The rank of the point q with the least sum of w (x - scale q)^2; scale > 0. It may be missed
  /// by little where all candidates lie far.
  unsigned nearest(const float* x, const float* w, float scale) const;

 private:
  struct Lists {
    std::vector<std::int16_t> rank;    // of each point of the grid; -1: not of the lattice
    std::vector<std::uint32_t> begin;  // of its candidates, in `near`; one more at the end
    std::vector<std::uint16_t> near;
  };

  void set_levels(std::span<const float> levels);

  std::size_t dims_;
  std::size_t count_ = 0;  // levels
  std::vector<std::uint8_t> digits_;
  std::shared_ptr<const Lists> lists_;
  std::array<float, kMostLevels> levels_{};
  std::array<float, kMostLevels> middles_{};  // between a level and the next
  std::vector<float> values_;                 // [points, dims]
};

}  // namespace fathom::encode
