#include "train/torch/tensor_list.h"

#include <algorithm>
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

void read_rows(std::span<const std::unique_ptr<const Checkpoint>> files, const std::string& name,
               at::Tensor& into, RowRange rows) {
  const std::int64_t wanted = into.size(0), row = into.numel() / wanted;
  at::Tensor host = at::empty({wanted, row}, at::kFloat);
  std::int64_t at = 0;  // rows so far
  for (const auto& file : files) {
    const auto view = file->find(name);
    if (!view) continue;
    const auto dims = view->shape.dims();
    const std::int64_t here = dims.empty() ? 1 : static_cast<std::int64_t>(dims[0]);
    require(view->dtype == DType::F32 &&
                view->data.size() == static_cast<std::size_t>(here * row) * sizeof(float),
            ErrorCode::Corrupt, "{}: '{}' is {} of shape {}, which does not fit the model",
            file->path().string(), name, to_string(view->dtype), view->shape.to_string());
    const std::int64_t first = std::max(at, rows.first);
    const std::int64_t last = std::min(at + here, rows.first + wanted);
    if (first < last) {
      std::memcpy(host.data_ptr<float>() + (first - rows.first) * row,
                  view->data.data() + static_cast<std::size_t>((first - at) * row) * sizeof(float),
                  static_cast<std::size_t>((last - first) * row) * sizeof(float));
    }
    at += here;
  }
  require(at > 0, ErrorCode::NotFound, "{}: there is no '{}'", files.front()->path().string(),
          name);
  require(at == rows.all, ErrorCode::Corrupt, "{}: '{}' has {} rows of {} that the model has",
          files.front()->path().string(), name, at, rows.all);
  into.copy_(host.view(into.sizes()));
}

}  // namespace fathom::train
