// What a weight is multiplied by, summed up: the raw matter of importance matrices.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace fathom {

/// Adds up the squares of what a weight is multiplied by, column by column (importance matrices).
/// In the order of the rows, whatever the threads.
struct InputSums {
  std::vector<double> squares;  // [in_features]
  std::uint64_t rows = 0;

  /// x: [count, squares.size()], rows `stride` floats apart.
  void add(const float* x, std::size_t stride, std::size_t count) {
    for (std::size_t r = 0; r < count; ++r, x += stride) {
      for (std::size_t i = 0; i < squares.size(); ++i) squares[i] += double{x[i]} * double{x[i]};
    }
    rows += count;
  }
};

}  // namespace fathom
