// A model of a few thousand weights with all that DeepSeek-V3 has, and its vocabulary of bytes.
#pragma once

#include "formats/memory_checkpoint.h"
#include "train/bpe_trainer.h"
#include "train/torch/torch_model.h"

namespace fathom::train {

inline constexpr const char* kTinyConfig = R"({
  "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "hidden_size": 32,
  "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2, "kv_lora_rank": 16,
  "q_lora_rank": null, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16,
  "intermediate_size": 64, "moe_intermediate_size": 16, "n_routed_experts": 4,
  "n_shared_experts": 1, "num_experts_per_tok": 2, "first_k_dense_replace": 1,
  "moe_layer_freq": 1, "norm_topk_prob": true, "scoring_func": "sigmoid",
  "topk_method": "noaux_tc", "n_group": 1, "topk_group": 1, "routed_scaling_factor": 1.0,
  "vocab_size": 300, "max_position_embeddings": 128, "rope_theta": 10000, "rms_norm_eps": 1e-06,
  "tie_word_embeddings": false, "hidden_act": "silu", "eos_token_id": 0})";

inline ModelConfig tiny_config() {
  MemoryCheckpoint stated("config.json");
  stated.set_config(kTinyConfig);
  return read_model_config(stated);
}

/// Bytes, after "<|end|>" and three more.
inline TokenizerSpec tiny_vocabulary() {
  BpeTrainerOptions options;
  options.vocab_size = 260;
  options.pre_tokenizer = PreTokenizer::Gpt2;
  options.special_tokens = {"<|end|>", "<|begin|>", "<|hole|>", "<|tail|>"};
  return BpeTrainer(options).train();
}

}  // namespace fathom::train
