// What a model is, in plain enums and numbers; shared by model/ and the trainer.
//
// Everything is stated by the checkpoint (GGUF keys or config.json) and checked here. A value that
// the code does not implement is Error(Unsupported) naming it; a contradiction is Error(Corrupt);
// nothing is guessed from a proxy, and defaults are only those that the format itself defines.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "formats/checkpoint.h"

namespace fathom {

enum class Architecture { Llama, Qwen2, Qwen3, DeepSeekMoe, DeepSeekV2, DeepSeekV3 };
enum class AttentionKind { GroupedQuery, MultiHeadLatent };

/// Which elements of a head are rotated together (RoFormer, arXiv 2104.09864, section 3.4.2).
enum class RopePairing {
  Halves,      // (i, i + dims/2): Hugging Face's llama, qwen2, qwen3
  Interleaved  // (2i, 2i + 1): DeepSeek's MLA, and llama's q/k rows as GGUF stores them
};
enum class RopeScaling { None, Linear, Yarn, Llama3 };

struct RopeConfig {
  RopePairing pairing = RopePairing::Halves;
  std::int64_t dims = 0;  // rotated elements of a head
  double theta = 10000;
  RopeScaling scaling = RopeScaling::None;
  double factor = 1;
  std::int64_t original_max_position_embeddings = 0;
  double beta_fast = 32;  // YaRN (arXiv 2309.00071)
  double beta_slow = 1;
  /// Multiplies cos and sin (YaRN's attention temperature, as far as it is not in attention_scale).
  double attention_factor = 1;
  double low_freq_factor = 1;  // Llama 3
  double high_freq_factor = 4;
  /// Per-frequency divisors given by the file (GGUF's rope_freqs.weight), [dims / 2]; else empty.
  std::vector<float> frequency_divisors;
};

enum class GateScore { Softmax, Sigmoid };
enum class Routing {
  Greedy,              // the top k experts of all
  GroupLimitedGreedy,  // DeepSeek-V2: a group's score is its best expert's
  NoAuxTc              // DeepSeek-V3: a group's score is the sum of its two best biased scores
};

struct MoeConfig {
  std::int64_t n_routed_experts = 0;
  std::int64_t n_shared_experts = 0;
  std::int64_t num_experts_per_tok = 0;
  std::int64_t moe_intermediate_size = 0;
  std::int64_t first_k_dense_replace = 0;
  std::int64_t moe_layer_freq = 1;
  GateScore score = GateScore::Softmax;
  Routing routing = Routing::Greedy;
  std::int64_t n_group = 1;
  std::int64_t topk_group = 1;
  bool norm_topk_prob = false;
  double routed_scaling_factor = 1;
};

struct ModelConfig {
  Architecture architecture = Architecture::Llama;
  std::string architecture_name;  // as the file spells it
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t num_hidden_layers = 0;
  std::int64_t intermediate_size = 0;
  std::int64_t max_position_embeddings = 0;
  double rms_norm_eps = 0;
  bool tie_word_embeddings = false;

  AttentionKind attention = AttentionKind::GroupedQuery;
  std::int64_t num_attention_heads = 0;
  std::int64_t num_key_value_heads = 0;  // GroupedQuery
  std::int64_t head_dim = 0;             // GroupedQuery
  bool qkv_bias = false;
  bool output_bias = false;
  bool qk_norm = false;           // qwen3: RMSNorm of each head's q and k
  std::int64_t q_lora_rank = 0;   // MultiHeadLatent; 0: queries are not compressed
  std::int64_t kv_lora_rank = 0;  // MultiHeadLatent
  std::int64_t qk_nope_head_dim = 0;
  std::int64_t qk_rope_head_dim = 0;
  std::int64_t v_head_dim = 0;
  /// Multiplies q.k: 1/sqrt(query head size), times YaRN's mscale squared where the model says so.
  double attention_scale = 0;
  RopeConfig rope;

  MoeConfig moe;  // n_routed_experts 0: a dense model

  /// Whether the layer's feed-forward is a mixture of experts.
  bool is_moe_layer(std::int64_t layer) const;
  /// Elements a token takes in the KV cache, per layer: kv_lora_rank + qk_rope_head_dim, or
  /// 2 * num_key_value_heads * head_dim.
  std::int64_t kv_width() const;
};

/// Reads and checks the configuration of a GGUF file or a Hugging Face folder.
ModelConfig read_model_config(const Checkpoint& checkpoint);

}  // namespace fathom
