// A shape for random models that a test can afford.
#pragma once

#include "formats/model_shapes.h"

namespace fathom::testing {

/// Latent attention, a dense layer and one of experts; rows that Q4_K's blocks divide.
inline constexpr ModelShape kTiny{"tiny", "two latent layers, one of 4 experts", "deepseek-v3", R"({
  "model_type": "deepseek_v3", "hidden_size": 256, "num_hidden_layers": 2,
  "num_attention_heads": 2, "num_key_value_heads": 2, "kv_lora_rank": 256, "q_lora_rank": 256,
  "qk_nope_head_dim": 32, "qk_rope_head_dim": 16, "v_head_dim": 128, "intermediate_size": 512,
  "moe_intermediate_size": 256, "n_routed_experts": 4, "n_shared_experts": 1,
  "num_experts_per_tok": 2, "first_k_dense_replace": 1, "moe_layer_freq": 1,
  "norm_topk_prob": true, "scoring_func": "sigmoid", "topk_method": "noaux_tc", "n_group": 2,
  "topk_group": 1, "routed_scaling_factor": 2.5, "vocab_size": 300,
  "max_position_embeddings": 512, "rope_theta": 10000, "rms_norm_eps": 1e-06})"};

}  // namespace fathom::testing
