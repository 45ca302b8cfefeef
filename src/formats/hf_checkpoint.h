// A Hugging Face folder (config.json with one or many safetensors files), or one safetensors file,
// as a Checkpoint.
#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "formats/checkpoint.h"
#include "formats/metadata_map.h"
#include "formats/safetensors_file.h"

namespace fathom {

/// In a folder: model.safetensors.index.json, when there, says which file holds which tensor, and
/// tensors that it does not list are not part of the model; otherwise model.safetensors, or the
/// folder's only *.safetensors file. Native FP8 checkpoints show each weight (F8_E4M3) and its
/// "*.weight_scale_inv" as two tensors.
class HfCheckpoint final : public Checkpoint {
 public:
  explicit HfCheckpoint(const std::filesystem::path& path);

  CheckpointSource source() const override { return CheckpointSource::HuggingFace; }
  const std::filesystem::path& path() const override { return path_; }
  const MetaValue* metadata(std::string_view key) const override { return metadata_.find(key); }
  std::vector<std::string> metadata_keys() const override { return metadata_.keys(); }
  const std::vector<std::string>& names() const override { return names_; }
  std::optional<TensorView> find(std::string_view name) const override;
  std::uint64_t weight_bytes() const override { return weight_bytes_; }
  void not_needed(std::span<const std::byte> bytes) const noexcept override;
  void needed_soon(std::span<const std::byte> bytes) const noexcept override;
  void verify_unchanged() const override;
  std::int64_t modified_ns() const override;

  const std::deque<SafetensorsFile>& files() const { return files_; }

 private:
  void open_folder();
  void open_index(const std::filesystem::path& index);
  void open_single(const std::filesystem::path& file);
  void add_tensor(const SafetensorsFile& file, const SafetensorsEntry& entry);

  std::filesystem::path path_;
  std::deque<SafetensorsFile> files_;
  MetadataMap metadata_;
  std::vector<std::string> names_;
  std::unordered_map<std::string_view, TensorView> tensors_;  // keys view the files' entries
  std::uint64_t weight_bytes_ = 0;
};

}  // namespace fathom
