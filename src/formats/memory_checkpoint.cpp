#include "formats/memory_checkpoint.h"

#include <cstring>

#include "base/error.h"
#include "formats/file_text.h"

namespace fathom {

std::span<std::byte> MemoryCheckpoint::add(std::string name, DType dtype, const Shape& shape) {
  std::vector<std::byte>& bytes = storage_.emplace_back(tensor_bytes(dtype, shape));
  add_view(std::move(name), {dtype, shape, bytes});
  return bytes;
}

void MemoryCheckpoint::add(std::string name, const Shape& shape, std::span<const float> values) {
  require(values.size() == shape.elements(), ErrorCode::InvalidArgument,
          "tensor {} of shape {} was given {} values", printable(name), shape.to_string(),
          values.size());
  const std::span<std::byte> bytes = add(std::move(name), DType::F32, shape);
  if (!values.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
}

void MemoryCheckpoint::add_view(std::string name, const TensorView& view) {
  require(view.data.size() == tensor_bytes(view.dtype, view.shape), ErrorCode::InvalidArgument,
          "tensor {} of type {} and shape {} was given {} bytes", printable(name),
          to_string(view.dtype), view.shape.to_string(), view.data.size());
  const bool fresh = tensors_.emplace(name, view).second;
  require(fresh, ErrorCode::InvalidArgument, "{}: has a tensor {} already", path_.string(),
          printable(name));
  names_.push_back(std::move(name));
  weight_bytes_ += view.data.size();
}

std::optional<TensorView> MemoryCheckpoint::find(std::string_view name) const {
  const auto found = tensors_.find(std::string(name));
  if (found == tensors_.end()) return std::nullopt;
  return found->second;
}

}  // namespace fathom
