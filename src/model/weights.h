// A model's weights on the device, by the checkpoint's names. Internal to model/.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "backend/backend.h"
#include "base/progress.h"
#include "config/model_config.h"
#include "formats/checkpoint.h"
#include "model/input_statistics.h"

namespace fathom {

/// Null where the model has no such part.
struct LayerWeights {
  std::unique_ptr<Vector> input_layernorm;           // [hidden_size]
  std::unique_ptr<Vector> post_attention_layernorm;  // [hidden_size]

  // Grouped-query attention.
  std::unique_ptr<Matrix>
      q_proj;  // [heads * head_dim, hidden_size]; latent: [heads * qk dims, ...]
  std::unique_ptr<Matrix> k_proj;  // [kv_heads * head_dim, hidden_size]
  std::unique_ptr<Matrix> v_proj;  // [kv_heads * head_dim, hidden_size]
  std::unique_ptr<Vector> q_bias, k_bias, v_bias, o_bias;
  std::unique_ptr<Vector> q_norm, k_norm;  // [head_dim]

  // Latent attention.
  std::unique_ptr<Matrix> q_a_proj;            // [q_lora_rank, hidden_size]
  std::unique_ptr<Vector> q_a_layernorm;       // [q_lora_rank]
  std::unique_ptr<Matrix> q_b_proj;            // [heads * qk dims, q_lora_rank]
  std::unique_ptr<Matrix> kv_a_proj_with_mqa;  // [kv_lora_rank + qk_rope_head_dim, hidden_size]
  std::unique_ptr<Vector> kv_a_layernorm;      // [kv_lora_rank]
  std::unique_ptr<LatentHeads> kv_b;
  InputSums* kv_b_inputs = nullptr;  // gets the latent vectors; null: nobody asked

  std::unique_ptr<Matrix> o_proj;  // [hidden_size, heads * (head_dim or v_head_dim)]

  // Feed-forward: one network, or a gate with routed and shared experts.
  std::unique_ptr<Ffn> mlp;
  std::unique_ptr<Matrix> gate;                     // [n_routed_experts, hidden_size]
  std::unique_ptr<Vector> e_score_correction_bias;  // [n_routed_experts]
  std::unique_ptr<Experts> experts;
  std::unique_ptr<Ffn> shared_experts;  // all of them as one wide network
};

struct Weights {
  std::unique_ptr<Table> embed_tokens;  // [vocab_size, hidden_size]
  std::vector<LayerWeights> layers;
  std::unique_ptr<Vector> norm;     // [hidden_size]
  std::unique_ptr<Matrix> lm_head;  // [vocab_size, hidden_size]; the embeddings where tied
};

struct WeightBytes {
  std::uint64_t mapped = 0;  // used where the file has them
  std::uint64_t packed = 0;  // private copies
};

/// Checks that every tensor the configuration calls for is there, with its shape and a type that
/// can be used, and that there are none that it does not call for. Reads no weights.
/// Throws Error(NotFound | Corrupt | Unsupported) naming the tensor.
WeightBytes check_weights(const Checkpoint& checkpoint, const ModelConfig& config,
                          Backend& backend);

/// How load_weights() goes about it.
struct WeightLoading {
  ProgressSink progress = {};
  InputStatistics* inputs = nullptr;  // if not null, gets products' inputs; outlives the weights
  bool read_ahead = true;             // not if the backend has the weights packed
};

/// check_weights(), then packs all of them. Fails if the checkpoint changed meanwhile.
Weights load_weights(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend,
                     const WeightLoading& loading);

/// The same, but drops each layer once it is packed: for a backend that writes down what it packs.
void pack_each_weight(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend,
                      const WeightLoading& loading);

}  // namespace fathom
