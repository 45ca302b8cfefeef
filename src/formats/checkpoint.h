// A model's weights and metadata, whatever file they came from.
//
// GGUF, a folder of safetensors, and memory (a trainer's live weights) are three sources of the
// same thing. Tensor names are Hugging Face's ("model.layers.3.mlp.experts.17.gate_proj.weight");
// formats/gguf_names.h maps GGUF's to them, and a stacked expert tensor is seen as its slices too.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <filesystem>

#include "tensor/tensor_view.h"

namespace fathom {

enum class CheckpointSource { Gguf, HuggingFace, Memory };

/// Strings in a MetaValue view the checkpoint's mapping: they live as long as it does.
using MetaStrings = std::vector<std::string_view>;  // an array of strings (a vocabulary), compactly
using MetaInts = std::vector<std::int64_t>;
using MetaFloats = std::vector<double>;
using MetaBools = std::vector<bool>;

/// A metadata value. Unsigned integers over int64's range are refused at load; so are arrays of
/// arrays in GGUF. An empty array in JSON is a MetaInts.
struct MetaValue : std::variant<std::monostate, bool, std::int64_t, double, std::string_view,
                                MetaStrings, MetaInts, MetaFloats, MetaBools> {
  using variant::variant;
};
/// "a string", "an array of integers": for messages.
std::string_view kind_of(const MetaValue& value);

class Checkpoint {
 public:
  virtual ~Checkpoint() = default;

  virtual CheckpointSource source() const = 0;
  /// The file or folder, for messages.
  virtual const std::filesystem::path& path() const = 0;

  /// GGUF: the file's keys ("deepseek2.block_count"). HuggingFace: config.json flattened with dots
  /// ("rope_scaling.factor"); null values are absent; an array whose elements are not all numbers,
  /// all strings or all booleans becomes the keys "name.0", "name.1", ...; generation_config.json
  /// likewise under "generation_config.", a safetensors file's own metadata under "__metadata__.".
  /// Memory: as HuggingFace. nullptr when there is no such key. Safe from several threads.
  virtual const MetaValue* metadata(std::string_view key) const = 0;
  virtual std::vector<std::string> metadata_keys() const = 0;

  /// Canonical (Hugging Face) names of all tensors as stored, in file order: experts that a GGUF
  /// file stacks are listed once, stacked.
  virtual const std::vector<std::string>& names() const = 0;
  /// nullopt when there is no such tensor. The view lives as long as the checkpoint. Where experts
  /// are stored stacked ("...mlp.experts.gate_proj.weight" [experts, out, in]), their slices are
  /// found too ("...mlp.experts.17.gate_proj.weight" [out, in]).
  ///
  /// The bytes are the file's. What GGUF changes against Hugging Face stays changed: in the
  /// architectures "llama" and "deepseek" the rows of q_proj and k_proj are permuted so that rope
  /// rotates neighbours (2i, 2i+1) instead of halves (i, i + head_dim/2). "deepseek2" has no such
  /// permutation (Hugging Face's own weights pair neighbours there), nor have "qwen2" and "qwen3"
  /// (both pair halves).
  virtual std::optional<TensorView> find(std::string_view name) const = 0;
  /// The tensor, or Error(NotFound) naming file and tensor.
  TensorView tensor(std::string_view name) const;

  /// Bytes of all tensors.
  virtual std::uint64_t weight_bytes() const = 0;
  /// Tells the system that these bytes of a view will hardly be read again, so that their pages
  /// need not stay in memory. Only advice: they can still be read.
  virtual void not_needed(std::span<const std::byte> /*bytes*/) const noexcept {}
  /// Tells the system that these bytes of a view will be read soon.
  virtual void needed_soon(std::span<const std::byte> /*bytes*/) const noexcept {}
  /// Throws Error(Io) if a file changed since it was opened.
  virtual void verify_unchanged() const = 0;
  /// When its newest file was last modified, in ns since 1970; 0 if it has none.
  virtual std::int64_t modified_ns() const { return 0; }

  /// Typed look-ups. get_*: nullopt when absent; Error(Corrupt) naming key, expected and found type
  /// when present with another type. need_*: Error(Corrupt) when absent too.
  std::optional<std::int64_t> get_int(std::string_view key) const;
  std::optional<double> get_float(std::string_view key) const;  // integers convert
  std::optional<bool> get_bool(std::string_view key) const;
  std::optional<std::string_view> get_string(std::string_view key) const;
  std::int64_t need_int(std::string_view key) const;
  double need_float(std::string_view key) const;
  std::string_view need_string(std::string_view key) const;
};

/// Opens a .gguf file (or the first of a split set), a .safetensors file, or a Hugging Face folder
/// with config.json. Goes by content, not by extension. Validates everything that later code relies
/// on: no view reaches outside the file. Throws Error(NotFound | Io | Corrupt | Unsupported |
/// ResourceLimit).
std::unique_ptr<Checkpoint> open_checkpoint(const std::filesystem::path& path);

}  // namespace fathom
