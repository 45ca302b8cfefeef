// A loaded model: configuration, packed weights, and the forward pass, behind one door.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "backend/cpu/kept_weights.h"
#include "base/function_ref.h"
#include "base/ids.h"
#include "base/numa.h"
#include "base/progress.h"
#include "config/model_config.h"
#include "formats/checkpoint.h"
#include "model/batch.h"
#include "model/input_statistics.h"
#include "model/kv_cache.h"
#include "model/observer.h"

namespace fathom {

enum class ActivationPrecision {
  F32,   // the oracle path: weights dequantised exactly, activations never rounded
  Fine,  // activations rounded to 15 bits (two INT8 blocks) before quantised weights
  Fast   // rounded to INT8 blocks: half the arithmetic of Fine
};

struct ModelOptions {
  ActivationPrecision precision = ActivationPrecision::Fast;
  unsigned threads = 0;  // 0: all CPUs
  NumaOptions numa = {};
  ProgressSink progress;
  InputStatistics* inputs = nullptr;  // to be filled by forward passes; outlives the model
  KeptWeights kept = {};              // from find_kept_weights()
};

/// What a model will need, told before anything large is allocated. Bytes.
struct MemoryEstimate {
  std::uint64_t weights_mapped = 0;  // used straight from files (page cache)
  std::uint64_t weights_packed = 0;  // private copies, one for each NUMA node if they replicate
  std::uint64_t kv_cache = 0;        // for the asked number of tokens
  std::uint64_t activations = 0;     // for the asked batch
  std::uint64_t total() const { return weights_mapped + weights_packed + kv_cache + activations; }
};

/// Logits of a forward pass: [rows, vocab_size], a row for each token that wanted them, in order.
/// The view lives until the next forward().
struct Logits {
  std::span<const float> values;
  std::size_t rows = 0;
  std::size_t vocab_size = 0;
  std::span<const float> row(std::size_t r) const {
    return values.subspan(r * vocab_size, vocab_size);
  }
};

class Model {
 public:
  /// Reads the configuration, checks every tensor's presence, type and shape, and packs the
  /// weights. Keeps the checkpoint. Throws Error(Corrupt | Unsupported | NotFound).
  static std::unique_ptr<Model> load(std::shared_ptr<const Checkpoint> checkpoint,
                                     const ModelOptions& options = {});
  virtual ~Model() = default;

  virtual const ModelConfig& config() const = 0;
  /// Largest batch that forward() takes at once.
  virtual std::size_t max_batch() const = 0;

  virtual KvCache make_cache(const KvCacheOptions& options) = 0;

  /// Runs the batch, appends its keys and values to `cache`, returns the wanted logits. Throws
  /// Error(InvalidArgument) for a token outside the vocabulary or a position that does not continue
  /// its sequence, Error(ResourceLimit) when the cache is full; then the cache is as before.
  virtual Logits forward(const Batch& batch, KvCache& cache, Observer* observer = nullptr) = 0;

  /// Work on the logits, say: body(i) for each i below `count`, at once on the threads that compute
  /// the model. The first exception thrown by a body is rethrown at the end.
  virtual void for_each(std::size_t count, FunctionRef<void(std::size_t)> body) {
    for (std::size_t i = 0; i < count; ++i) body(i);
  }

  /// Final hidden states (after the last norm) of the wanted tokens instead of logits are reached
  /// through Observer::hidden_states.
};

/// From the files' headers alone: opens nothing large.
MemoryEstimate estimate_memory(const Checkpoint& checkpoint, const ModelConfig& config,
                               const ModelOptions& options, std::size_t kv_tokens, DType kv_dtype,
                               std::size_t batch_tokens);

}  // namespace fathom
