// The tiny checkpoints of tests/golden/models and what the oracle says of them.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "formats/checkpoint.h"
#include "model/model.h"

namespace fathom::test {

/// Largest difference at a position, over the largest logit there.
inline constexpr double kOracleTolerance = 2e-5;

/// A checkpoint: a golden case as its Hugging Face folder (file empty) or as a GGUF twin.
struct GoldenFile {
  std::string name;  // "deepseek3"
  std::string file;  // "split.gguf"
  friend std::ostream& operator<<(std::ostream& out, const GoldenFile& golden) {
    return out << golden.name << (golden.file.empty() ? "" : "/") << golden.file;
  }
  std::string test_name() const {
    std::string text = name + (file.empty() ? "" : "_" + file);
    std::replace_if(
        text.begin(), text.end(), [](unsigned char c) { return !std::isalnum(c); }, '_');
    return text;
  }
};

struct Golden {
  struct Routing {
    std::vector<std::vector<std::int32_t>> ids;  // [tokens][per_token], ascending
    std::vector<std::vector<float>> weights;
  };
  std::vector<TokenId> tokens;
  std::vector<float> logits;  // [tokens, vocab_size]
  std::map<std::int64_t, Routing> routing;
};

inline std::filesystem::path golden_folder(const std::string& name) {
  return std::filesystem::path(FATHOM_SOURCE_DIR) / "tests/golden/models" / name;
}

inline std::unique_ptr<Checkpoint> open_golden(const GoldenFile& golden) {
  const auto folder = golden_folder(golden.name);
  return open_checkpoint(golden.file.empty() ? folder : folder / golden.file);
}

Golden read_golden(const std::string& name);

inline std::unique_ptr<Model> load_golden(const GoldenFile& golden, unsigned threads = 2) {
  ModelOptions options;
  options.precision = ActivationPrecision::F32;
  options.threads = threads;
  return Model::load(open_golden(golden), options);
}

/// max |a - b| / max |b|
inline double relative_error(std::span<const float> a, std::span<const float> b) {
  double difference = 0;
  double largest = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    difference =
        std::max(difference, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
    largest = std::max(largest, std::abs(static_cast<double>(b[i])));
    if (std::isnan(a[i])) return INFINITY;
  }
  return difference / largest;
}

/// The worst position of [tokens, vocab_size] logits.
inline double worst_error(std::span<const float> a, std::span<const float> b,
                          std::size_t vocab_size) {
  EXPECT_EQ(a.size(), b.size());
  if (a.size() != b.size()) return INFINITY;
  double worst = 0;
  for (std::size_t i = 0; i < b.size(); i += vocab_size) {
    worst = std::max(worst, relative_error(a.subspan(i, vocab_size), b.subspan(i, vocab_size)));
  }
  return worst;
}

/// Feeds tokens[begin, end) of a text to `sequence` in one batch; all logits.
inline std::vector<float> feed(Model& model, KvCache& cache, SequenceId sequence,
                               std::span<const TokenId> tokens, std::size_t begin, std::size_t end,
                               Observer* observer = nullptr) {
  Batch batch;
  for (std::size_t t = begin; t < end; ++t) {
    batch.add(tokens[t], sequence, Position{static_cast<int>(t)}, true);
  }
  const Logits logits = model.forward(batch, cache, observer);
  return {logits.values.begin(), logits.values.end()};
}

/// Logits of a whole text, fed in chunks of these sizes (the last one repeats).
inline std::vector<float> feed_in_chunks(Model& model, std::span<const TokenId> tokens,
                                         const std::vector<std::size_t>& chunks,
                                         DType kv_dtype = DType::F32) {
  KvCache cache = model.make_cache({kv_dtype, tokens.size()});
  const SequenceId sequence = cache.create();
  std::vector<float> all;
  std::size_t at = 0;
  for (std::size_t i = 0; at < tokens.size(); ++i) {
    const std::size_t chunk = chunks[std::min(i, chunks.size() - 1)];
    const std::size_t end = std::min(tokens.size(), at + chunk);
    const auto logits = feed(model, cache, sequence, tokens, at, end);
    all.insert(all.end(), logits.begin(), logits.end());
    at = end;
  }
  return all;
}

}  // namespace fathom::test
