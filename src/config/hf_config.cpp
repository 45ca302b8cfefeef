// ModelConfig from Hugging Face's config.json, with the defaults of its configuration classes.
#include <array>
#include <cmath>
#include <string>
#include <string_view>

#include "config/config_fields.h"
#include "config/rope.h"

namespace fathom {
namespace {

Architecture architecture_of(const ConfigFields& fields) {
  const std::string_view type = fields.checkpoint().need_string("model_type");
  if (type == "llama") return Architecture::Llama;
  if (type == "qwen2") return Architecture::Qwen2;
  if (type == "qwen3") return Architecture::Qwen3;
  if (type == "deepseek") return Architecture::DeepSeekMoe;
  if (type == "deepseek_v2") return Architecture::DeepSeekV2;
  if (type == "deepseek_v3") return Architecture::DeepSeekV3;
  fail(ErrorCode::Unsupported,
       "{}: model_type '{}' is not supported (llama, qwen2, qwen3, deepseek, deepseek_v2 and "
       "deepseek_v3 are)",
       fields.path(), type);
}

/// Rope's keys stand in "rope_parameters" (transformers 5) or in "rope_scaling" with rope_theta
/// beside it (before).
struct RopeKeys {
  std::string scaling;  // prefix of the scaling's keys, with its dot
  double theta = 0;
};

RopeKeys rope_keys(const ConfigFields& fields) {
  if (fields.has("rope_parameters.rope_type") || fields.has("rope_parameters.rope_theta")) {
    const double outer = fields.positive_or("rope_theta", 10000);
    return {"rope_parameters.", fields.positive_or("rope_parameters.rope_theta", outer)};
  }
  return {"rope_scaling.", fields.positive_or("rope_theta", 10000)};
}

std::int64_t original_context(const ConfigFields& fields, const std::string& prefix) {
  return fields.size_or(prefix + "original_max_position_embeddings",
                        fields.need_size("max_position_embeddings"));
}

RopeConfig read_rope(const ConfigFields& fields, std::int64_t dims, RopePairing pairing) {
  const auto [prefix, theta] = rope_keys(fields);
  RopeConfig rope;
  rope.pairing = pairing;
  rope.dims = dims;
  rope.theta = theta;
  for (const std::string& key :
       {std::string("partial_rotary_factor"), prefix + "partial_rotary_factor"}) {
    const double partial = fields.number_or(key, 1.0);
    if (partial != 1.0) fields.unsupported(key, partial);
  }

  const std::string old_key = prefix + "type";
  const std::string type_key = fields.has(prefix + "rope_type") ? prefix + "rope_type" : old_key;
  const std::string_view type = fields.text_or(type_key, "default");
  if (type == "default") {
    require(!fields.has(prefix + "factor"), ErrorCode::Corrupt,
            "{}: '{}factor' is given, but no '{}rope_type'", fields.path(), prefix, prefix);
    return rope;
  }
  if (type != "linear" && type != "yarn" && type != "llama3") fields.unsupported(type_key, type);

  rope.factor = fields.need_positive(prefix + "factor");
  if (type == "linear") {
    rope.scaling = RopeScaling::Linear;
  } else if (type == "llama3") {
    rope.scaling = RopeScaling::Llama3;
    rope.original_max_position_embeddings = original_context(fields, prefix);
    rope.low_freq_factor = fields.need_positive(prefix + "low_freq_factor");
    rope.high_freq_factor = fields.need_positive(prefix + "high_freq_factor");
  } else {
    rope.scaling = RopeScaling::Yarn;
    rope.original_max_position_embeddings = original_context(fields, prefix);
    rope.beta_fast = fields.positive_or(prefix + "beta_fast", 32);
    rope.beta_slow = fields.positive_or(prefix + "beta_slow", 1);
    if (!fields.flag_or(prefix + "truncate", true)) fields.unsupported(prefix + "truncate", false);
    // DeepSeek splits the temperature: cos and sin take mscale / mscale_all_dim, the attention
    // scale (below) mscale_all_dim squared. Others put all of it on cos and sin.
    const double mscale = fields.number_or(prefix + "mscale", 0);
    const double mscale_all_dim = fields.number_or(prefix + "mscale_all_dim", 0);
    const double inferred =
        mscale != 0 && mscale_all_dim != 0
            ? yarn_mscale(rope.factor, mscale) / yarn_mscale(rope.factor, mscale_all_dim)
            : yarn_mscale(rope.factor, 1);
    rope.attention_factor = fields.positive_or(prefix + "attention_factor", inferred);
  }
  return rope;
}

void refuse_what_is_missing(const ConfigFields& fields) {
  const std::string_view activation = fields.text_or("hidden_act", "silu");
  if (activation != "silu") fields.unsupported("hidden_act", activation);
  if (fields.flag_or("mlp_bias", false)) fields.unsupported("mlp_bias", true);
  // Qwen2's layers below max_window_layers, and all when it is not switched on, see everything.
  if (fields.flag_or("use_sliding_window", false) &&
      fields.count_or("max_window_layers", 28) < fields.need_size("num_hidden_layers")) {
    fields.unsupported("use_sliding_window", true);
  }
  if (const MetaValue* types = fields.checkpoint().metadata("layer_types")) {
    const auto* names = std::get_if<MetaStrings>(types);
    require(names != nullptr, ErrorCode::Corrupt, "{}: 'layer_types' is not a list of strings",
            fields.path());
    for (std::string_view name : *names) {
      if (name != "full_attention") fields.unsupported("layer_types", name);
    }
  }
  const std::string_view quantisation = fields.text_or("quantization_config.quant_method", "fp8");
  if (quantisation != "fp8") fields.unsupported("quantization_config.quant_method", quantisation);
}

void read_grouped_attention(const ConfigFields& fields, ModelConfig& c) {
  c.attention = AttentionKind::GroupedQuery;
  c.num_key_value_heads = fields.size_or("num_key_value_heads", c.num_attention_heads);
  if (!fields.has("head_dim")) {
    require(c.hidden_size % c.num_attention_heads == 0, ErrorCode::Corrupt,
            "{}: hidden_size {} is not a multiple of num_attention_heads {}, and no head_dim is "
            "given",
            fields.path(), c.hidden_size, c.num_attention_heads);
  }
  c.head_dim = fields.size_or("head_dim", c.hidden_size / c.num_attention_heads);
  const bool bias = fields.flag_or("attention_bias", false);
  c.qkv_bias = c.architecture == Architecture::Qwen2 || bias;
  c.output_bias = c.architecture != Architecture::Qwen2 && bias;
  c.qk_norm = c.architecture == Architecture::Qwen3;
  c.attention_scale = 1 / std::sqrt(static_cast<double>(c.head_dim));
  c.rope = read_rope(fields, c.head_dim, RopePairing::Halves);
}

void read_latent_attention(const ConfigFields& fields, ModelConfig& c) {
  c.attention = AttentionKind::MultiHeadLatent;
  if (fields.flag_or("attention_bias", false)) fields.unsupported("attention_bias", true);
  c.num_key_value_heads = c.num_attention_heads;
  c.q_lora_rank = fields.count_or("q_lora_rank", 0);
  c.kv_lora_rank = fields.need_size("kv_lora_rank");
  c.qk_nope_head_dim = fields.need_size("qk_nope_head_dim");
  c.qk_rope_head_dim = fields.need_size("qk_rope_head_dim");
  c.v_head_dim = fields.need_size("v_head_dim");
  const bool interleave = fields.flag_or("rope_interleave", true);
  c.rope = read_rope(fields, c.qk_rope_head_dim,
                     interleave ? RopePairing::Interleaved : RopePairing::Halves);
  const double query_size = static_cast<double>(c.qk_nope_head_dim + c.qk_rope_head_dim);
  c.attention_scale = 1 / std::sqrt(query_size);
  const double all_dim = fields.number_or(rope_keys(fields).scaling + "mscale_all_dim", 0);
  if (c.rope.scaling != RopeScaling::None && all_dim != 0) {
    const double mscale = yarn_mscale(c.rope.factor, all_dim);
    c.attention_scale *= mscale * mscale;
  }
}

void read_moe(const ConfigFields& fields, ModelConfig& c) {
  const bool v3 = c.architecture == Architecture::DeepSeekV3;
  MoeConfig& moe = c.moe;
  moe.n_routed_experts = fields.count_or("n_routed_experts", 0);
  if (moe.n_routed_experts == 0) return;
  moe.n_shared_experts = fields.count_or("n_shared_experts", 0);
  moe.num_experts_per_tok = fields.need_size("num_experts_per_tok");
  moe.moe_intermediate_size = fields.need_size("moe_intermediate_size");
  moe.first_k_dense_replace = fields.count_or("first_k_dense_replace", 0);
  moe.moe_layer_freq = fields.size_or("moe_layer_freq", 1);
  moe.norm_topk_prob = fields.flag_or("norm_topk_prob", false);
  moe.routed_scaling_factor = fields.positive_or("routed_scaling_factor", 1);

  const std::string_view score = fields.text_or("scoring_func", v3 ? "sigmoid" : "softmax");
  if (score != "softmax" && score != "sigmoid") fields.unsupported("scoring_func", score);
  moe.score = score == "sigmoid" ? GateScore::Sigmoid : GateScore::Softmax;

  const std::string_view method = fields.text_or("topk_method", v3 ? "noaux_tc" : "greedy");
  if (method == "greedy") {
    moe.routing = Routing::Greedy;
  } else if (method == "group_limited_greedy") {
    moe.routing = Routing::GroupLimitedGreedy;
  } else if (method == "noaux_tc") {
    moe.routing = Routing::NoAuxTc;
  } else {
    fields.unsupported("topk_method", method);
  }
  if (moe.routing != Routing::Greedy) {
    moe.n_group = fields.size_or("n_group", 1);
    moe.topk_group = fields.size_or("topk_group", 1);
  }
  // Published V2 code scales only weights that it has not normalised, later code and other engines
  // scale both: no V2 checkpoint asks for it, so what it would mean is not known.
  if (!v3 && moe.norm_topk_prob && moe.routed_scaling_factor != 1) {
    fail(ErrorCode::Unsupported,
         "{}: norm_topk_prob together with routed_scaling_factor {} is not supported for {}",
         fields.path(), moe.routed_scaling_factor, c.architecture_name);
  }
}

}  // namespace

ModelConfig read_hf_config(const Checkpoint& checkpoint) {
  const ConfigFields fields(checkpoint, "");
  ModelConfig c;
  c.architecture = architecture_of(fields);
  c.architecture_name = checkpoint.need_string("model_type");
  refuse_what_is_missing(fields);

  c.vocab_size = fields.need_size("vocab_size");
  c.hidden_size = fields.need_size("hidden_size");
  c.num_hidden_layers = fields.need_size("num_hidden_layers");
  c.intermediate_size = fields.need_size("intermediate_size");
  c.max_position_embeddings = fields.need_size("max_position_embeddings");
  c.num_attention_heads = fields.need_size("num_attention_heads");
  c.rms_norm_eps = fields.need_positive("rms_norm_eps");
  c.tie_word_embeddings = fields.flag_or("tie_word_embeddings", false);

  const bool latent =
      c.architecture == Architecture::DeepSeekV2 || c.architecture == Architecture::DeepSeekV3;
  if (latent) {
    read_latent_attention(fields, c);
  } else {
    read_grouped_attention(fields, c);
  }
  if (latent || c.architecture == Architecture::DeepSeekMoe) read_moe(fields, c);
  return c;
}

}  // namespace fathom
