// The parts of convert: hyperparameters, vocabulary, tensors. Internal to formats/.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/checkpoint.h"
#include "formats/convert.h"
#include "formats/encode.h"
#include "formats/gguf_writer.h"

namespace fathom {

/// What the tensors' conversion needs to know of config.json.
struct ConvertModel {
  std::string architecture;  // GGUF's: "llama", "qwen2", "qwen3", "deepseek", "deepseek2"
  std::uint32_t layers = 0;
  std::uint32_t heads = 0;
  std::uint32_t kv_heads = 0;
  std::uint32_t head_dim = 0;
  std::uint32_t experts = 0;
  std::uint32_t vocab_size = 0;
  std::uint32_t hidden_size = 0;
  std::uint32_t kv_lora_rank = 0;
  std::uint32_t qk_nope_head_dim = 0;
  std::uint32_t v_head_dim = 0;
  bool tied = false;
  /// q_proj and k_proj rows are to be permuted: this architecture's rope pairs neighbours in GGUF.
  bool permute_rope = false;
  /// Llama 3.1's divisors of the frequencies, [head_dim / 2]; written as rope_freqs.weight.
  std::vector<float> rope_freqs;
};

/// Reads config.json's keys, writes GGUF's "general.*" and "<architecture>.*".
ConvertModel convert_config(const Checkpoint& source, const ConvertOptions& options,
                            GgufMetadata& metadata);

/// Reads tokenizer.json (or tokenizer.model), tokenizer_config.json and chat_template.jinja of the
/// folder, writes GGUF's "tokenizer.*".
void convert_tokenizer(const std::filesystem::path& folder, const Checkpoint& source,
                       const ConvertModel& model, const ConvertOptions& options,
                       GgufMetadata& metadata, std::vector<std::string>& notes);

struct SourcedJob {
  TensorJob job;  // its type is not chosen yet
  DType from = DType::F32;
};

/// One job a tensor of the GGUF file, in its order. The jobs view `source` and `model`.
std::vector<SourcedJob> convert_tensors(const Checkpoint& source, const ConvertModel& model,
                                        const ConvertOptions& options,
                                        std::vector<std::string>& notes);

/// Gives each job its type by the mix, and tells the report.
void choose_types(std::vector<SourcedJob>& jobs, const ConvertModel& model,
                  const ConvertOptions& options, ConvertReport& report);

/// Writes the file, whole or not at all; `before_commit` may throw to stop the last step.
void write_converted(const std::filesystem::path& output, GgufMetadata metadata,
                     std::vector<SourcedJob> jobs, const ConvertOptions& options,
                     const std::function<void()>& before_commit);

}  // namespace fathom
