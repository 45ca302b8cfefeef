// The forward pass: a batch of tokens in, logits out. Internal to model/.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "config/model_config.h"
#include "model/batch.h"
#include "model/observer.h"
#include "model/weights.h"

namespace fathom {

class Transformer {
 public:
  /// The weights' layers must be those that the configuration calls for (load_weights()).
  Transformer(const ModelConfig& config, std::shared_ptr<Backend> backend, Weights weights);

  /// `runs` say where each part of the batch belongs in the cache; their pages have room for it.
  /// Returns the logits of the tokens that want them, [rows, vocab_size], until the next call.
  std::span<const float> forward(const Batch& batch, const KvLayout& layout,
                                 std::span<const KvRun> runs, Observer* observer);

  /// How many elements of activations the widest batch row holds, over all buffers: for estimates.
  static std::size_t activation_elements(const ModelConfig& config);

 private:
  struct Step;  // what one forward pass works on

  void attend_grouped(const LayerWeights& w, std::size_t layer, const Step& step);
  void attend_latent(const LayerWeights& w, std::size_t layer, const Step& step);
  void feed_forward(const LayerWeights& w, std::size_t layer, const Step& step);
  void resize(std::size_t rows);

  ModelConfig c_;
  std::shared_ptr<Backend> backend_;
  Weights weights_;
  RopeSpec rope_;
  GateSpec gate_;
  std::vector<std::size_t> wanted_;
  Choice choice_;

  std::unique_ptr<Activations> states_;     // [tokens, hidden_size], the residual stream
  std::unique_ptr<Activations> normed_;     // [tokens, hidden_size]
  std::unique_ptr<Activations> rotations_;  // [tokens, rope dims]
  std::unique_ptr<Activations> q_;          // [tokens, heads * query head size]
  std::unique_ptr<Activations> q_a_;        // [tokens, q_lora_rank]
  std::unique_ptr<Activations> k_, v_;      // [tokens, kv_heads * head_dim]
  std::unique_ptr<Activations> kv_a_;       // [tokens, kv_lora_rank + qk_rope_head_dim]
  std::unique_ptr<Activations> attended_;   // [tokens, heads * (head_dim or v_head_dim)]
  std::unique_ptr<Activations> last_;       // [wanted tokens, hidden_size]
  std::unique_ptr<Activations> logits_;     // [wanted tokens, vocab_size]
};

}  // namespace fathom
