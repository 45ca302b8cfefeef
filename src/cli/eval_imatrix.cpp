#include "cli/eval_imatrix.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <optional>

#include "base/checked.h"
#include "base/file_map.h"
#include "base/progress.h"
#include "formats/gguf_names.h"
#include "formats/imatrix.h"

namespace fathom {
namespace {

/// The architecture whose GGUF names the matrix's entries get.
std::string gguf_architecture(const LoadedModel& loaded) {
  if (const auto name = loaded.checkpoint->get_string("general.architecture")) {
    return std::string(*name);
  }
  fail(ErrorCode::Unsupported,
       "{}: an importance matrix goes by GGUF's names, and is measured on a GGUF file; convert the "
       "model first (fathom convert)",
       loaded.path.string());
}

ImportanceMatrix matrix_of(const InputStatistics& inputs, const std::string& architecture) {
  ImportanceMatrix matrix;
  for (const auto& [name, parts] : inputs) {
    // As the llama.cpp family: the output matrix is better rounded without, and the router is not
    // rounded at all.
    if (!layer_of_tensor(name) || name.ends_with(".mlp.gate.weight")) continue;
    const std::optional<std::string> gguf = gguf_tensor_name(architecture, name);
    if (!gguf) continue;
    ImportanceMatrix::Entry entry;
    entry.columns = parts.front().squares.size();
    for (const InputSums& part : parts) {
      for (const double square : part.squares) entry.squares.push_back(static_cast<float>(square));
      entry.counts.push_back(static_cast<float>(part.rows));
    }
    matrix.entries.emplace(*gguf, std::move(entry));
  }
  return matrix;
}

/// Reads tokens [begin, end) as a text of their own.
void read_window(LoadedModel& loaded, KvCache& cache, std::span<const TokenId> window) {
  const SequenceId sequence = cache.create();
  Batch batch;
  for (std::size_t at = 0; at < window.size();) {
    batch.clear();
    const std::size_t end = std::min(at + loaded.model->max_batch(), window.size());
    for (; at < end; ++at) {
      batch.add(window[at], sequence, Position{static_cast<std::int32_t>(at)}, false);
    }
    loaded.model->forward(batch, cache);
  }
  cache.remove(sequence);
}

}  // namespace

nlohmann::ordered_json measure_importance(LoadedModel& loaded, const InputStatistics& inputs,
                                          const std::string& text_file, const std::string& output,
                                          std::size_t window, std::size_t limit, DType kv_type,
                                          const Context& context) {
  const std::string architecture = gguf_architecture(loaded);
  const FileMap file(text_file);
  const auto bytes = file.bytes();
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const std::vector<TokenId> tokens =
      loaded.tokenizer.encode(text, {.add_special = false, .parse_special = false});
  window = std::min(window, loaded.context);
  require(window >= 4, ErrorCode::InvalidArgument, "a window of {} tokens is too short", window);
  require(tokens.size() >= window, ErrorCode::InvalidArgument,
          "{} has {} tokens, fewer than one window of {}", text_file, tokens.size(), window);
  std::size_t windows = tokens.size() / window;
  if (limit != 0) windows = std::min(windows, limit);
  const bool bos = loaded.tokenizer.add_bos() && loaded.tokenizer.bos().has_value();

  KvCacheOptions options;
  options.dtype = kv_type;
  options.capacity_tokens = window + 2 * KvCache::kPageTokens;
  KvCache cache = loaded.model->make_cache(options);
  Progress progress(context.progress(), "importance", windows * window, "tokens");
  for (std::size_t w = 0; w < windows; ++w) {
    std::vector<TokenId> part(tokens.begin() + static_cast<std::ptrdiff_t>(w * window),
                              tokens.begin() + static_cast<std::ptrdiff_t>((w + 1) * window));
    // A model that expects a beginning sees one; the text loses a token to it.
    if (bos) part.front() = *loaded.tokenizer.bos();
    read_window(loaded, cache, part);
    progress.advance(window);
  }
  progress.finish();
  ImportanceMatrix matrix = matrix_of(inputs, architecture);
  matrix.datasets = {text_file};
  matrix.chunk_count = checked_cast<std::uint32_t>(windows, "windows");
  matrix.chunk_size = checked_cast<std::uint32_t>(window, "a window");
  matrix.write(output);
  std::size_t unused = 0;
  for (const auto& [name, entry] : matrix.entries) {
    unused += static_cast<std::size_t>(std::count(entry.counts.begin(), entry.counts.end(), 0.0F));
  }
  return {{"file", output},
          {"text", text_file},
          {"tokens", windows * window},
          {"window", window},
          {"weights", matrix.entries.size()},
          {"unused_parts", unused}};
}

}  // namespace fathom
