// ModelConfig from a GGUF file's keys, as the llama.cpp family understands them.
#include <cmath>
#include <string>
#include <string_view>

#include "config/config_fields.h"
#include "config/rope.h"
#include "tensor/quantise.h"

namespace fathom {
namespace {

Architecture architecture_of(const Checkpoint& file, std::string_view name) {
  if (name == "llama") return Architecture::Llama;
  if (name == "qwen2") return Architecture::Qwen2;
  if (name == "qwen3") return Architecture::Qwen3;
  if (name == "deepseek") return Architecture::DeepSeekMoe;
  // One name for all models with latent attention; the gate's sigmoid came with V3.
  if (name == "deepseek2") {
    return file.get_int("deepseek2.expert_gating_func").value_or(0) == 2 ? Architecture::DeepSeekV3
                                                                         : Architecture::DeepSeekV2;
  }
  fail(ErrorCode::Unsupported,
       "{}: architecture '{}' is not supported (llama, qwen2, qwen3, deepseek and deepseek2 are)",
       file.path().string(), name);
}

/// A size that some writers store once for each layer: all must agree.
std::int64_t uniform_size(const ConfigFields& fields, std::string_view name) {
  const MetaValue* value = fields.checkpoint().metadata(fields.key(name));
  const auto* list = value == nullptr ? nullptr : std::get_if<MetaInts>(value);
  if (list == nullptr) return fields.need_size(name);
  require(!list->empty(), ErrorCode::Corrupt, "{}: '{}' is an empty list", fields.path(),
          fields.key(name));
  for (std::int64_t size : *list) {
    if (size != list->front()) fields.unsupported(name, "a list of different sizes");
  }
  require(list->front() >= 1 && list->front() < (std::int64_t{1} << 31), ErrorCode::Corrupt,
          "{}: '{}' is {}, but must be from 1 to 2147483647", fields.path(), fields.key(name),
          list->front());
  return list->front();
}

/// Keys that change the arithmetic in other models and that these architectures do not have.
void refuse_what_is_missing(const ConfigFields& fields, const ModelConfig& c) {
  for (const char* name :
       {"logit_scale", "residual_scale", "embedding_scale", "attn_logit_softcapping",
        "final_logit_softcapping", "router_logit_softcapping", "attention.clamp_kqv",
        "attention.max_alibi_bias", "attention.temperature_scale"}) {
    const double value = fields.number_or(name, 0);
    if (value != 0) fields.unsupported(name, value);
  }
  if (!fields.flag_or("attention.causal", true)) fields.unsupported("attention.causal", false);
  const std::int64_t window = fields.count_or("attention.sliding_window", 0);
  if (window != 0 && window < c.max_position_embeddings) {
    fields.unsupported("attention.sliding_window", window);
  }
  const bool has_experts =
      c.architecture == Architecture::DeepSeekMoe || c.attention == AttentionKind::MultiHeadLatent;
  const std::int64_t experts = fields.count_or("expert_count", 0);
  if (!has_experts && experts != 0) fields.unsupported("expert_count", experts);
}

RopeConfig read_rope(const ConfigFields& fields, std::int64_t head_dims, RopePairing pairing) {
  RopeConfig rope;
  rope.pairing = pairing;
  rope.dims = fields.size_or("rope.dimension_count", head_dims);
  if (rope.dims != head_dims) fields.unsupported("rope.dimension_count", rope.dims);
  rope.theta = fields.positive_or("rope.freq_base", 10000);

  const double old_factor = fields.number_or("rope.scale_linear", 0);
  rope.factor = fields.number_or("rope.scaling.factor", old_factor);
  if (rope.factor == 0) rope.factor = 1;  // GGUF's way to say "none"
  require(rope.factor > 0, ErrorCode::Corrupt, "{}: the rope scaling factor is {}", fields.path(),
          rope.factor);
  // Without a type, a factor means linear.
  const std::string_view type =
      fields.text_or("rope.scaling.type", rope.factor != 1 ? "linear" : "none");
  rope.attention_factor = fields.positive_or("rope.scaling.attn_factor", 1);
  if (type == "none") {
    rope.factor = 1;
  } else if (type == "linear") {
    rope.scaling = rope.factor != 1 ? RopeScaling::Linear : RopeScaling::None;
  } else if (type == "yarn") {
    rope.scaling = RopeScaling::Yarn;
    rope.original_max_position_embeddings =
        fields.size_or("rope.scaling.original_context_length", fields.need_size("context_length"));
    rope.beta_fast = fields.positive_or("rope.scaling.yarn_beta_fast", 32);
    rope.beta_slow = fields.positive_or("rope.scaling.yarn_beta_slow", 1);
    const double extrapolation = fields.number_or("rope.scaling.yarn_ext_factor", 1);
    if (extrapolation != 1) fields.unsupported("rope.scaling.yarn_ext_factor", extrapolation);
    rope.attention_factor *= fields.positive_or("rope.scaling.yarn_attn_factor", 1);
    rope.attention_factor *= yarn_mscale(rope.factor, 1);
  } else {
    fields.unsupported("rope.scaling.type", type);
  }
  if (const auto divisors = fields.checkpoint().find("rope_freqs.weight")) {
    rope.frequency_divisors = to_f32(*divisors);
    for (float divisor : rope.frequency_divisors) {
      require(std::isfinite(divisor) && divisor > 0, ErrorCode::Corrupt,
              "{}: rope_freqs.weight holds {}, but frequencies are divided by it", fields.path(),
              divisor);
    }
  }
  return rope;
}

void read_grouped_attention(const ConfigFields& fields, ModelConfig& c) {
  c.attention = AttentionKind::GroupedQuery;
  c.num_key_value_heads = fields.has("attention.head_count_kv")
                              ? uniform_size(fields, "attention.head_count_kv")
                              : c.num_attention_heads;
  if (!fields.has("attention.key_length")) {
    require(
        c.hidden_size % c.num_attention_heads == 0, ErrorCode::Corrupt,
        "{}: embedding_length {} is not a multiple of head_count {}, and no key_length is given",
        fields.path(), c.hidden_size, c.num_attention_heads);
  }
  c.head_dim = fields.size_or("attention.key_length", c.hidden_size / c.num_attention_heads);
  const std::int64_t value_length = fields.size_or("attention.value_length", c.head_dim);
  if (value_length != c.head_dim) fields.unsupported("attention.value_length", value_length);
  // GGUF states biases by their presence.
  c.qkv_bias = fields.checkpoint().find("model.layers.0.self_attn.q_proj.bias").has_value();
  c.output_bias = fields.checkpoint().find("model.layers.0.self_attn.o_proj.bias").has_value();
  c.qk_norm = c.architecture == Architecture::Qwen3;
  const double scale = fields.number_or("attention.scale", 0);
  c.attention_scale = scale != 0 ? scale : 1 / std::sqrt(static_cast<double>(c.head_dim));
  // Converters permute the rows of q and k for these two; qwen's stay as Hugging Face has them.
  const bool permuted =
      c.architecture == Architecture::Llama || c.architecture == Architecture::DeepSeekMoe;
  c.rope = read_rope(fields, c.head_dim, permuted ? RopePairing::Interleaved : RopePairing::Halves);
}

/// Two conventions: the older writes the sizes of the expanded heads as key_length and
/// value_length; the newer writes those of the latent cache (one kv head, kv_lora_rank +
/// qk_rope_head_dim wide) and the heads' as key_length_mla and value_length_mla.
void read_latent_attention(const ConfigFields& fields, ModelConfig& c) {
  c.attention = AttentionKind::MultiHeadLatent;
  c.num_key_value_heads = c.num_attention_heads;
  c.q_lora_rank = fields.count_or("attention.q_lora_rank", 0);
  c.kv_lora_rank = fields.need_size("attention.kv_lora_rank");
  c.qk_rope_head_dim = fields.need_size("rope.dimension_count");
  const bool latent_lengths = fields.has("attention.key_length_mla");
  const std::int64_t key_length =
      fields.need_size(latent_lengths ? "attention.key_length_mla" : "attention.key_length");
  c.v_head_dim =
      fields.need_size(latent_lengths ? "attention.value_length_mla" : "attention.value_length");
  require(key_length > c.qk_rope_head_dim, ErrorCode::Corrupt,
          "{}: a key has {} elements, but {} of them are rotated; none is left for the latent part",
          fields.path(), key_length, c.qk_rope_head_dim);
  c.qk_nope_head_dim = key_length - c.qk_rope_head_dim;

  c.rope = read_rope(fields, c.qk_rope_head_dim, RopePairing::Interleaved);
  c.attention_scale = 1 / std::sqrt(static_cast<double>(key_length));
  if (c.rope.scaling == RopeScaling::Linear) fields.unsupported("rope.scaling.type", "linear");
  if (c.rope.scaling == RopeScaling::Yarn) {
    // yarn_log_multiplier is 0.1 * mscale_all_dim. The family puts the whole temperature on the
    // attention scale and none on cos and sin, which is what DeepSeek's mscale = mscale_all_dim
    // amounts to.
    const double log_multiplier = fields.number_or("rope.scaling.yarn_log_multiplier", 0);
    const double given = c.rope.attention_factor / yarn_mscale(c.rope.factor, 1);
    const double mscale = given * yarn_mscale(c.rope.factor, 10 * log_multiplier);
    c.attention_scale *= mscale * mscale;
    c.rope.attention_factor = 1;
  }
}

void read_moe(const ConfigFields& fields, ModelConfig& c) {
  MoeConfig& moe = c.moe;
  moe.n_routed_experts = fields.count_or("expert_count", 0);
  if (moe.n_routed_experts == 0) return;
  moe.n_shared_experts = fields.count_or("expert_shared_count", 0);
  moe.num_experts_per_tok = fields.need_size("expert_used_count");
  moe.moe_intermediate_size = fields.need_size("expert_feed_forward_length");
  moe.first_k_dense_replace = fields.count_or("leading_dense_block_count", 0);
  const double scale = fields.number_or("expert_weights_scale", 0);
  moe.routed_scaling_factor = scale == 0 ? 1 : scale;  // 0 is GGUF's "none"
  moe.norm_topk_prob = fields.flag_or("expert_weights_norm", false);

  const std::int64_t gating = fields.count_or("expert_gating_func", 0);  // older files: none stated
  if (gating > 2) fields.unsupported("expert_gating_func", gating);
  moe.score = gating == 2 ? GateScore::Sigmoid : GateScore::Softmax;
  moe.n_group = fields.size_or("expert_group_count", 1);
  moe.topk_group = fields.size_or("expert_group_used_count", 1);
  if (moe.score == GateScore::Sigmoid) {
    moe.routing = Routing::NoAuxTc;
  } else {
    moe.routing = moe.n_group > 1 ? Routing::GroupLimitedGreedy : Routing::Greedy;
  }
}

/// Stated by a key, else by the length of the vocabulary that the file carries.
std::int64_t read_vocab_size(const ConfigFields& fields) {
  if (fields.has("vocab_size")) return fields.need_size("vocab_size");
  const MetaValue* tokens = fields.checkpoint().metadata("tokenizer.ggml.tokens");
  const auto* list = tokens == nullptr ? nullptr : std::get_if<MetaStrings>(tokens);
  require(list != nullptr && !list->empty(), ErrorCode::Corrupt,
          "{}: neither '{}' nor 'tokenizer.ggml.tokens' says how large the vocabulary is",
          fields.path(), fields.key("vocab_size"));
  return static_cast<std::int64_t>(list->size());
}

}  // namespace

ModelConfig read_gguf_config(const Checkpoint& checkpoint) {
  const std::string_view name = checkpoint.need_string("general.architecture");
  const ConfigFields fields(checkpoint, std::string(name) + ".");
  ModelConfig c;
  c.architecture = architecture_of(checkpoint, name);
  c.architecture_name = name;
  c.vocab_size = read_vocab_size(fields);
  c.hidden_size = fields.need_size("embedding_length");
  c.intermediate_size = uniform_size(fields, "feed_forward_length");
  c.max_position_embeddings = fields.need_size("context_length");
  c.num_attention_heads = uniform_size(fields, "attention.head_count");
  c.rms_norm_eps = fields.need_positive("attention.layer_norm_rms_epsilon");
  c.tie_word_embeddings = !checkpoint.find("lm_head.weight").has_value();
  // Blocks for multi-token prediction stand after the model's own.
  const std::int64_t blocks = fields.need_size("block_count");
  const std::int64_t predictors = fields.count_or("nextn_predict_layers", 0);
  require(predictors < blocks, ErrorCode::Corrupt, "{}: {} of {} blocks predict further tokens",
          fields.path(), predictors, blocks);
  c.num_hidden_layers = blocks - predictors;

  const bool latent = name == "deepseek2";
  if (latent) {
    read_latent_attention(fields, c);
  } else {
    read_grouped_attention(fields, c);
  }
  refuse_what_is_missing(fields, c);
  if (latent || c.architecture == Architecture::DeepSeekMoe) read_moe(fields, c);
  return c;
}

}  // namespace fathom
