#include "model/model.h"

#include <algorithm>
#include <new>
#include <set>
#include <utility>

#include "backend/cpu/cpu_backend.h"
#include "base/checked.h"
#include "base/error.h"
#include "model/kv_cache_impl.h"
#include "model/transformer.h"
#include "model/weights.h"

namespace fathom {
namespace {

/// Large enough that weights are read from memory once for many tokens, small enough that
/// activations stay in the caches.
constexpr std::size_t kMaxBatch = 512;

KvLayout kv_layout(const ModelConfig& config, DType dtype) {
  require(
      dtype == DType::F32 || dtype == DType::BF16 || dtype == DType::F16 || dtype == DType::Q8_0,
      ErrorCode::Unsupported, "a KV cache of {} is not supported (F32, BF16, F16 and Q8_0 are)",
      to_string(dtype));
  const auto size = [](std::int64_t value) { return static_cast<std::size_t>(value); };
  if (config.attention == AttentionKind::MultiHeadLatent) {
    return {size(config.num_hidden_layers), 1, size(config.kv_width()), 0, dtype};
  }
  return {size(config.num_hidden_layers), size(config.num_key_value_heads), size(config.head_dim),
          size(config.head_dim), dtype};
}

std::size_t pages_for(std::size_t tokens) {
  return (tokens + KvCache::kPageTokens - 1) / KvCache::kPageTokens;
}

std::shared_ptr<Backend> make_backend(const ModelOptions& options) {
  CpuPrecision precision = CpuPrecision::Fast;
  if (options.precision == ActivationPrecision::F32) precision = CpuPrecision::F32;
  if (options.precision == ActivationPrecision::Fine) precision = CpuPrecision::Fine;
  return make_cpu_backend({precision, options.threads, options.numa, options.kept});
}

/// Rows of the batch that belong together: the batch's own lists, checked.
struct Part {
  SequenceId sequence;
  std::size_t first_row;
  std::size_t rows;
};

class LoadedModel final : public Model {
 public:
  LoadedModel(std::shared_ptr<const Checkpoint> checkpoint, const ModelConfig& config,
              std::shared_ptr<Backend> backend, Weights weights)
      : checkpoint_(std::move(checkpoint)),
        config_(config),
        backend_(backend),
        transformer_(config, std::move(backend), std::move(weights)) {}

  const ModelConfig& config() const override { return config_; }
  std::size_t max_batch() const override { return kMaxBatch; }

  KvCache make_cache(const KvCacheOptions& options) override {
    return KvCache(std::make_unique<KvCache::Impl>(backend_, kv_layout(config_, options.dtype),
                                                   pages_for(options.capacity_tokens)));
  }

  Logits forward(const Batch& batch, KvCache& cache, Observer* observer) override {
    KvCache::Impl& pages = cache.impl();
    require(pages.backend == backend_, ErrorCode::InvalidArgument,
            "the KV cache was made by another model");
    const std::vector<Part> parts = split(batch, pages);
    try {
      for (const Part& part : parts) pages.reserve(part.sequence, part.rows);
      std::vector<KvRun> runs;
      runs.reserve(parts.size());
      for (const Part& part : parts) runs.push_back(run_of(part, pages));
      const std::span<const float> logits =
          transformer_.forward(batch, pages.layout, runs, observer);
      for (const Part& part : parts) pages.keep(part.sequence, part.rows);
      const auto vocab_size = static_cast<std::size_t>(config_.vocab_size);
      return {logits, logits.size() / vocab_size, vocab_size};
    } catch (const std::bad_alloc&) {
      for (const Part& part : parts) pages.give_back(part.sequence);
      fail(ErrorCode::ResourceLimit, "no memory for a batch of {} tokens", batch.size());
    } catch (...) {
      for (const Part& part : parts) pages.give_back(part.sequence);
      throw;
    }
  }

  void for_each(std::size_t count, FunctionRef<void(std::size_t)> body) override {
    backend_->for_each(count, body);
  }

 private:
  /// Checks the batch against the vocabulary and the cache.
  std::vector<Part> split(const Batch& batch, const KvCache::Impl& pages) const {
    const std::size_t rows = batch.size();
    require(rows > 0 && rows <= kMaxBatch, ErrorCode::InvalidArgument,
            "a batch of {} tokens, but from 1 to {} can be run at once", rows, kMaxBatch);
    require(batch.sequences.size() == rows && batch.positions.size() == rows &&
                batch.wants_logits.size() == rows,
            ErrorCode::InvalidArgument, "the batch's lists differ in length");
    std::vector<Part> parts;
    std::set<std::int32_t> seen;
    for (std::size_t r = 0; r < rows; ++r) {
      const std::int32_t token = value(batch.tokens[r]);
      require(token >= 0 && token < config_.vocab_size, ErrorCode::InvalidArgument,
              "token {} is outside the vocabulary of {}", token, config_.vocab_size);
      const SequenceId sequence = batch.sequences[r];
      if (parts.empty() || parts.back().sequence != sequence) {
        require(seen.insert(value(sequence)).second, ErrorCode::InvalidArgument,
                "sequence {} stands in two places of one batch", value(sequence));
        parts.push_back({sequence, r, 0});
      }
      const std::size_t expected = pages.find(sequence).tokens + parts.back().rows++;
      require(value(batch.positions[r]) >= 0 &&
                  static_cast<std::size_t>(value(batch.positions[r])) == expected,
              ErrorCode::InvalidArgument,
              "sequence {} goes on at position {}, but the batch has position {}", value(sequence),
              expected, value(batch.positions[r]));
    }
    return parts;
  }

  static KvRun run_of(const Part& part, const KvCache::Impl& pages) {
    const KvCache::Impl::Sequence& sequence = pages.find(part.sequence);
    KvRun run;
    for (const auto& page : sequence.pages) run.pages.push_back(page.get());
    run.first_position = sequence.tokens;
    run.first_row = part.first_row;
    run.rows = part.rows;
    return run;
  }

  std::shared_ptr<const Checkpoint> checkpoint_;  // weights view its mapping
  ModelConfig config_;
  std::shared_ptr<Backend> backend_;
  Transformer transformer_;
};

}  // namespace

std::unique_ptr<Model> Model::load(std::shared_ptr<const Checkpoint> checkpoint,
                                   const ModelOptions& options) {
  const ModelConfig config = read_model_config(*checkpoint);
  auto backend = make_backend(options);
  Weights weights = load_weights(*checkpoint, config, *backend,
                                 {.progress = options.progress,
                                  .inputs = options.inputs,
                                  .read_ahead = options.kept.file == nullptr});
  return std::make_unique<LoadedModel>(std::move(checkpoint), config, std::move(backend),
                                       std::move(weights));
}

MemoryEstimate estimate_memory(const Checkpoint& checkpoint, const ModelConfig& config,
                               const ModelOptions& options, std::size_t kv_tokens, DType kv_dtype,
                               std::size_t batch_tokens) {
  ModelOptions small = options;
  small.threads = 1;  // nothing is computed
  small.numa = {};
  const WeightBytes weights = check_weights(checkpoint, config, *make_backend(small));
  MemoryEstimate estimate;
  estimate.weights_mapped = weights.mapped;
  if (options.kept.file != nullptr && options.numa.off()) {
    estimate.weights_mapped += weights.packed;
  } else {
    estimate.weights_packed = checked_mul(weights.packed, options.numa.copies());
  }
  estimate.kv_cache = checked_mul(pages_for(kv_tokens), kv_layout(config, kv_dtype).page_bytes());
  const std::size_t rows = std::min(batch_tokens, kMaxBatch);
  estimate.activations = rows * Transformer::activation_elements(config) * sizeof(float);
  estimate.activations += static_cast<std::uint64_t>(config.vocab_size) * sizeof(float);
  return estimate;
}

}  // namespace fathom
