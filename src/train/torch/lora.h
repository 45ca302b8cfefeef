// Low-rank adapters (LoRA, arXiv 2106.09685): W stays, and x B A s is added to x W, where A and B
// alone are trained. Kept as PEFT has them (adapter_config.json, adapter_model.safetensors).
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace fathom::train {

class TorchModel;

struct LoraOptions {
  std::int64_t rank = 0;  // 0: none, all weights are trained
  double alpha = 16;      // the scale s is alpha / rank
  /// Last parts of the names of the layers' matrices; empty: all but experts'.
  std::vector<std::string> targets;
};

/// What a run's checkpoints say of it.
nlohmann::ordered_json lora_identity(const LoraOptions& lora);

/// The adapters of the model. Throws Error(Io).
void write_adapters(const std::filesystem::path& folder, const TorchModel& model);
/// Into the model's own, whose shapes must be theirs. Throws Error(NotFound | Corrupt), naming the
/// tensor.
void read_adapters(const std::filesystem::path& folder, TorchModel& model);

}  // namespace fathom::train
