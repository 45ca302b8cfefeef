#include "train/torch/model_folder.h"

#include <ATen/core/grad_mode.h>

#include <fstream>
#include <vector>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/json_guard.h"
#include "formats/safetensors_writer.h"
#include "train/torch/tensor_list.h"

namespace fathom::train {
namespace fs = std::filesystem;
namespace {

constexpr std::size_t kMostText = 64u << 20;
constexpr int kFormat = 1;
constexpr const char* kAdapter = "adapter";

void write_text(const fs::path& path, const std::string& text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

/// A checkpoint's weights into a model of the same shape.
void read_weights(const Checkpoint& checkpoint, TorchModel& model) {
  const TorchModel stored = TorchModel::load(checkpoint, model.options());
  for (std::size_t i = 0; i < model.parameters().size(); ++i) {
    TorchModel::Parameter& parameter = model.parameters()[i];
    const TorchModel::Parameter& from = stored.parameters().at(i);
    require(from.name == parameter.name && from.value.sizes() == parameter.value.sizes(),
            ErrorCode::Corrupt, "{}: its model has '{}' where '{}' is wanted",
            checkpoint.path().string(), from.name, parameter.name);
    parameter.value.copy_(from.value);
  }
}

}  // namespace

ModelTexts read_model_texts(const fs::path& folder) {
  ModelTexts texts;
  texts.config = read_text_file(folder / "config.json", kMostText);
  texts.tokenizer = read_text_file(folder / "tokenizer.json", kMostText);
  if (fs::exists(folder / "tokenizer_config.json")) {
    texts.tokenizer_config = read_text_file(folder / "tokenizer_config.json", kMostText);
  }
  return texts;
}

void write_model_folder(const fs::path& folder, const TorchModel& model, const ModelTexts& texts,
                        at::ScalarType type) {
  TensorList weights;
  model.each_tensor([&](const TorchModel::Parameter& parameter) { return model.merged(parameter); },
                    [&](const std::string& name, const Tensor& tensor) {
                      // A router's bias decides by small differences: it stays F32, as in V3.
                      const bool wide = name.ends_with("e_score_correction_bias");
                      weights.add(name, wide ? tensor : tensor.to(type));
                    });
  write_safetensors_folder(folder, weights.list());
  write_text(folder / "config.json", texts.config);
  write_text(folder / "tokenizer.json", texts.tokenizer);
  if (!texts.tokenizer_config.empty()) {
    write_text(folder / "tokenizer_config.json", texts.tokenizer_config);
  }
}

void write_checkpoint(const fs::path& folder, const TorchModel& model, const ModelTexts& texts,
                      Optimizer& optimizer, nlohmann::ordered_json state) {
  write_model_folder(folder, model, texts);
  if (model.lora().rank > 0) write_adapters(folder / kAdapter, model);
  TensorList moments;
  optimizer.each_state([&](const std::string& name, Tensor& tensor) { moments.add(name, tensor); });
  write_safetensors(folder / "optimizer.safetensors", moments.list());
  state["format"] = kFormat;
  state["optimizer_steps"] = optimizer.steps();
  write_text(folder / "trainer.json", state.dump(1) + "\n");
}

nlohmann::ordered_json read_checkpoint_state(const fs::path& folder) {
  const fs::path path = folder / "trainer.json";
  nlohmann::ordered_json state;
  try {
    state = nlohmann::ordered_json::parse(read_text_file(path, kMostText));
    require(state.at("format") == kFormat, ErrorCode::Unsupported,
            "{}: format {} is not known (known is {})", path.string(), state.at("format").dump(),
            kFormat);
    state.at("optimizer_steps").get<std::int64_t>();
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorCode::Corrupt, "{}: {}", path.string(), json_complaint(error.what()));
  }
  return state;
}

void read_checkpoint(const fs::path& folder, const nlohmann::ordered_json& state, TorchModel& model,
                     Optimizer& optimizer) {
  const at::NoGradGuard no_gradient;
  optimizer.set_steps(state.at("optimizer_steps").get<std::int64_t>());
  if (model.lora().rank > 0) {
    read_adapters(folder / kAdapter, model);  // all else is as it was at the start
  } else {
    read_weights(*open_checkpoint(folder), model);
  }
  const auto moments = open_checkpoint(folder / "optimizer.safetensors");
  optimizer.each_state(
      [&](const std::string& name, Tensor& tensor) { read_tensor(*moments, name, tensor); });
}

}  // namespace fathom::train
