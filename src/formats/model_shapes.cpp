#include "formats/model_shapes.h"

#include <algorithm>
#include <array>
#include <string>

#include "base/error.h"

namespace fathom {
namespace {

// The numbers are the config.json files' on the Hub, of the repository that each comment names.
constexpr std::array kShapes{
    // HuggingFaceTB/SmolLM2-135M-Instruct
    ModelShape{"smollm2-135m", "SmolLM2-135M: llama, 30 layers of 576", "smollm", R"({
      "model_type": "llama", "hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9,
      "num_key_value_heads": 3, "intermediate_size": 1536, "vocab_size": 49152,
      "max_position_embeddings": 8192, "rope_theta": 100000, "rms_norm_eps": 1e-05,
      "tie_word_embeddings": true})"},
    // deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B
    ModelShape{"r1-distill-qwen-1.5b", "DeepSeek-R1-Distill-Qwen-1.5B: qwen2, 28 layers of 1536",
               "deepseek-r1-qwen", R"({
      "model_type": "qwen2", "hidden_size": 1536, "num_hidden_layers": 28,
      "num_attention_heads": 12, "num_key_value_heads": 2, "intermediate_size": 8960,
      "vocab_size": 151936, "max_position_embeddings": 131072, "rope_theta": 10000,
      "rms_norm_eps": 1e-06, "tie_word_embeddings": false})"},
    // deepseek-ai/DeepSeek-R1-Distill-Qwen-7B
    ModelShape{"r1-distill-qwen-7b", "DeepSeek-R1-Distill-Qwen-7B: qwen2, 28 layers of 3584",
               "deepseek-r1-qwen", R"({
      "model_type": "qwen2", "hidden_size": 3584, "num_hidden_layers": 28,
      "num_attention_heads": 28, "num_key_value_heads": 4, "intermediate_size": 18944,
      "vocab_size": 152064, "max_position_embeddings": 131072, "rope_theta": 10000,
      "rms_norm_eps": 1e-06, "tie_word_embeddings": false})"},
    // deepseek-ai/DeepSeek-R1-Distill-Llama-8B
    ModelShape{"r1-distill-llama-8b", "DeepSeek-R1-Distill-Llama-8B: llama, 32 layers of 4096",
               "llama-bpe", R"({
      "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32,
      "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336,
      "vocab_size": 128256, "max_position_embeddings": 131072, "rope_theta": 500000,
      "rms_norm_eps": 1e-05, "tie_word_embeddings": false,
      "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}})"},
    // deepseek-ai/deepseek-moe-16b-chat
    ModelShape{"deepseek-moe-16b", "DeepSeekMoE 16B: 28 layers of 2048, 64 experts, 6 at work",
               "deepseek-llm", R"({
      "model_type": "deepseek", "hidden_size": 2048, "num_hidden_layers": 28,
      "num_attention_heads": 16, "num_key_value_heads": 16, "intermediate_size": 10944,
      "moe_intermediate_size": 1408, "n_routed_experts": 64, "n_shared_experts": 2,
      "num_experts_per_tok": 6, "first_k_dense_replace": 1, "moe_layer_freq": 1,
      "norm_topk_prob": false, "scoring_func": "softmax", "vocab_size": 102400,
      "max_position_embeddings": 4096, "rope_theta": 10000, "rms_norm_eps": 1e-06,
      "tie_word_embeddings": false})"},
    // deepseek-ai/DeepSeek-V2-Lite
    ModelShape{"deepseek-v2-lite",
               "DeepSeek-V2-Lite (15.7B): latent attention, 27 layers, 64 experts, 6 at work",
               "deepseek-llm", R"({
      "model_type": "deepseek_v2", "hidden_size": 2048, "num_hidden_layers": 27,
      "num_attention_heads": 16, "num_key_value_heads": 16, "kv_lora_rank": 512,
      "q_lora_rank": null, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
      "intermediate_size": 10944, "moe_intermediate_size": 1408, "n_routed_experts": 64,
      "n_shared_experts": 2, "num_experts_per_tok": 6, "first_k_dense_replace": 1,
      "moe_layer_freq": 1, "norm_topk_prob": false, "scoring_func": "softmax",
      "topk_method": "greedy", "n_group": 1, "topk_group": 1, "routed_scaling_factor": 1.0,
      "vocab_size": 102400, "max_position_embeddings": 163840, "rope_theta": 10000,
      "rms_norm_eps": 1e-06, "tie_word_embeddings": false,
      "rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096,
        "beta_fast": 32, "beta_slow": 1, "mscale": 0.707, "mscale_all_dim": 0.707}})"},
    // deepseek-ai/DeepSeek-V3 (and R1)
    ModelShape{"deepseek-v3", "DeepSeek-V3 (671B): 61 layers of 7168, 256 experts, 8 at work",
               "deepseek-v3", R"({
      "model_type": "deepseek_v3", "hidden_size": 7168, "num_hidden_layers": 61,
      "num_attention_heads": 128, "num_key_value_heads": 128, "kv_lora_rank": 512,
      "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
      "intermediate_size": 18432, "moe_intermediate_size": 2048, "n_routed_experts": 256,
      "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 3,
      "moe_layer_freq": 1, "norm_topk_prob": true, "scoring_func": "sigmoid",
      "topk_method": "noaux_tc", "n_group": 8, "topk_group": 4, "routed_scaling_factor": 2.5,
      "vocab_size": 129280, "max_position_embeddings": 163840, "rope_theta": 10000,
      "rms_norm_eps": 1e-06, "tie_word_embeddings": false,
      "rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096,
        "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0}})"},
    // deepseek-ai/DeepSeek-V3, of whose 61 layers one of 3 dense and one of 58 routed are kept
    ModelShape{"deepseek-v3-slice",
               "DeepSeek-V3, two of its 61 layers: one dense, one of 256 experts, 8 at work",
               "deepseek-v3", R"({
      "model_type": "deepseek_v3", "hidden_size": 7168, "num_hidden_layers": 2,
      "num_attention_heads": 128, "num_key_value_heads": 128, "kv_lora_rank": 512,
      "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
      "intermediate_size": 18432, "moe_intermediate_size": 2048, "n_routed_experts": 256,
      "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 1,
      "moe_layer_freq": 1, "norm_topk_prob": true, "scoring_func": "sigmoid",
      "topk_method": "noaux_tc", "n_group": 8, "topk_group": 4, "routed_scaling_factor": 2.5,
      "vocab_size": 129280, "max_position_embeddings": 163840, "rope_theta": 10000,
      "rms_norm_eps": 1e-06, "tie_word_embeddings": false,
      "rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096,
        "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0}})"},
};

}  // namespace

std::span<const ModelShape> model_shapes() { return kShapes; }

const ModelShape& find_model_shape(std::string_view name) {
  const auto found = std::ranges::find(kShapes, name, &ModelShape::name);
  if (found != kShapes.end()) return *found;
  std::string names;
  for (const ModelShape& shape : kShapes) {
    names += (names.empty() ? "" : ", ") + std::string(shape.name);
  }
  fail(ErrorCode::InvalidArgument, "no shape is called '{}'; known are {}", name, names);
}

}  // namespace fathom
