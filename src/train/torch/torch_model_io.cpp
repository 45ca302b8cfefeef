// Weights between a checkpoint's tensors and the twin's parameters.
#include <fmt/ranges.h>

#include <ATen/core/grad_mode.h>

#include <cstring>
#include <string>
#include <vector>

#include "base/error.h"
#include "tensor/quantise.h"
#include "train/torch/torch_model.h"

namespace fathom::train {
namespace {

constexpr std::string_view kStackedUp = ".experts.gate_up_proj";
constexpr std::string_view kStackedDown = ".experts.down_proj";

/// The tensor's values as F32 of this shape.
Tensor read(const Checkpoint& checkpoint, const std::string& name, at::IntArrayRef shape) {
  const TensorView view = checkpoint.tensor(name);
  std::vector<std::int64_t> found;
  for (const std::uint64_t dim : view.shape.dims()) found.push_back(static_cast<std::int64_t>(dim));
  require(at::IntArrayRef(found) == shape, ErrorCode::Corrupt,
          "{}: tensor '{}' has shape {}, but the configuration calls for {}",
          checkpoint.path().string(), name, view.shape.to_string(), fmt::join(shape, " x "));
  const std::vector<float> values = to_f32(view);
  Tensor tensor = at::empty(shape, at::kFloat);
  std::memcpy(tensor.data_ptr<float>(), values.data(), values.size() * sizeof(float));
  return tensor;
}

/// GGUF's llama and deepseek have the rows of q_proj and k_proj in another order, so that rope
/// turns neighbours: back to halves, as Hugging Face has them.
Tensor in_halves(const Tensor& rows, std::int64_t head_dim) {
  return rows.unflatten(0, {-1, head_dim / 2, 2}).transpose(1, 2).flatten(0, 2).contiguous();
}

bool has_permuted_rows(const Checkpoint& checkpoint, const ModelConfig& config) {
  return checkpoint.source() == CheckpointSource::Gguf &&
         config.attention == AttentionKind::GroupedQuery &&
         config.rope.pairing == RopePairing::Interleaved;
}

}  // namespace

TorchModel TorchModel::load(const Checkpoint& checkpoint, const TwinOptions& options) {
  ModelConfig config = read_model_config(checkpoint);
  const bool permuted = has_permuted_rows(checkpoint, config);
  if (permuted) config.rope.pairing = RopePairing::Halves;
  TorchModel model(config, options);
  for (Parameter& parameter : model.parameters_) {
    const std::string& name = parameter.name;
    const auto shape = parameter.value.sizes();
    const auto stack = name.find(".experts.");
    if (name.ends_with(kStackedUp) || name.ends_with(kStackedDown)) {
      const std::string prefix = name.substr(0, stack + std::strlen(".experts."));
      for (std::int64_t e = 0; e < shape[0]; ++e) {
        const std::string expert = prefix + std::to_string(e);
        Tensor into = parameter.value[e];
        if (name.ends_with(kStackedDown)) {
          into.copy_(read(checkpoint, expert + ".down_proj.weight", shape.slice(1)));
        } else {
          const std::int64_t half = shape[1] / 2;
          into.narrow(0, 0, half)
              .copy_(read(checkpoint, expert + ".gate_proj.weight", {half, shape[2]}));
          into.narrow(0, half, half)
              .copy_(read(checkpoint, expert + ".up_proj.weight", {half, shape[2]}));
        }
      }
    } else {
      parameter.value.copy_(read(checkpoint, name, shape));
      const bool rotated =
          name.find(".q_proj.") != std::string::npos || name.find(".k_proj.") != std::string::npos;
      if (permuted && rotated) parameter.value = in_halves(parameter.value, config.head_dim);
    }
    parameter.value = parameter.value.to(options.device);
    parameter.value.set_requires_grad(parameter.trained);
  }
  return model;
}

void TorchModel::each_tensor(
    const std::function<Tensor(const Parameter&)>& of,
    const std::function<void(const std::string&, const Tensor&)>& take) const {
  const at::NoGradGuard no_gradient;
  for (const Parameter& parameter : parameters_) {
    if (parameter.adapter) continue;
    Tensor value = of(parameter);
    if (!value.defined()) continue;
    value = value.to(at::kCPU);
    const std::string& name = parameter.name;
    if (!name.ends_with(kStackedUp) && !name.ends_with(kStackedDown)) {
      take(name, value.contiguous());
      continue;
    }
    const std::string prefix = name.substr(0, name.rfind('.') + 1);
    // All of them, or those here.
    const std::int64_t first =
        value.size(0) < config_.moe.n_routed_experts ? parameter.first_expert : 0;
    for (std::int64_t e = 0; e < value.size(0); ++e) {
      const std::string expert = prefix + std::to_string(first + e);
      if (name.ends_with(kStackedDown)) {
        take(expert + ".down_proj.weight", value[e].contiguous());
      } else {
        const std::int64_t half = value.size(1) / 2;
        take(expert + ".gate_proj.weight", value[e].narrow(0, 0, half).contiguous());
        take(expert + ".up_proj.weight", value[e].narrow(0, half, half).contiguous());
      }
    }
  }
}

}  // namespace fathom::train
