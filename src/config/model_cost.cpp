#include "config/model_cost.h"

#include <algorithm>
#include <cmath>

namespace fathom {
namespace {

std::int64_t attention_of(const ModelConfig& c, std::int64_t& norms) {
  const std::int64_t d = c.hidden_size, heads = c.num_attention_heads;
  if (c.attention == AttentionKind::MultiHeadLatent) {
    const std::int64_t query = heads * (c.qk_nope_head_dim + c.qk_rope_head_dim);
    norms += c.q_lora_rank + c.kv_lora_rank;
    return (c.q_lora_rank > 0 ? c.q_lora_rank * (d + query) : d * query) +
           d * (c.kv_lora_rank + c.qk_rope_head_dim) +
           c.kv_lora_rank * heads * (c.qk_nope_head_dim + c.v_head_dim) + heads * c.v_head_dim * d;
  }
  const std::int64_t queries = heads * c.head_dim, keys = c.num_key_value_heads * c.head_dim;
  if (c.qk_norm) norms += 2 * c.head_dim;
  return d * (queries + 2 * keys) + queries * d + (c.qkv_bias ? queries + 2 * keys : 0) +
         (c.output_bias ? d : 0);
}

/// Adds a layer of this kind.
void add_layer(const ModelConfig& c, bool routed, ParameterCount& count) {
  const std::int64_t d = c.hidden_size;
  count.attention += attention_of(c, count.norms);
  count.norms += 2 * d;
  if (!routed) {
    count.dense_ffn += 3 * d * c.intermediate_size;
    return;
  }
  const std::int64_t expert = 3 * d * c.moe.moe_intermediate_size;
  count.shared_experts += c.moe.n_shared_experts * expert;
  count.routed_experts += c.moe.n_routed_experts * expert;
  count.routed_active += c.moe.num_experts_per_tok * expert;
  const bool biased = c.moe.routing == Routing::NoAuxTc;
  count.router += c.moe.n_routed_experts * (d + (biased ? 1 : 0));
}

ForwardWork work(const ModelConfig& c, double context, double head_elements) {
  const auto layers = static_cast<double>(c.num_hidden_layers);
  return {2 * static_cast<double>(count_parameters(c).multiplied()),
          2 * layers * static_cast<double>(c.num_attention_heads) * head_elements * context};
}

}  // namespace

ParameterCount count_parameters(const ModelConfig& config) {
  ParameterCount count;
  count.embedding = config.vocab_size * config.hidden_size;
  count.head = config.tie_word_embeddings ? 0 : count.embedding;
  count.norms = config.hidden_size;  // the last one
  for (std::int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    add_layer(config, config.is_moe_layer(layer), count);
  }
  return count;
}

ParameterCount count_mtp_block(const ModelConfig& config) {
  ParameterCount count;
  add_layer(config, config.is_moe_layer(config.num_hidden_layers - 1), count);
  count.attention += 2 * config.hidden_size * config.hidden_size;  // the projection
  count.norms += 3 * config.hidden_size;                           // of both inputs, and the last
  return count;
}

ForwardWork forward_work(const ModelConfig& config, double context) {
  const bool latent = config.attention == AttentionKind::MultiHeadLatent;
  const std::int64_t elements =
      latent ? config.qk_nope_head_dim + config.qk_rope_head_dim + config.v_head_dim
             : 2 * config.head_dim;
  return work(config, context, static_cast<double>(elements));
}

ForwardWork decode_work(const ModelConfig& config, double context) {
  if (config.attention != AttentionKind::MultiHeadLatent) return forward_work(config, context);
  return work(config, context,
              static_cast<double>(2 * config.kv_lora_rank + config.qk_rope_head_dim));
}

double touched_share(const MoeConfig& moe, double tokens) {
  if (moe.n_routed_experts == 0) return 1;
  const double missed =
      1 - static_cast<double>(moe.num_experts_per_tok) / static_cast<double>(moe.n_routed_experts);
  return 1 - std::pow(missed, std::max(tokens, 0.0));
}

}  // namespace fathom
