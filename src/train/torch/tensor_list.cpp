#include "train/torch/tensor_list.h"

#include <cstring>

#include "base/error.h"

namespace fathom::train {

void TensorList::add(const std::string& name, const at::Tensor& tensor) {
  const at::Tensor& kept = tensors_.emplace_back(tensor.detach().to(at::kCPU).contiguous());
  std::vector<std::uint64_t> dims;
  for (const std::int64_t dim : kept.sizes()) dims.push_back(static_cast<std::uint64_t>(dim));
  TensorView view;
  view.dtype = kept.scalar_type() == at::kBFloat16 ? DType::BF16 : DType::F32;
  view.shape = Shape{std::span<const std::uint64_t>(dims)};
  view.data = {static_cast<const std::byte*>(kept.const_data_ptr()), kept.nbytes()};
  list_.push_back({name, view});
}

void read_tensor(const Checkpoint& checkpoint, const std::string& name, at::Tensor& into) {
  const TensorView view = checkpoint.tensor(name);
  require(view.dtype == DType::F32 && view.data.size() == into.nbytes(), ErrorCode::Corrupt,
          "{}: '{}' is {} of shape {}, which does not fit the model", checkpoint.path().string(),
          name, to_string(view.dtype), view.shape.to_string());
  at::Tensor host = at::empty(into.sizes(), at::kFloat);
  std::memcpy(host.data_ptr<float>(), view.data.data(), view.data.size());
  into.copy_(host);
}

}  // namespace fathom::train
