#include "config/model_config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>

#include "base/error.h"
#include "config/rope.h"
#include "formats/memory_checkpoint.h"

namespace fathom {
namespace {

std::string golden_config(const std::string& name) {
  std::ifstream file(std::string(FATHOM_SOURCE_DIR "/tests/golden/models/") + name +
                     "/config.json");
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

/// A golden case's config.json, changed as the test likes.
ModelConfig read_changed(const std::string& name,
                         const std::function<void(MemoryCheckpoint&)>& change = {}) {
  MemoryCheckpoint checkpoint("changed/config.json");
  checkpoint.set_config(golden_config(name));
  if (change) change(checkpoint);
  return read_model_config(checkpoint);
}

/// The change must be refused with this code, naming `named`.
void expect_refused(const std::string& name, ErrorCode code, const std::string& named,
                    const std::function<void(MemoryCheckpoint&)>& change) {
  try {
    read_changed(name, change);
    ADD_FAILURE() << name << " was accepted, expected an error about " << named;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_NE(std::string(error.what()).find(named), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("changed/config.json"), std::string::npos)
        << "the file is not named: " << error.what();
  }
}

TEST(ModelConfig, ReadsDeepSeekV3AsItsRepositoryStatesIt) {
  // The published config.json of DeepSeek-V3 and R1, as far as it describes the model.
  MemoryCheckpoint checkpoint("deepseek-v3/config.json");
  checkpoint.set_config(R"({
    "architectures": ["DeepseekV3ForCausalLM"], "attention_bias": false, "ep_size": 1,
    "first_k_dense_replace": 3, "hidden_act": "silu", "hidden_size": 7168,
    "intermediate_size": 18432, "kv_lora_rank": 512, "max_position_embeddings": 163840,
    "model_type": "deepseek_v3", "moe_intermediate_size": 2048, "moe_layer_freq": 1, "n_group": 8,
    "n_routed_experts": 256, "n_shared_experts": 1, "norm_topk_prob": true,
    "num_attention_heads": 128, "num_experts_per_tok": 8, "num_hidden_layers": 61,
    "num_key_value_heads": 128, "num_nextn_predict_layers": 1, "q_lora_rank": 1536,
    "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
    "quantization_config": {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
                            "weight_block_size": [128, 128]},
    "rms_norm_eps": 1e-06,
    "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 1.0,
                     "mscale_all_dim": 1.0, "original_max_position_embeddings": 4096,
                     "type": "yarn"},
    "rope_theta": 10000, "routed_scaling_factor": 2.5, "scoring_func": "sigmoid",
    "tie_word_embeddings": false, "topk_group": 4, "topk_method": "noaux_tc",
    "torch_dtype": "bfloat16", "v_head_dim": 128, "vocab_size": 129280})");
  const ModelConfig c = read_model_config(checkpoint);
  EXPECT_EQ(c.architecture, Architecture::DeepSeekV3);
  EXPECT_EQ(c.attention, AttentionKind::MultiHeadLatent);
  EXPECT_EQ(c.kv_width(), 576);
  EXPECT_EQ(c.moe.routing, Routing::NoAuxTc);
  EXPECT_EQ(c.moe.score, GateScore::Sigmoid);
  EXPECT_EQ(c.moe.n_group, 8);
  EXPECT_EQ(c.moe.topk_group, 4);
  EXPECT_TRUE(c.moe.norm_topk_prob);
  EXPECT_FALSE(c.is_moe_layer(2));
  EXPECT_TRUE(c.is_moe_layer(3));
  EXPECT_EQ(c.rope.pairing, RopePairing::Interleaved);
  // mscale = 0.1 ln 40 + 1 = 1.36888; all of it on the attention scale.
  EXPECT_NEAR(c.attention_scale, 1.368888 * 1.368888 / std::sqrt(192.0), 1e-6);
  EXPECT_DOUBLE_EQ(c.rope.attention_factor, 1.0);
}

TEST(ModelConfig, SplitsYarnsTemperatureAsDeepSeekDoes) {
  const ModelConfig c = read_changed("deepseek2");  // factor 16, mscale 1.0, mscale_all_dim 0.6
  const double mscale = 0.1 * std::log(16.0) + 1;
  const double all_dim = 0.06 * std::log(16.0) + 1;
  EXPECT_NEAR(c.rope.attention_factor, mscale / all_dim, 1e-12);
  EXPECT_NEAR(c.attention_scale, all_dim * all_dim / std::sqrt(22.0), 1e-12);
}

TEST(ModelConfig, PutsYarnsTemperatureOnCosAndSinElsewhere) {
  const ModelConfig c = read_changed("qwen2-yarn");  // factor 4
  EXPECT_NEAR(c.rope.attention_factor, 0.1 * std::log(4.0) + 1, 1e-12);
  EXPECT_NEAR(c.attention_scale, 1 / std::sqrt(24.0), 1e-12);
  const ModelConfig stated = read_changed(
      "qwen2-yarn", [](auto& file) { file.set("rope_scaling.attention_factor", 1.25); });
  EXPECT_DOUBLE_EQ(stated.rope.attention_factor, 1.25);
}

TEST(ModelConfig, TakesRopeFromEitherGenerationOfKeys) {
  const auto move_keys = [](MemoryCheckpoint& file) {
    file.set("rope_parameters.rope_type", "yarn");
    file.set("rope_parameters.rope_theta", 1e6);
    file.set("rope_parameters.factor", 4.0);
    file.set("rope_parameters.original_max_position_embeddings", 48);
    file.set("rope_theta", 7.0);  // the newer place wins
  };
  const ModelConfig older = read_changed("qwen2-yarn");
  const ModelConfig newer = read_changed("qwen2-yarn", move_keys);
  EXPECT_EQ(rope_frequencies(older.rope), rope_frequencies(newer.rope));
  EXPECT_EQ(older.rope.attention_factor, newer.rope.attention_factor);
}

TEST(ModelConfig, DefaultsAreThoseOfHuggingFace) {
  MemoryCheckpoint file;
  file.set_config(R"({"model_type": "llama", "vocab_size": 10, "hidden_size": 32,
    "num_hidden_layers": 1, "intermediate_size": 16, "max_position_embeddings": 64,
    "num_attention_heads": 4, "rms_norm_eps": 1e-5})");
  const ModelConfig c = read_model_config(file);
  EXPECT_EQ(c.num_key_value_heads, 4);
  EXPECT_EQ(c.head_dim, 8);
  EXPECT_EQ(c.rope.theta, 10000);
  EXPECT_FALSE(c.tie_word_embeddings);
  EXPECT_FALSE(c.qkv_bias);
}

TEST(ModelConfig, RefusesWhatIsNotImplementedByName) {
  const auto unsupported = ErrorCode::Unsupported;
  expect_refused("llama-gqa", unsupported, "model_type 'mamba'",
                 [](auto& file) { file.set("model_type", "mamba"); });
  expect_refused("llama-gqa", unsupported, "'hidden_act' = gelu",
                 [](auto& file) { file.set("hidden_act", "gelu"); });
  expect_refused("llama-gqa", unsupported, "'mlp_bias'",
                 [](auto& file) { file.set("mlp_bias", true); });
  expect_refused("llama-mqa-llama3", unsupported, "'rope_scaling.rope_type' = longrope",
                 [](auto& file) { file.set("rope_scaling.rope_type", "longrope"); });
  expect_refused("llama-gqa", unsupported, "'partial_rotary_factor' = 0.5",
                 [](auto& file) { file.set("partial_rotary_factor", 0.5); });
  expect_refused("qwen2", unsupported, "use_sliding_window", [](auto& file) {
    file.set("use_sliding_window", true);
    file.set("max_window_layers", 1);
  });
  expect_refused("qwen3", unsupported, "sliding_attention", [](auto& file) {
    file.set("layer_types", std::vector<std::string>{"full_attention", "sliding_attention"});
  });
  expect_refused("qwen2-yarn", unsupported, "truncate",
                 [](auto& file) { file.set("rope_scaling.truncate", false); });
  expect_refused("deepseek2", unsupported, "attention_bias",
                 [](auto& file) { file.set("attention_bias", true); });
  expect_refused("deepseek2", unsupported, "topk_method",
                 [](auto& file) { file.set("topk_method", "expert_choice"); });
  expect_refused("deepseek2", unsupported, "norm_topk_prob",
                 [](auto& file) { file.set("norm_topk_prob", true); });
  expect_refused("deepseek3", unsupported, "scoring_func",
                 [](auto& file) { file.set("scoring_func", "tanh"); });
  expect_refused("llama-gqa", unsupported, "gptq",
                 [](auto& file) { file.set("quantization_config.quant_method", "gptq"); });
}

TEST(ModelConfig, RefusesContradictionsAndHostileNumbers) {
  const auto corrupt = ErrorCode::Corrupt;
  expect_refused("llama-gqa", corrupt, "num_attention_heads 6 is not a multiple",
                 [](auto& file) { file.set("num_key_value_heads", 4); });
  expect_refused("llama-gqa", corrupt, "hidden_size 50",
                 [](auto& file) { file.set("hidden_size", 50); });
  expect_refused("llama-gqa", corrupt, "'num_hidden_layers' is -3",
                 [](auto& file) { file.set("num_hidden_layers", -3); });
  expect_refused("llama-gqa", corrupt, "'vocab_size' is 0",
                 [](auto& file) { file.set("vocab_size", 0); });
  expect_refused("llama-gqa", corrupt, "vocab_size is 2147483647",
                 [](auto& file) { file.set("vocab_size", 2147483647); });
  expect_refused("llama-gqa", corrupt, "hidden_size",
                 [](auto& file) { file.set("hidden_size", std::int64_t{1} << 62); });
  expect_refused("llama-gqa", corrupt, "rms_norm_eps",
                 [](auto& file) { file.set("rms_norm_eps", -1.0); });
  expect_refused("llama-gqa", corrupt, "rms_norm_eps",
                 [](auto& file) { file.set("rms_norm_eps", std::nan("")); });
  expect_refused("llama-gqa", corrupt, "hidden_size",
                 [](auto& file) { file.set("hidden_size", "large"); });
  expect_refused("qwen3", corrupt, "rotated in pairs",
                 [](auto& file) { file.set("head_dim", 19); });
  expect_refused("llama-mqa-llama3", corrupt, "high_freq_factor",
                 [](auto& file) { file.set("rope_scaling.high_freq_factor", 0.5); });
  expect_refused("deepseek2", corrupt, "n_routed_experts 12 is not a multiple of n_group 5",
                 [](auto& file) { file.set("n_group", 5); });
  expect_refused("deepseek2", corrupt, "topk_group 9",
                 [](auto& file) { file.set("topk_group", 9); });
  expect_refused("deepseek2", corrupt, "experts per token",
                 [](auto& file) { file.set("num_experts_per_tok", 7); });
  expect_refused("deepseek-moe", corrupt, "13 experts per token",
                 [](auto& file) { file.set("num_experts_per_tok", 13); });
  expect_refused("deepseek3", corrupt, "two best experts", [](auto& file) {
    file.set("n_group", 16);
    file.set("topk_group", 8);
  });
}

TEST(ModelConfig, SlidingWindowThatIsNotUsedIsNoObstacle) {
  EXPECT_NO_THROW(read_changed("qwen2"));  // has a window, but use_sliding_window is false
  EXPECT_NO_THROW(read_changed("qwen2", [](auto& file) {
    file.set("use_sliding_window", true);
    file.set("max_window_layers", 2);  // all layers see everything
  }));
}

TEST(Rope, YarnKeepsFastPairsAndStretchesSlowOnes) {
  RopeConfig rope;
  rope.dims = 64;
  rope.scaling = RopeScaling::Yarn;
  rope.factor = 40;
  rope.original_max_position_embeddings = 4096;
  const auto scaled = rope_frequencies(rope);
  rope.scaling = RopeScaling::None;
  const auto plain = rope_frequencies(rope);
  EXPECT_EQ(scaled.front(), plain.front());
  EXPECT_FLOAT_EQ(scaled.back(), plain.back() / 40);
  for (std::size_t i = 1; i < scaled.size(); ++i) EXPECT_LT(scaled[i], scaled[i - 1]);
}

TEST(Rope, MscaleIsOneWithoutStretching) {
  EXPECT_EQ(yarn_mscale(1, 0.7), 1);
  EXPECT_EQ(yarn_mscale(0.5, 0.7), 1);
  EXPECT_NEAR(yarn_mscale(40, 0.707), 0.0707 * std::log(40.0) + 1, 1e-12);
}

}  // namespace
}  // namespace fathom
