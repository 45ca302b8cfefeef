#include "train/torch/lora.h"

#include <fmt/format.h>

#include <ATen/core/grad_mode.h>

#include "base/atomic_file.h"
#include "base/error.h"
#include "formats/checkpoint.h"
#include "train/torch/tensor_list.h"
#include "train/torch/torch_model.h"

namespace fathom::train {
namespace {

constexpr const char* kWeights = "adapter_model.safetensors";

}  // namespace

nlohmann::ordered_json lora_identity(const LoraOptions& lora) {
  return {{"rank", lora.rank}, {"alpha", lora.alpha}, {"targets", lora.targets}};
}

void write_adapters(const std::filesystem::path& folder, const TorchModel& model) {
  std::filesystem::create_directories(folder);
  TensorList tensors;
  for (const TorchModel::Parameter& parameter : model.parameters()) {
    if (parameter.adapter) tensors.add(parameter.name, parameter.value);
  }
  write_safetensors(folder / kWeights, tensors.list());
  const LoraOptions& lora = model.lora();
  const nlohmann::ordered_json config{{"peft_type", "LORA"},
                                      {"task_type", "CAUSAL_LM"},
                                      {"base_model_name_or_path", nullptr},
                                      {"r", lora.rank},
                                      {"lora_alpha", lora.alpha},
                                      {"lora_dropout", 0.0},
                                      {"target_modules", model.adapted()},
                                      {"bias", "none"},
                                      {"fan_in_fan_out", false},
                                      {"use_rslora", false},
                                      {"inference_mode", true}};
  AtomicFile file(folder / "adapter_config.json");
  file.write(config.dump(2) + "\n");
  file.commit();
}

void read_adapters(const std::filesystem::path& folder, TorchModel& model) {
  const at::NoGradGuard no_gradient;
  const auto stored = open_checkpoint(folder / kWeights);
  for (TorchModel::Parameter& parameter : model.parameters()) {
    if (parameter.adapter) read_tensor(*stored, parameter.name, parameter.value);
  }
}

}  // namespace fathom::train
