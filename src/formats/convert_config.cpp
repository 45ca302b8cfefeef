// config.json's hyperparameters as GGUF's keys.
#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "base/checked.h"
#include "formats/convert_parts.h"
#include "formats/file_text.h"

namespace fathom {
namespace {

/// config.json, with the sizes checked on the way.
class Config {
 public:
  explicit Config(const Checkpoint& source) : source_(source) {}

  std::uint32_t need(std::string_view key) const { return size(key, source_.need_int(key)); }
  std::uint32_t get(std::string_view key, std::uint32_t absent) const {
    const auto value = source_.get_int(key);
    return value ? size(key, *value) : absent;
  }
  double number(std::string_view key, double absent) const {
    return source_.get_float(key).value_or(absent);
  }
  double need_number(std::string_view key) const { return source_.need_float(key); }
  bool flag(std::string_view key, bool absent) const {
    return source_.get_bool(key).value_or(absent);
  }
  std::string text(std::string_view key, std::string_view absent) const {
    return std::string(source_.get_string(key).value_or(absent));
  }
  bool has(std::string_view key) const { return source_.metadata(key) != nullptr; }
  std::string path() const { return source_.path().string(); }
  [[noreturn]] void unsupported(std::string_view key, std::string_view value) const {
    fail(ErrorCode::Unsupported, "{}: config.json has {} = {}, which cannot be put into GGUF",
         path(), key, printable(value));
  }

 private:
  std::uint32_t size(std::string_view key, std::int64_t value) const {
    require(value >= 0 && value < (std::int64_t{1} << 31), ErrorCode::Corrupt,
            "{}: config.json has {} = {}, expected from 0 to 2^31", path(), key, value);
    return static_cast<std::uint32_t>(value);
  }
  const Checkpoint& source_;
};

std::string architecture_of(const Config& config) {
  struct Known {
    std::string_view model_type;
    std::string_view architecture;
  };
  constexpr std::array kKnown{Known{"llama", "llama"},           Known{"qwen2", "qwen2"},
                              Known{"qwen3", "qwen3"},           Known{"deepseek", "deepseek"},
                              Known{"deepseek_v2", "deepseek2"}, Known{"deepseek_v3", "deepseek2"}};
  const std::string type = config.text("model_type", "");
  for (const Known& known : kKnown) {
    if (known.model_type == type) return std::string(known.architecture);
  }
  fail(ErrorCode::Unsupported,
       "{}: config.json has model_type {}; llama, qwen2, qwen3, deepseek, deepseek_v2 and "
       "deepseek_v3 can be converted",
       config.path(), printable(type));
}

/// Rope's keys stand in "rope_parameters" since transformers 5, before in "rope_scaling" with
/// rope_theta beside it.
std::string rope_prefix(const Config& config) {
  const bool newer =
      config.has("rope_parameters.rope_type") || config.has("rope_parameters.rope_theta");
  return newer ? "rope_parameters." : "rope_scaling.";
}

double rope_theta(const Config& config) {
  return config.number("rope_parameters.rope_theta", config.number("rope_theta", 10000));
}

/// Llama 3.1's scaling as divisors of each frequency: long waves by `factor`, short ones not at
/// all, a smooth step between (Meta's llama-models, apply_scaling).
std::vector<float> llama3_divisors(const Config& config, const std::string& prefix,
                                   std::uint32_t head_dim) {
  const double factor = config.need_number(prefix + "factor");
  const double low = config.need_number(prefix + "low_freq_factor");
  const double high = config.need_number(prefix + "high_freq_factor");
  const double old_context = config.need(prefix + "original_max_position_embeddings");
  require(factor > 0 && low > 0 && high > low, ErrorCode::Corrupt,
          "{}: rope scaling has factor {}, low_freq_factor {} and high_freq_factor {}",
          config.path(), factor, low, high);
  std::vector<float> divisors;
  for (std::uint32_t i = 0; i < head_dim; i += 2) {
    const double wave = 2 * std::numbers::pi * std::pow(rope_theta(config), double(i) / head_dim);
    double divisor = 1;
    if (wave > old_context / low) {
      divisor = factor;
    } else if (wave >= old_context / high) {
      const double smooth = (old_context / wave - low) / (high - low);
      divisor = 1 / ((1 - smooth) / factor + smooth);
    }
    divisors.push_back(static_cast<float>(divisor));
  }
  return divisors;
}

void convert_rope(const Config& config, GgufMetadata& metadata, ConvertModel& model) {
  const std::string key = model.architecture + ".rope.";
  const std::string prefix = rope_prefix(config);
  metadata.f32(key + "freq_base", rope_theta(config));
  for (const std::string& partial :
       {std::string("partial_rotary_factor"), prefix + "partial_rotary_factor"}) {
    if (config.number(partial, 1.0) != 1.0) {
      config.unsupported(partial, fmt::format("{}", config.number(partial, 1.0)));
    }
  }
  const std::string type =
      config.text(prefix + "rope_type", config.text(prefix + "type", "default"));
  if (type == "default") return;
  if (type == "llama3") {
    model.rope_freqs = llama3_divisors(config, prefix, model.head_dim);
    return;
  }
  if (type != "linear" && type != "yarn") config.unsupported(prefix + "rope_type", type);
  metadata.string(key + "scaling.type", type);
  metadata.f32(key + "scaling.factor", config.need_number(prefix + "factor"));
  if (type == "linear") return;

  const std::string original = prefix + "original_max_position_embeddings";
  metadata.u32(key + "scaling.original_context_length",
               config.get(original, config.need("max_position_embeddings")));
  if (config.has(prefix + "beta_fast")) {
    metadata.f32(key + "scaling.yarn_beta_fast", config.need_number(prefix + "beta_fast"));
  }
  if (config.has(prefix + "beta_slow")) {
    metadata.f32(key + "scaling.yarn_beta_slow", config.need_number(prefix + "beta_slow"));
  }
  if (!config.flag(prefix + "truncate", true)) config.unsupported(prefix + "truncate", "false");
  // DeepSeek's two temperatures. GGUF holds one, as 0.1 * mscale_all_dim, and takes the other to be
  // equal, so that none is left for cos and sin.
  const double mscale = config.number(prefix + "mscale", 0);
  const double mscale_all_dim = config.number(prefix + "mscale_all_dim", 0);
  if (model.architecture == "deepseek2") {
    if (mscale != mscale_all_dim) {
      config.unsupported(prefix + "mscale",
                         fmt::format("{} (mscale_all_dim is {})", mscale, mscale_all_dim));
    }
    metadata.f32(key + "scaling.yarn_log_multiplier", 0.1 * mscale_all_dim);
  } else if (mscale != 0 || mscale_all_dim != 0 || config.has(prefix + "attention_factor")) {
    config.unsupported(prefix + "mscale or attention_factor", "given");
  }
}

void convert_experts(const Config& config, GgufMetadata& metadata, ConvertModel& model) {
  const std::string key = model.architecture + ".";
  model.experts = config.get("n_routed_experts", 0);
  metadata.u32(key + "leading_dense_block_count", config.get("first_k_dense_replace", 0));
  if (config.get("moe_layer_freq", 1) != 1) {
    config.unsupported("moe_layer_freq", std::to_string(config.need("moe_layer_freq")));
  }
  if (model.experts == 0) return;
  metadata.u32(key + "expert_count", model.experts);
  metadata.u32(key + "expert_used_count", config.need("num_experts_per_tok"));
  metadata.u32(key + "expert_shared_count", config.get("n_shared_experts", 0));
  metadata.u32(key + "expert_feed_forward_length", config.need("moe_intermediate_size"));
  metadata.f32(key + "expert_weights_scale", config.number("routed_scaling_factor", 1.0));
  if (model.architecture == "deepseek") {
    // llama.cpp's graph for this architecture has plain softmax routing and no switch for more.
    if (config.text("scoring_func", "softmax") != "softmax") {
      config.unsupported("scoring_func", config.text("scoring_func", ""));
    }
    metadata.boolean(key + "expert_weights_norm", config.flag("norm_topk_prob", false));
    metadata.u32(key + "expert_gating_func", 1);
    return;
  }
  const bool v3 = config.text("model_type", "") == "deepseek_v3";
  metadata.boolean(key + "expert_weights_norm", config.flag("norm_topk_prob", v3));
  const std::string scoring = config.text("scoring_func", v3 ? "sigmoid" : "softmax");
  if (scoring != "sigmoid" && scoring != "softmax") config.unsupported("scoring_func", scoring);
  metadata.u32(key + "expert_gating_func", scoring == "sigmoid" ? 2 : 1);
  const std::string method = config.text("topk_method", v3 ? "noaux_tc" : "greedy");
  const bool grouped = method == "group_limited_greedy" || method == "noaux_tc";
  // A reader knows the method by the score: sigmoid with bias correction, softmax without.
  if ((!grouped && method != "greedy") || (method == "noaux_tc") != (scoring == "sigmoid")) {
    config.unsupported("topk_method", method + " with " + scoring);
  }
  if (grouped && config.get("n_group", 1) > 1) {
    metadata.u32(key + "expert_group_count", config.need("n_group"));
    metadata.u32(key + "expert_group_used_count", config.need("topk_group"));
  }
}

void convert_latent_attention(const Config& config, const ConvertOptions& options,
                              GgufMetadata& metadata, ConvertModel& model) {
  const std::string key = model.architecture + ".attention.";
  const std::uint32_t q_lora_rank = config.get("q_lora_rank", 0);
  const std::uint32_t rope_dim = config.need("qk_rope_head_dim");
  model.kv_lora_rank = config.need("kv_lora_rank");
  model.qk_nope_head_dim = config.need("qk_nope_head_dim");
  model.v_head_dim = config.need("v_head_dim");
  if (!config.flag("rope_interleave", true)) config.unsupported("rope_interleave", "false");
  if (q_lora_rank != 0) metadata.u32(key + "q_lora_rank", q_lora_rank);
  metadata.u32(key + "kv_lora_rank", model.kv_lora_rank);
  metadata.u32(model.architecture + ".rope.dimension_count", rope_dim);
  const std::uint32_t key_length = model.qk_nope_head_dim + rope_dim;
  if (options.split_kv_b) {
    // The newer convention states the latent cache's sizes first: one key head for all.
    metadata.u32(key + "head_count_kv", 1);
    metadata.u32(key + "key_length", model.kv_lora_rank + rope_dim);
    metadata.u32(key + "value_length", model.kv_lora_rank);
    metadata.u32(key + "key_length_mla", key_length);
    metadata.u32(key + "value_length_mla", model.v_head_dim);
  } else {
    metadata.u32(key + "head_count_kv", model.heads);
    metadata.u32(key + "key_length", key_length);
    metadata.u32(key + "value_length", model.v_head_dim);
  }
  model.head_dim = rope_dim;
}

void convert_grouped_attention(const Config& config, GgufMetadata& metadata, ConvertModel& model) {
  const std::string key = model.architecture + ".attention.";
  model.kv_heads = config.get("num_key_value_heads", model.heads);
  const bool stated = config.has("head_dim");
  require(stated || model.hidden_size % model.heads == 0, ErrorCode::Corrupt,
          "{}: hidden_size {} is not a multiple of num_attention_heads {}", config.path(),
          model.hidden_size, model.heads);
  model.head_dim = config.get("head_dim", model.hidden_size / model.heads);
  require(model.kv_heads > 0 && model.heads % model.kv_heads == 0 && model.head_dim % 2 == 0,
          ErrorCode::Corrupt, "{}: {} heads of {} elements, {} key-value heads", config.path(),
          model.heads, model.head_dim, model.kv_heads);
  metadata.u32(key + "head_count_kv", model.kv_heads);
  if (stated) {
    metadata.u32(key + "key_length", model.head_dim);
    metadata.u32(key + "value_length", model.head_dim);
  }
  if (model.architecture == "llama" || model.architecture == "deepseek") {
    model.permute_rope = true;
    metadata.u32(model.architecture + ".rope.dimension_count", model.head_dim);
  }
  if (config.flag("use_sliding_window", false) &&
      config.get("max_window_layers", 28) < model.layers) {
    config.unsupported("use_sliding_window", "true");
  }
}

}  // namespace

ConvertModel convert_config(const Checkpoint& source, const ConvertOptions& options,
                            GgufMetadata& metadata) {
  const Config config(source);
  ConvertModel model;
  model.architecture = architecture_of(config);
  if (config.text("hidden_act", "silu") != "silu") {
    config.unsupported("hidden_act", config.text("hidden_act", ""));
  }
  if (config.flag("mlp_bias", false)) config.unsupported("mlp_bias", "true");
  const std::string quantisation = config.text("quantization_config.quant_method", "fp8");
  if (quantisation != "fp8") config.unsupported("quantization_config.quant_method", quantisation);

  model.layers = config.need("num_hidden_layers");
  model.heads = config.need("num_attention_heads");
  model.hidden_size = config.need("hidden_size");
  model.vocab_size = config.need("vocab_size");
  model.tied = config.flag("tie_word_embeddings", false);
  require(model.heads > 0 && model.layers > 0 && model.hidden_size > 0, ErrorCode::Corrupt,
          "{}: config.json describes a model without layers or heads", config.path());

  const std::string key = model.architecture + ".";
  std::filesystem::path folder = std::filesystem::absolute(source.path()).lexically_normal();
  if (folder.filename().empty()) folder = folder.parent_path();
  metadata.string("general.architecture", model.architecture);
  metadata.string("general.type", "model");
  metadata.string("general.name", options.name.value_or(folder.filename().string()));
  metadata.u32(key + "block_count", model.layers);
  metadata.u32(key + "context_length", config.need("max_position_embeddings"));
  metadata.u32(key + "embedding_length", model.hidden_size);
  metadata.u32(key + "feed_forward_length", config.need("intermediate_size"));
  metadata.u32(key + "attention.head_count", model.heads);
  metadata.f32(key + "attention.layer_norm_rms_epsilon", config.need_number("rms_norm_eps"));
  metadata.u32(key + "vocab_size", model.vocab_size);
  if (model.architecture == "deepseek2") {
    convert_latent_attention(config, options, metadata, model);
  } else {
    convert_grouped_attention(config, metadata, model);
  }
  if (model.architecture.starts_with("deepseek")) convert_experts(config, metadata, model);
  convert_rope(config, metadata, model);
  return model;
}

}  // namespace fathom
