#include "formats/hf_checkpoint.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/checked.h"
#include "base/error.h"
#include "base/json_guard.h"
#include "formats/file_text.h"
#include "formats/shard_index.h"

namespace fathom {
namespace {

constexpr std::size_t kConfigBytes = 4u << 20;

}  // namespace

HfCheckpoint::HfCheckpoint(const std::filesystem::path& path) : path_(path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    open_folder();
  } else {
    open_single(path);
  }
}

void HfCheckpoint::open_folder() {
  const auto present = [&](const char* name) { return is_present(path_ / name); };
  require(present("config.json"), ErrorCode::NotFound,
          "{}: has no config.json, so it is not a Hugging Face model folder", path_.string());
  const auto add_config = [&](const char* name, std::string_view prefix) {
    const auto file = resolve_inside(path_, name, path_);
    metadata_.add_json(read_text_file(file, kConfigBytes), prefix, file);
  };
  add_config("config.json", "");
  if (present("generation_config.json")) add_config("generation_config.json", "generation_config.");

  if (present("model.safetensors.index.json")) {
    return open_index(resolve_inside(path_, "model.safetensors.index.json", path_));
  }
  if (present("model.safetensors")) {
    return open_single(resolve_inside(path_, "model.safetensors", path_));
  }
  std::vector<std::string> candidates;
  for (const auto& entry : std::filesystem::directory_iterator(path_)) {
    if (entry.path().extension() == ".safetensors") {
      candidates.push_back(entry.path().filename().string());
    }
  }
  require(!candidates.empty(), ErrorCode::NotFound,
          "{}: has no .safetensors file; PyTorch's pickled .bin files are not read, because they "
          "can run code",
          path_.string());
  require(candidates.size() == 1, ErrorCode::Corrupt,
          "{}: has {} .safetensors files but no model.safetensors.index.json that says what they "
          "hold; the download is probably incomplete",
          path_.string(), candidates.size());
  open_single(resolve_inside(path_, candidates.front(), path_));
}

void HfCheckpoint::open_index(const std::filesystem::path& index) {
  ShardIndex expected = read_shard_index(index);
  for (auto& [file_name, names] : expected) {
    const SafetensorsFile& file = files_.emplace_back(resolve_inside(path_, file_name, index));
    std::sort(names.begin(), names.end());
    for (std::size_t i = 0; i < names.size(); ++i) {
      require(i == 0 || names[i - 1] != names[i], ErrorCode::Corrupt, "{}: lists {} twice",
              index.string(), printable(names[i]));
      require(file.find(names[i]) != nullptr, ErrorCode::Corrupt,
              "{}: says that {} holds {}, but it does not; files of two models may be mixed up",
              index.string(), printable(file_name), printable(names[i]));
    }
    for (const SafetensorsEntry& entry : file.tensors()) {
      if (std::binary_search(names.begin(), names.end(), entry.name)) add_tensor(file, entry);
    }
  }
}

void HfCheckpoint::open_single(const std::filesystem::path& file_path) {
  const SafetensorsFile& file = files_.emplace_back(file_path);
  for (const auto& [key, value] : file.metadata()) {
    metadata_.set_string("__metadata__." + key, value);
  }
  for (const SafetensorsEntry& entry : file.tensors()) add_tensor(file, entry);
}

void HfCheckpoint::add_tensor(const SafetensorsFile& file, const SafetensorsEntry& entry) {
  const bool fresh = tensors_.emplace(entry.name, file.view(entry)).second;
  require(fresh, ErrorCode::Corrupt, "{}: tensor {} is in two of the model's files", path_.string(),
          printable(entry.name));
  names_.push_back(entry.name);
  weight_bytes_ = checked_add(weight_bytes_, entry.bytes, "bytes of all tensors");
}

std::optional<TensorView> HfCheckpoint::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) return std::nullopt;
  return found->second;
}

void HfCheckpoint::not_needed(std::span<const std::byte> bytes) const noexcept {
  for (const auto& file : files_) file.map().dont_need(bytes);
}

void HfCheckpoint::needed_soon(std::span<const std::byte> bytes) const noexcept {
  for (const auto& file : files_) file.map().will_need(bytes);
}

std::int64_t HfCheckpoint::modified_ns() const {
  std::int64_t newest = 0;
  for (const auto& file : files_) newest = std::max(newest, file.map().modified_ns());
  return newest;
}

void HfCheckpoint::verify_unchanged() const {
  for (const SafetensorsFile& file : files_) file.map().verify_unchanged();
}

}  // namespace fathom
