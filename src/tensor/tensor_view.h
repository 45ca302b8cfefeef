// A tensor as it lies in a file or in memory: type, shape, bytes. Owns nothing.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

#include "base/checked.h"
#include "tensor/dtype.h"

namespace fathom {

/// Up to four dimensions, outermost first as Hugging Face writes them: a linear layer's weight is
/// [out_features, in_features]. (GGUF files list them innermost first; formats/ turns them around.)
class Shape {
 public:
  static constexpr std::size_t kMaxRank = 4;
  Shape() = default;
  /// Throws Error(Corrupt) for more than four dimensions or an element count over 2^63.
  Shape(std::initializer_list<std::uint64_t> dims) : Shape(std::span(dims.begin(), dims.size())) {}
  explicit Shape(std::span<const std::uint64_t> dims);

  std::size_t rank() const { return rank_; }
  std::uint64_t operator[](std::size_t i) const { return dims_[i]; }
  /// 1 for rank 0.
  std::uint64_t elements() const { return elements_; }
  /// The innermost dimension: elements of one row. 1 for rank 0.
  std::uint64_t row_elements() const { return rank_ == 0 ? 1 : dims_[rank_ - 1]; }
  /// Product of all but the innermost dimension.
  std::uint64_t rows() const { return row_elements() == 0 ? 0 : elements_ / row_elements(); }
  std::span<const std::uint64_t> dims() const { return {dims_.data(), rank_}; }
  bool operator==(const Shape& other) const { return rank_ == other.rank_ && dims_ == other.dims_; }
  /// "[2048, 576]"
  std::string to_string() const;

 private:
  std::array<std::uint64_t, kMaxRank> dims_{};
  std::size_t rank_ = 0;
  std::uint64_t elements_ = 1;
};

/// Bytes that `elements` consecutive elements take. Throws Error(Corrupt) if they are not whole
/// blocks.
std::size_t row_bytes(DType dtype, std::uint64_t elements);
/// Bytes of a whole tensor, checked: rows times row_bytes.
std::size_t tensor_bytes(DType dtype, const Shape& shape);

struct TensorView {
  DType dtype = DType::F32;
  Shape shape;
  std::span<const std::byte> data;  // tensor_bytes(dtype, shape) of them; alignment not guaranteed

  /// Row r as bytes: rows run over all but the innermost dimension.
  std::span<const std::byte> row(std::uint64_t r) const;
  /// Index i of the outermost dimension, with that dimension gone: [experts, out, in] -> [out, in].
  TensorView slice(std::uint64_t i) const;
  /// Rows [begin, end) of a rank-2 view.
  TensorView rows(std::uint64_t begin, std::uint64_t end) const;
};

}  // namespace fathom
