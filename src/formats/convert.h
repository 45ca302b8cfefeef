// A Hugging Face folder to one GGUF file, as the llama.cpp family loads it too.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/progress.h"
#include "formats/quantize.h"

namespace fathom {

struct ConvertOptions {
  std::string type = "BF16";  // a QuantizeMix
  bool pure = false;
  /// Latent attention's kv_b_proj as its two halves (attn_k_b, attn_v_b), which llama.cpp has
  /// wanted since mid-2025, instead of the one matrix (attn_kv_b) that older programs of the family
  /// want. Fathom loads both.
  bool split_kv_b = false;
  /// tokenizer.ggml.pre; found from tokenizer.json when not given.
  std::optional<std::string> pre_tokenizer = {};
  /// general.name; the folder's name when not given.
  std::optional<std::string> name = {};
  /// Write a model without vocabulary when the folder has none, instead of an error.
  bool allow_no_tokenizer = false;
  unsigned threads = 0;
  ProgressSink progress = {};
  const char* activity = "converting";  // what progress calls it
};

struct ConvertReport : QuantizeReport {
  std::string architecture;
  /// What a person should know: tensors left out and why, defaults taken.
  std::vector<std::string> notes;
};

/// Knows the architectures of formats/gguf_names.h, native FP8 weights (*.weight_scale_inv, blocks
/// of 128 x 128) included. Writes `output` whole or not at all. Throws Error: Unsupported for what
/// GGUF or this code has no way to say, Corrupt for a folder that contradicts itself.
ConvertReport convert_to_gguf(const std::filesystem::path& folder,
                              const std::filesystem::path& output, const ConvertOptions& options);

}  // namespace fathom
