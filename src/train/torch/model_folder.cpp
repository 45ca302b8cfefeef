#include "train/torch/model_folder.h"

#include <ATen/core/grad_mode.h>

#include <fstream>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "base/atomic_file.h"
#include "base/content_digest.h"
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
    const Tensor own = parameter.first_expert < 0
                           ? from.value
                           : from.value.narrow(0, parameter.first_expert, parameter.value.size(0));
    require(from.name == parameter.name && own.sizes() == parameter.value.sizes(),
            ErrorCode::Corrupt, "{}: its model has '{}' where '{}' is wanted",
            checkpoint.path().string(), from.name, parameter.name);
    parameter.value.copy_(own);
  }
}

/// Of the weights, those that `wanted` of.
TensorList weights_of(const TorchModel& model, at::ScalarType type,
                      const std::function<bool(const TorchModel::Parameter&)>& wanted) {
  TensorList weights;
  model.each_tensor(
      [&](const TorchModel::Parameter& parameter) {
        return wanted(parameter) ? model.merged(parameter) : Tensor();
      },
      [&](const std::string& name, const Tensor& tensor) {
        // A router's bias decides by small differences: it stays F32, as in V3.
        const bool wide = name.ends_with("e_score_correction_bias");
        weights.add(name, wide ? tensor : tensor.to(type));
      });
  return weights;
}

void write_texts(const fs::path& folder, const ModelTexts& texts) {
  write_text(folder / "config.json", texts.config);
  write_text(folder / "tokenizer.json", texts.tokenizer);
  if (!texts.tokenizer_config.empty()) {
    write_text(folder / "tokenizer_config.json", texts.tokenizer_config);
  }
}

std::string optimizer_file(std::size_t part, std::size_t parts) {
  return parts == 1 ? "optimizer.safetensors" : safetensors_part("optimizer", part, parts);
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

std::string weights_digest(const Checkpoint& checkpoint) {
  ContentDigest digest;
  for (const std::string& name : checkpoint.names()) {
    digest.add(std::string_view(name));
    digest.add(checkpoint.tensor(name).data);
  }
  return digest.hex();
}

void write_model_folder(const fs::path& folder, const TorchModel& model, const ModelTexts& texts,
                        at::ScalarType type) {
  const auto all = [](const TorchModel::Parameter&) { return true; };
  write_safetensors_folder(folder, weights_of(model, type, all).list());
  write_texts(folder, texts);
}

void write_checkpoint(const fs::path& folder, const TorchModel& model, const ModelTexts& texts,
                      Optimizer& optimizer, nlohmann::ordered_json state, const Ranks& ranks) {
  const auto rank = static_cast<std::size_t>(ranks.rank());
  const auto size = static_cast<std::size_t>(ranks.size());
  ranks.together([&] {
    if (model.spread()) {
      const auto own = [&](const TorchModel::Parameter& parameter) {
        return parameter.first_expert >= 0 || ranks.first();
      };
      write_safetensors(folder / safetensors_part("model", rank, size),
                        weights_of(model, at::kFloat, own).list());
    } else if (ranks.first()) {
      write_model_folder(folder, model, texts);
    }
    if (ranks.first() && model.lora().rank > 0) write_adapters(folder / kAdapter, model);
    TensorList moments;
    optimizer.each_state(
        [&](const std::string& name, Tensor& tensor, RowRange) { moments.add(name, tensor); });
    write_safetensors(folder / optimizer_file(rank, size), moments.list());
  });
  ranks.together([&] {
    if (!ranks.first()) return;
    if (model.spread()) {
      std::vector<std::string> files;
      for (std::size_t i = 0; i < size; ++i) files.push_back(safetensors_part("model", i, size));
      write_safetensors_index(folder, files);
      write_texts(folder, texts);
    }
    state["format"] = kFormat;
    state["optimizer_steps"] = optimizer.steps();
    state["optimizer_files"] = size;
    write_text(folder / "trainer.json", state.dump(1) + "\n");
  });
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
    const std::int64_t files = state.value("optimizer_files", std::int64_t{1});
    require(files > 0 && files <= 1 << 16, ErrorCode::Corrupt, "{}: optimizer_files is {}",
            path.string(), files);
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
  std::vector<std::unique_ptr<const Checkpoint>> moments;
  const auto files = state.value("optimizer_files", std::size_t{1});
  for (std::size_t i = 0; i < files; ++i) {
    moments.push_back(open_checkpoint(folder / optimizer_file(i, files)));
  }
  optimizer.each_state([&](const std::string& name, Tensor& tensor, RowRange rows) {
    read_rows(moments, name, tensor, rows);
  });
}

}  // namespace fathom::train
