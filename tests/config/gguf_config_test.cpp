// GGUF keys: a stand-in checkpoint that holds metadata only.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <functional>
#include <string>

#include "base/error.h"
#include "config/model_config.h"
#include "formats/memory_checkpoint.h"

namespace fathom {
namespace {

/// MemoryCheckpoint's keys, read as a GGUF file's.
class GgufKeys : public Checkpoint {
 public:
  MemoryCheckpoint keys{"model.gguf"};

  CheckpointSource source() const override { return CheckpointSource::Gguf; }
  const std::filesystem::path& path() const override { return keys.path(); }
  const MetaValue* metadata(std::string_view key) const override { return keys.metadata(key); }
  std::vector<std::string> metadata_keys() const override { return keys.metadata_keys(); }
  const std::vector<std::string>& names() const override { return keys.names(); }
  std::optional<TensorView> find(std::string_view name) const override { return keys.find(name); }
  std::uint64_t weight_bytes() const override { return 0; }
  void verify_unchanged() const override {}
};

/// A model with grouped-query attention, all but the size of its vocabulary.
void set_grouped(MemoryCheckpoint& file, const std::string& name) {
  file.set("general.architecture", name);
  file.set(name + ".embedding_length", 64);
  file.set(name + ".block_count", 2);
  file.set(name + ".feed_forward_length", 96);
  file.set(name + ".context_length", 256);
  file.set(name + ".attention.head_count", 4);
  file.set(name + ".attention.head_count_kv", 2);
  file.set(name + ".attention.layer_norm_rms_epsilon", 1e-5);
}

void set_llama(MemoryCheckpoint& file) {
  set_grouped(file, "llama");
  file.set("llama.vocab_size", 100);
}

/// DeepSeek-V3 as the older convention states it.
void set_deepseek3(MemoryCheckpoint& file) {
  file.set("general.architecture", "deepseek2");
  file.set("deepseek2.vocab_size", 129280);
  file.set("deepseek2.embedding_length", 7168);
  file.set("deepseek2.block_count", 61);
  file.set("deepseek2.feed_forward_length", 18432);
  file.set("deepseek2.context_length", 163840);
  file.set("deepseek2.attention.head_count", 128);
  file.set("deepseek2.attention.head_count_kv", 128);
  file.set("deepseek2.attention.layer_norm_rms_epsilon", 1e-6);
  file.set("deepseek2.attention.q_lora_rank", 1536);
  file.set("deepseek2.attention.kv_lora_rank", 512);
  file.set("deepseek2.attention.key_length", 192);
  file.set("deepseek2.attention.value_length", 128);
  file.set("deepseek2.rope.dimension_count", 64);
  file.set("deepseek2.rope.scaling.type", "yarn");
  file.set("deepseek2.rope.scaling.factor", 40.0);
  file.set("deepseek2.rope.scaling.original_context_length", 4096);
  file.set("deepseek2.rope.scaling.yarn_log_multiplier", 0.1);
  file.set("deepseek2.expert_count", 256);
  file.set("deepseek2.expert_used_count", 8);
  file.set("deepseek2.expert_shared_count", 1);
  file.set("deepseek2.expert_feed_forward_length", 2048);
  file.set("deepseek2.expert_weights_scale", 2.5);
  file.set("deepseek2.expert_weights_norm", true);
  file.set("deepseek2.expert_gating_func", 2);
  file.set("deepseek2.leading_dense_block_count", 3);
}

using Change = std::function<void(MemoryCheckpoint&)>;

ModelConfig read_keys(const Change& base, const Change& change = {}) {
  GgufKeys file;
  base(file.keys);
  if (change) change(file.keys);
  return read_model_config(file);
}

void expect_refused(const Change& base, ErrorCode code, const std::string& named,
                    const Change& change) {
  try {
    read_keys(base, change);
    ADD_FAILURE() << "accepted, expected an error about " << named;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_NE(std::string(error.what()).find(named), std::string::npos) << error.what();
  }
}

TEST(GgufConfig, ReadsBothConventionsOfLatentAttention) {
  const ModelConfig older = read_keys(set_deepseek3);
  const ModelConfig newer = read_keys(set_deepseek3, [](auto& file) {
    file.set("deepseek2.attention.head_count_kv", 1);
    file.set("deepseek2.attention.key_length", 576);
    file.set("deepseek2.attention.value_length", 512);
    file.set("deepseek2.attention.key_length_mla", 192);
    file.set("deepseek2.attention.value_length_mla", 128);
  });
  for (const ModelConfig& c : {older, newer}) {
    EXPECT_EQ(c.qk_nope_head_dim, 128);
    EXPECT_EQ(c.qk_rope_head_dim, 64);
    EXPECT_EQ(c.v_head_dim, 128);
    EXPECT_EQ(c.kv_width(), 576);
    EXPECT_EQ(c.architecture, Architecture::DeepSeekV3);
    EXPECT_EQ(c.moe.routing, Routing::NoAuxTc);
  }
}

TEST(GgufConfig, ReadsTheLogMultiplierAsATenthOfMscaleAllDim) {
  const ModelConfig c = read_keys(set_deepseek3);
  const double mscale = 0.1 * std::log(40.0) + 1;
  EXPECT_NEAR(c.attention_scale, mscale * mscale / std::sqrt(192.0), 1e-9);
  EXPECT_EQ(c.rope.attention_factor, 1);
  const ModelConfig lite = read_keys(set_deepseek3, [](auto& file) {
    file.set("deepseek2.rope.scaling.yarn_log_multiplier", 0.0707);
  });
  const double lite_mscale = 0.0707 * std::log(40.0) + 1;
  EXPECT_NEAR(lite.attention_scale, lite_mscale * lite_mscale / std::sqrt(192.0), 1e-9);
}

TEST(GgufConfig, LlamasPairsAreNeighboursAndQwensHalves) {
  EXPECT_EQ(read_keys(set_llama).rope.pairing, RopePairing::Interleaved);
  const ModelConfig qwen = read_keys([](auto& file) {
    set_grouped(file, "qwen2");
    file.set("qwen2.vocab_size", 100);
  });
  EXPECT_EQ(qwen.rope.pairing, RopePairing::Halves);
}

TEST(GgufConfig, CountsTheVocabularyWhereNoKeyStatesIt) {
  GgufKeys counted;
  set_grouped(counted.keys, "llama");
  EXPECT_THROW(read_model_config(counted), Error);
  counted.keys.set("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b", "c"});
  EXPECT_EQ(read_model_config(counted).vocab_size, 3);
}

TEST(GgufConfig, ReadsRopeScalingInItsOlderAndNewerForms) {
  const ModelConfig old =
      read_keys(set_llama, [](auto& file) { file.set("llama.rope.scale_linear", 4.0); });
  EXPECT_EQ(old.rope.scaling, RopeScaling::Linear);
  EXPECT_EQ(old.rope.factor, 4);
  const ModelConfig none = read_keys(set_llama, [](auto& file) {
    file.set("llama.rope.scaling.type", "none");
    file.set("llama.rope.scaling.factor", 8.0);
  });
  EXPECT_EQ(none.rope.scaling, RopeScaling::None);
  const ModelConfig divisors = read_keys(set_llama, [](auto& file) {
    file.add("rope_freqs.weight", Shape{8}, std::vector<float>{1, 1, 1, 1, 2, 4, 8, 8});
  });
  EXPECT_EQ(divisors.rope.frequency_divisors.size(), 8U);
}

TEST(GgufConfig, LeavesOutLayersForMultiTokenPrediction) {
  const ModelConfig c = read_keys(set_deepseek3, [](auto& file) {
    file.set("deepseek2.block_count", 62);
    file.set("deepseek2.nextn_predict_layers", 1);
  });
  EXPECT_EQ(c.num_hidden_layers, 61);
}

TEST(GgufConfig, RefusesWhatIsNotImplementedByName) {
  const auto unsupported = ErrorCode::Unsupported;
  expect_refused(set_llama, unsupported, "architecture 'mamba'",
                 [](auto& file) { file.set("general.architecture", "mamba"); });
  expect_refused(set_llama, unsupported, "llama.expert_count",
                 [](auto& file) { file.set("llama.expert_count", 8); });
  expect_refused(set_llama, unsupported, "llama.attention.sliding_window",
                 [](auto& file) { file.set("llama.attention.sliding_window", 128); });
  expect_refused(set_llama, unsupported, "llama.logit_scale",
                 [](auto& file) { file.set("llama.logit_scale", 0.5); });
  expect_refused(set_llama, unsupported, "llama.rope.dimension_count",
                 [](auto& file) { file.set("llama.rope.dimension_count", 8); });
  expect_refused(set_llama, unsupported, "longrope",
                 [](auto& file) { file.set("llama.rope.scaling.type", "longrope"); });
  expect_refused(set_llama, unsupported, "llama.attention.head_count_kv",
                 [](auto& file) { file.set("llama.attention.head_count_kv", MetaInts{2, 1}); });
  expect_refused(set_deepseek3, unsupported, "expert_gating_func",
                 [](auto& file) { file.set("deepseek2.expert_gating_func", 4); });
}

TEST(GgufConfig, RefusesContradictions) {
  const auto corrupt = ErrorCode::Corrupt;
  expect_refused(set_llama, corrupt, "not a multiple",
                 [](auto& file) { file.set("llama.attention.head_count_kv", 3); });
  expect_refused(set_llama, corrupt, "rope_freqs.weight", [](auto& file) {
    file.add("rope_freqs.weight", Shape{3}, std::vector<float>{1, 1, 1});
  });
  expect_refused(set_llama, corrupt, "rope_freqs.weight holds 0", [](auto& file) {
    file.add("rope_freqs.weight", Shape{8}, std::vector<float>(8, 0.0F));
  });
  expect_refused(set_deepseek3, corrupt, "none is left",
                 [](auto& file) { file.set("deepseek2.rope.dimension_count", 192); });
  expect_refused(set_deepseek3, corrupt, "61 of 61 blocks",
                 [](auto& file) { file.set("deepseek2.nextn_predict_layers", 61); });
}

}  // namespace
}  // namespace fathom
