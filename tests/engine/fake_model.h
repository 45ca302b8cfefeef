// A model that follows a script instead of weights, and writes down what it was asked to compute.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "backend/cpu/cpu_backend.h"
#include "base/error.h"
#include "engine/test_tokenizer.h"
#include "model/kv_cache_impl.h"
#include "model/model.h"

namespace fathom::test {

/// Its next token depends on the last one and its position only; the KV cache is a real one, with
/// pages of one element a token.
class FakeModel final : public Model {
 public:
  using Script = std::function<TokenId(TokenId last, std::size_t position)>;

  explicit FakeModel(Script script, std::size_t max_batch = 32, int context = 1000)
      : script_(std::move(script)), max_batch_(max_batch), backend_(make_cpu_backend({})) {
    // More rows than the tokenizer has tokens, as real models have.
    config_.vocab_size = kVocabulary + 6;
    config_.max_position_embeddings = context;
    config_.num_hidden_layers = 2;
    config_.moe.n_routed_experts = 16;
    config_.moe.num_experts_per_tok = 2;
    config_.moe.moe_layer_freq = 1;
  }

  const ModelConfig& config() const override { return config_; }
  std::size_t max_batch() const override { return max_batch_; }

  KvCache make_cache(const KvCacheOptions& options) override {
    const std::size_t pages = (options.capacity_tokens + 63) / 64;
    return KvCache(
        std::make_unique<KvCache::Impl>(backend_, KvLayout{1, 1, 1, 0, DType::F32}, pages));
  }

  Logits forward(const Batch& batch, KvCache& cache, Observer* observer) override {
    for (int layer = 0; layer < layers && observer != nullptr; ++layer) {
      std::this_thread::sleep_for(delay);
      observer->hidden_states(layer, {});
    }
    // Two experts of 16 in each of two layers, by the token and its position.
    for (int layer = 0; layer < 2 && observer != nullptr; ++layer) {
      std::vector<std::int32_t> ids;
      for (std::size_t i = 0; i < batch.size(); ++i) {
        ids.push_back((value(batch.tokens[i]) + layer) % 16);
        ids.push_back((value(batch.positions[i]) + layer) % 16);
      }
      observer->routing(layer, ids, {});
    }
    if (delay.count() > 0) std::this_thread::sleep_for(delay);
    if (fails.exchange(false)) fail(ErrorCode::Internal, "the model broke");
    KvCache::Impl& pages = cache.impl();
    // The parts of the batch, each a run of one sequence.
    std::vector<std::pair<SequenceId, std::size_t>> parts;
    for (std::size_t i = 0; i < batch.size(); ++i) {
      if (parts.empty() || parts.back().first != batch.sequences[i]) {
        parts.emplace_back(batch.sequences[i], 0);
      }
      const std::size_t expected = cache.length(batch.sequences[i]) + parts.back().second++;
      require(static_cast<std::size_t>(value(batch.positions[i])) == expected,
              ErrorCode::InvalidArgument, "position {} instead of {}", value(batch.positions[i]),
              expected);
    }
    try {
      for (const auto& [sequence, count] : parts) pages.reserve(sequence, count);
    } catch (...) {
      for (const auto& [sequence, count] : parts) pages.give_back(sequence);
      throw;
    }
    for (const auto& [sequence, count] : parts) pages.keep(sequence, count);
    const auto vocab = static_cast<std::size_t>(config_.vocab_size);
    logits_.clear();
    for (std::size_t i = 0; i < batch.size(); ++i) {
      if (!batch.wants_logits[i]) continue;
      std::vector<float> row(vocab, 0.0F);
      const auto position = static_cast<std::size_t>(value(batch.positions[i]));
      row[static_cast<std::size_t>(value(script_(batch.tokens[i], position)))] = 20;
      row[vocab - 1] = 30;  // padding beyond the tokenizer, which must never be chosen
      logits_.insert(logits_.end(), row.begin(), row.end());
    }
    if (remembers) batches.push_back(batch);
    return {logits_, logits_.size() / vocab, vocab};
  }

  void for_each(std::size_t count, FunctionRef<void(std::size_t)> body) override {
    backend_->for_each(count, body);
  }

  bool remembers = true;       // false: for more requests than memory has room for
  std::vector<Batch> batches;  // everything that was computed
  std::chrono::milliseconds delay{0};
  int layers = 0;                   // after each, an observer is called
  std::atomic<bool> fails = false;  // the next forward() throws

 private:
  Script script_;
  std::size_t max_batch_;
  std::shared_ptr<Backend> backend_;
  ModelConfig config_;
  std::vector<float> logits_;
};

/// a -> b -> c ... -> z -> <|end|>: what it says shows where it began.
inline TokenId alphabet(TokenId last, std::size_t) {
  const TokenId z = ids("z")[0];
  return last == z ? kEnd : TokenId{value(last) + 1};
}

}  // namespace fathom::test
