// A Checkpoint that lives in memory: a trainer's live weights, or a test's.
#pragma once

#include <cstddef>
#include <deque>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "formats/checkpoint.h"
#include "formats/metadata_map.h"

namespace fathom {

/// Metadata keys and tensor names are Hugging Face's, as in config.json. Fill it first, then hand
/// it out: it is not safe to change while others read.
class MemoryCheckpoint final : public Checkpoint {
 public:
  /// `label` stands where a path would in messages.
  explicit MemoryCheckpoint(std::filesystem::path label = "(memory)") : path_(std::move(label)) {}

  /// set("hidden_size", std::int64_t{64}), set("rope_scaling.factor", 40.0); replaces. Strings are
  /// copied.
  void set(std::string key, std::int64_t value) { metadata_.set(std::move(key), value); }
  void set(std::string key, int value) { metadata_.set(std::move(key), std::int64_t{value}); }
  void set(std::string key, double value) { metadata_.set(std::move(key), value); }
  void set(std::string key, bool value) { metadata_.set(std::move(key), value); }
  void set(std::string key, const char* value) { metadata_.set_string(std::move(key), value); }
  void set(std::string key, std::string value) {
    metadata_.set_string(std::move(key), std::move(value));
  }
  void set(std::string key, MetaInts values) { metadata_.set(std::move(key), std::move(values)); }
  void set(std::string key, MetaFloats values) { metadata_.set(std::move(key), std::move(values)); }
  void set(std::string key, std::vector<std::string> values) {
    metadata_.set_strings(std::move(key), std::move(values));
  }
  /// A whole config.json's text.
  void set_config(std::string_view json) { metadata_.add_json(json, "", path_); }

  /// Adds a tensor with its own bytes, zero at first, and returns them. Throws
  /// Error(InvalidArgument) if the name is taken.
  std::span<std::byte> add(std::string name, DType dtype, const Shape& shape);
  /// Adds an F32 tensor with these values.
  void add(std::string name, const Shape& shape, std::span<const float> values);
  /// Adds a tensor whose bytes another owns, and keeps alive.
  void add_view(std::string name, const TensorView& view);

  CheckpointSource source() const override { return CheckpointSource::Memory; }
  const std::filesystem::path& path() const override { return path_; }
  const MetaValue* metadata(std::string_view key) const override { return metadata_.find(key); }
  std::vector<std::string> metadata_keys() const override { return metadata_.keys(); }
  const std::vector<std::string>& names() const override { return names_; }
  std::optional<TensorView> find(std::string_view name) const override;
  std::uint64_t weight_bytes() const override { return weight_bytes_; }
  void verify_unchanged() const override {}

 private:
  std::filesystem::path path_;
  MetadataMap metadata_;
  std::vector<std::string> names_;
  std::unordered_map<std::string, TensorView> tensors_;
  std::deque<std::vector<std::byte>> storage_;
  std::uint64_t weight_bytes_ = 0;
};

}  // namespace fathom
