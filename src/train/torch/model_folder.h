// Writes and reads what a checkpoint of a run holds.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "train/torch/optimizer.h"
#include "train/torch/torch_model.h"

namespace fathom::train {

/// The texts that make a folder of weights a model.
struct ModelTexts {
  std::string config;            // config.json
  std::string tokenizer;         // tokenizer.json
  std::string tokenizer_config;  // tokenizer_config.json; empty: none
};
/// Of a model folder. Throws Error(NotFound | Io).
ModelTexts read_model_texts(const std::filesystem::path& folder);

/// Tells whether weights are the same: for what a run goes on from but does not keep.
std::string weights_digest(const Checkpoint& checkpoint);

/// A folder that the engine, and Hugging Face transformers, open. Weights as F32 or BF16, adapters
/// added to them. Throws
/// Error(Io), naming a full disk as such.
void write_model_folder(const std::filesystem::path& folder, const TorchModel& model,
                        const ModelTexts& texts, at::ScalarType type = at::kFloat);

/// The same with the optimiser's state, and what the caller needs, in `state`; and with the
/// adapters by themselves in adapter/, as PEFT has them. Collective work of ranks that see one
/// folder: each writes what it alone has (its part of the optimiser's state, its experts if they
/// are spread), side by side.
void write_checkpoint(const std::filesystem::path& folder, const TorchModel& model,
                      const ModelTexts& texts, Optimizer& optimizer, nlohmann::ordered_json state,
                      const Ranks& ranks = {});

/// What was given as `state`. Throws Error(NotFound | Corrupt | Unsupported).
nlohmann::ordered_json read_checkpoint_state(const std::filesystem::path& folder);
/// Weights into `model` (of one with adapters these alone), state into `optimizer`, bit for bit,
/// whatever number of ranks wrote them. Throws Error(NotFound | Corrupt), naming the file and the
/// tensor.
void read_checkpoint(const std::filesystem::path& folder, const nlohmann::ordered_json& state,
                     TorchModel& model, Optimizer& optimizer);

}  // namespace fathom::train
