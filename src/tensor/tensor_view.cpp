#include "tensor/tensor_view.h"

#include <fmt/ranges.h>

#include <algorithm>

namespace fathom {

Shape::Shape(std::span<const std::uint64_t> dims) : rank_(dims.size()) {
  require(rank_ <= kMaxRank, ErrorCode::Corrupt, "a tensor has {} dimensions, at most {} are known",
          rank_, kMaxRank);
  std::copy(dims.begin(), dims.end(), dims_.begin());
  // Signed limit, so that a count also fits the signed types that others' readers use. A zero
  // dimension must not hide an overflow in the rest, hence the product skips it and is zeroed
  // after.
  std::int64_t product = 1;
  bool zero = false;
  for (const std::uint64_t dim : dims) {
    const auto signed_dim = checked_cast<std::int64_t>(dim, "tensor dimension");
    zero = zero || signed_dim == 0;
    if (signed_dim != 0) product = checked_mul(product, signed_dim, "tensor's element count");
  }
  elements_ = zero ? 0 : static_cast<std::uint64_t>(product);
}

std::string Shape::to_string() const { return fmt::format("[{}]", fmt::join(dims(), ", ")); }

std::size_t row_bytes(DType dtype, std::uint64_t elements) {
  const DTypeInfo& type = info(dtype);
  require(elements % type.block_elements == 0, ErrorCode::Corrupt,
          "a row of {} elements is not a whole number of {} blocks of {}", elements, type.name,
          type.block_elements);
  return checked_mul<std::size_t>(elements / type.block_elements, type.block_bytes, "row's bytes");
}

std::size_t tensor_bytes(DType dtype, const Shape& shape) {
  return checked_mul<std::size_t>(shape.rows(), row_bytes(dtype, shape.row_elements()),
                                  "tensor's bytes");
}

std::span<const std::byte> TensorView::row(std::uint64_t r) const {
  const std::size_t bytes = row_bytes(dtype, shape.row_elements());
  return data.subspan(r * bytes, bytes);
}

TensorView TensorView::slice(std::uint64_t i) const {
  require(shape.rank() >= 1 && i < shape[0], ErrorCode::InvalidArgument,
          "slice {} of a tensor of shape {}", i, shape.to_string());
  const Shape inner(shape.dims().subspan(1));
  const std::size_t bytes = data.size() / shape[0];
  return {dtype, inner, data.subspan(i * bytes, bytes)};
}

TensorView TensorView::rows(std::uint64_t begin, std::uint64_t end) const {
  require(shape.rank() == 2 && begin <= end && end <= shape[0], ErrorCode::InvalidArgument,
          "rows {} to {} of a tensor of shape {}", begin, end, shape.to_string());
  const std::size_t bytes = row_bytes(dtype, shape.row_elements());
  return {dtype, Shape{end - begin, shape[1]}, data.subspan(begin * bytes, (end - begin) * bytes)};
}

}  // namespace fathom
