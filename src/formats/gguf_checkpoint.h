// A GGUF file, or a split set of them, as a Checkpoint.
#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "formats/checkpoint.h"
#include "formats/gguf_file.h"

namespace fathom {

/// Metadata is the first file's. A split set (split.count > 1) is opened by its first file,
/// "...-00001-of-0000N.gguf"; the others lie beside it.
class GgufCheckpoint final : public Checkpoint {
 public:
  explicit GgufCheckpoint(const std::filesystem::path& path);

  CheckpointSource source() const override { return CheckpointSource::Gguf; }
  const std::filesystem::path& path() const override { return path_; }
  const MetaValue* metadata(std::string_view key) const override;
  std::vector<std::string> metadata_keys() const override;
  const std::vector<std::string>& names() const override { return names_; }
  std::optional<TensorView> find(std::string_view name) const override;
  std::uint64_t weight_bytes() const override { return weight_bytes_; }
  void not_needed(std::span<const std::byte> bytes) const noexcept override;
  void needed_soon(std::span<const std::byte> bytes) const noexcept override;
  void verify_unchanged() const override;
  std::int64_t modified_ns() const override;

  /// The files, in order: for code that copies GGUF to GGUF.
  const std::deque<GgufFile>& files() const { return files_; }

 private:
  struct Decoded {
    std::mutex mutex;
    std::unordered_map<const GgufKey*, std::unique_ptr<MetaValue>> values;
  };

  void open_split_set();
  void collect_tensors();

  std::filesystem::path path_;
  std::deque<GgufFile> files_;
  std::vector<std::string> names_;
  std::unordered_map<std::string_view, TensorView> tensors_;  // keys view names_
  std::uint64_t weight_bytes_ = 0;
  // Values are decoded when first asked for: a vocabulary may be large, and most callers want few.
  std::unique_ptr<Decoded> decoded_;
};

}  // namespace fathom
