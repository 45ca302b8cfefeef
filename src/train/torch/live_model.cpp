#include "train/torch/live_model.h"

#include <vector>

#include "formats/memory_checkpoint.h"

namespace fathom::train {
namespace {

/// Views of tensors, and the tensors.
struct LiveCheckpoint {
  MemoryCheckpoint checkpoint{"(the model in training)"};
  std::vector<Tensor> tensors;

  void hold(const std::string& name, const Tensor& tensor) {
    std::vector<std::uint64_t> dims;
    for (const std::int64_t dim : tensor.sizes()) dims.push_back(static_cast<std::uint64_t>(dim));
    TensorView view;
    view.dtype = DType::F32;
    view.shape = Shape{std::span<const std::uint64_t>(dims)};
    view.data = {static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()};
    checkpoint.add_view(name, view);
    tensors.push_back(tensor);
  }
};

}  // namespace

std::shared_ptr<const Checkpoint> live_checkpoint(const TorchModel& model,
                                                  const std::string& config) {
  const auto live = std::make_shared<LiveCheckpoint>();
  live->checkpoint.set_config(config);
  model.each_tensor(
      [&](const TorchModel::Parameter& parameter) { return model.whole(parameter); },
      [&](const std::string& name, const Tensor& tensor) { live->hold(name, tensor.detach()); });
  return {live, &live->checkpoint};
}

}  // namespace fathom::train
