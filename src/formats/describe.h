// What a model file is, in a form that people and programs can read: `fathom show`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "formats/checkpoint.h"

namespace fathom {

struct TypeUse {
  DType dtype;
  std::size_t tensors = 0;
  std::uint64_t elements = 0;
  std::uint64_t bytes = 0;
};

struct FileUse {
  std::filesystem::path path;
  std::uint64_t bytes = 0;
};

/// Facts that the files state; what they do not state is absent, nothing is guessed.
struct ModelDescription {
  std::filesystem::path path;
  std::string format;        // "GGUF v3", "safetensors"
  std::string architecture;  // GGUF's or config.json's name; "" when not stated
  std::string name;
  std::string license;
  std::string
      quantisation;  // "Q4_K_M", "BF16", "FP8 128x128"; the type of most bytes if not stated

  /// Elements of all tensors but block scales and rope frequencies. Layers for multi-token
  /// prediction count.
  std::uint64_t parameters = 0;
  /// Those that one token meets: of the routed experts only the share that is chosen.
  std::uint64_t active_parameters = 0;
  std::uint64_t weight_bytes = 0;
  std::vector<TypeUse> types;  // most bytes first
  std::vector<FileUse> files;
  std::size_t tensors = 0;
  double bits_per_weight() const;

  std::optional<std::int64_t> context_length;
  std::optional<std::int64_t> layers;
  std::optional<std::int64_t> hidden_size;
  std::optional<std::int64_t> heads;
  std::optional<std::int64_t> kv_heads;
  std::optional<std::int64_t> vocab_size;
  std::optional<std::int64_t> experts;       // routed, of each layer
  std::optional<std::int64_t> experts_used;  // of them, by one token
  std::optional<std::int64_t> shared_experts;
  std::optional<std::int64_t> kv_lora_rank;

  std::string tokenizer;      // "gpt2", "llama"; for a folder the file's name; "" when none
  std::string pre_tokenizer;  // GGUF's name
  bool chat_template = false;
};

/// Works on any checkpoint, also of an architecture that Fathom cannot run. Throws Error(Corrupt)
/// for a key of another type than it must have.
ModelDescription describe(const Checkpoint& checkpoint);

/// One JSON object, keys as the fields above.
std::string to_json(const ModelDescription& description);
/// Lines for a terminal, without control bytes whatever the file holds.
std::string to_text(const ModelDescription& description);

}  // namespace fathom
