#include "config/model_config.h"

#include "base/error.h"
#include "config/config_fields.h"

namespace fathom {
namespace {

/// `whole` must be a multiple of `part`.
void require_divides(const std::string& path, const char* whole_name, std::int64_t whole,
                     const char* part_name, std::int64_t part) {
  require(whole % part == 0, ErrorCode::Corrupt, "{}: {} {} is not a multiple of {} {}", path,
          whole_name, whole, part_name, part);
}

void require_at_most(const std::string& path, const char* name, std::int64_t value,
                     std::int64_t limit) {
  require(value <= limit, ErrorCode::Corrupt, "{}: {} is {}, over the limit of {}; damaged file?",
          path, name, value, limit);
}

/// Limits well over any published model, so that later products of sizes cannot wrap.
void check_limits(const std::string& path, const ModelConfig& c) {
  require_at_most(path, "vocab_size", c.vocab_size, 1 << 24);
  require_at_most(path, "hidden_size", c.hidden_size, 1 << 20);
  require_at_most(path, "num_hidden_layers", c.num_hidden_layers, 4096);
  require_at_most(path, "intermediate_size", c.intermediate_size, 1 << 22);
  require_at_most(path, "num_attention_heads", c.num_attention_heads, 1 << 14);
  require_at_most(path, "num_key_value_heads", c.num_key_value_heads, 1 << 14);
  require_at_most(path, "head_dim", c.head_dim, 1 << 14);
  require_at_most(path, "q_lora_rank", c.q_lora_rank, 1 << 16);
  require_at_most(path, "kv_lora_rank", c.kv_lora_rank, 1 << 16);
  require_at_most(path, "qk_nope_head_dim", c.qk_nope_head_dim, 1 << 14);
  require_at_most(path, "qk_rope_head_dim", c.qk_rope_head_dim, 1 << 14);
  require_at_most(path, "v_head_dim", c.v_head_dim, 1 << 14);
  require_at_most(path, "n_routed_experts", c.moe.n_routed_experts, 1 << 14);
  require_at_most(path, "n_shared_experts", c.moe.n_shared_experts, 1 << 10);
  require_at_most(path, "moe_intermediate_size", c.moe.moe_intermediate_size, 1 << 22);
}

void check_moe(const std::string& path, const MoeConfig& moe) {
  if (moe.n_routed_experts == 0) return;
  require(moe.num_experts_per_tok <= moe.n_routed_experts, ErrorCode::Corrupt,
          "{}: {} experts per token, but there are only {} routed experts", path,
          moe.num_experts_per_tok, moe.n_routed_experts);
  if (moe.routing == Routing::Greedy) return;
  require_divides(path, "n_routed_experts", moe.n_routed_experts, "n_group", moe.n_group);
  require(moe.topk_group <= moe.n_group, ErrorCode::Corrupt,
          "{}: topk_group {} is more than n_group {}", path, moe.topk_group, moe.n_group);
  const std::int64_t group_size = moe.n_routed_experts / moe.n_group;
  require(moe.num_experts_per_tok <= moe.topk_group * group_size, ErrorCode::Corrupt,
          "{}: {} experts per token, but the {} chosen groups of {} hold fewer", path,
          moe.num_experts_per_tok, moe.topk_group, group_size);
  require(moe.routing != Routing::NoAuxTc || moe.n_group == 1 || group_size >= 2,
          ErrorCode::Corrupt,
          "{}: noaux_tc routing scores a group by its two best experts, but groups have one", path);
}

/// Contradictions that either format can have.
void check(const std::string& path, const ModelConfig& c) {
  check_limits(path, c);
  if (c.attention == AttentionKind::GroupedQuery) {
    require_divides(path, "num_attention_heads", c.num_attention_heads, "num_key_value_heads",
                    c.num_key_value_heads);
  }
  require(c.rope.dims % 2 == 0, ErrorCode::Corrupt,
          "{}: {} elements of a head are rotated, but they are rotated in pairs", path,
          c.rope.dims);
  const auto divisors = static_cast<std::int64_t>(c.rope.frequency_divisors.size());
  require(divisors == 0 || divisors == c.rope.dims / 2, ErrorCode::Corrupt,
          "{}: rope_freqs.weight has {} elements, but {} pairs of elements are rotated", path,
          divisors, c.rope.dims / 2);
  require(c.rope.scaling != RopeScaling::Llama3 || c.rope.high_freq_factor > c.rope.low_freq_factor,
          ErrorCode::Corrupt, "{}: llama3 rope scaling needs high_freq_factor > low_freq_factor",
          path);
  require(c.rope.scaling != RopeScaling::Yarn || c.rope.theta > 1, ErrorCode::Corrupt,
          "{}: YaRN needs a rope_theta over 1, found {}", path, c.rope.theta);
  check_moe(path, c.moe);
}

}  // namespace

bool ModelConfig::is_moe_layer(std::int64_t layer) const {
  return moe.n_routed_experts > 0 && layer >= moe.first_k_dense_replace &&
         layer % moe.moe_layer_freq == 0;
}

std::int64_t ModelConfig::kv_width() const {
  return attention == AttentionKind::MultiHeadLatent ? kv_lora_rank + qk_rope_head_dim
                                                     : 2 * num_key_value_heads * head_dim;
}

ModelConfig read_model_config(const Checkpoint& checkpoint) {
  ModelConfig config = checkpoint.source() == CheckpointSource::Gguf ? read_gguf_config(checkpoint)
                                                                     : read_hf_config(checkpoint);
  check(checkpoint.path().string(), config);
  return config;
}

}  // namespace fathom
