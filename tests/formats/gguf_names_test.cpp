#include <gtest/gtest.h>

#include "formats/gguf_names.h"

namespace fathom {
namespace {

struct Pair {
  const char* architecture;
  const char* gguf;
  const char* hf;
};

class GgufNamePairs : public ::testing::TestWithParam<Pair> {};

TEST_P(GgufNamePairs, MapBothWays) {
  const Pair& pair = GetParam();
  EXPECT_EQ(hf_tensor_name(pair.architecture, pair.gguf), pair.hf);
  EXPECT_EQ(gguf_tensor_name(pair.architecture, pair.hf), pair.gguf);
}

INSTANTIATE_TEST_SUITE_P(
    All, GgufNamePairs,
    ::testing::Values(
        Pair{"llama", "token_embd.weight", "model.embed_tokens.weight"},
        Pair{"llama", "output_norm.weight", "model.norm.weight"},
        Pair{"llama", "output.weight", "lm_head.weight"},
        Pair{"llama", "rope_freqs.weight", "rope_freqs.weight"},
        Pair{"llama", "blk.12.attn_norm.weight", "model.layers.12.input_layernorm.weight"},
        Pair{"qwen2", "blk.0.attn_k.bias", "model.layers.0.self_attn.k_proj.bias"},
        Pair{"qwen3", "blk.0.attn_q_norm.weight", "model.layers.0.self_attn.q_norm.weight"},
        Pair{"deepseek", "blk.0.attn_v.weight", "model.layers.0.self_attn.v_proj.weight"},
        Pair{"deepseek", "blk.3.ffn_down_exps.weight",
             "model.layers.3.mlp.experts.down_proj.weight"},
        Pair{"deepseek", "blk.3.ffn_gate.17.weight",
             "model.layers.3.mlp.experts.17.gate_proj.weight"},
        Pair{"deepseek2", "blk.9.attn_kv_a_mqa.weight",
             "model.layers.9.self_attn.kv_a_proj_with_mqa.weight"},
        Pair{"deepseek2", "blk.9.attn_q_a_norm.weight",
             "model.layers.9.self_attn.q_a_layernorm.weight"},
        Pair{"deepseek2", "blk.9.attn_kv_b.weight", "model.layers.9.self_attn.kv_b_proj.weight"},
        Pair{"deepseek2", "blk.9.attn_k_b.weight", "model.layers.9.self_attn.k_b_proj.weight"},
        Pair{"deepseek2", "blk.9.attn_v_b.weight", "model.layers.9.self_attn.v_b_proj.weight"},
        Pair{"deepseek2", "blk.9.exp_probs_b.bias",
             "model.layers.9.mlp.gate.e_score_correction_bias"},
        Pair{"deepseek2", "blk.9.ffn_up_shexp.weight",
             "model.layers.9.mlp.shared_experts.up_proj.weight"},
        Pair{"deepseek2", "blk.61.nextn.eh_proj.weight", "model.layers.61.eh_proj.weight"}));

TEST(GgufNames, LeaveWhatTheyDoNotKnow) {
  EXPECT_FALSE(hf_tensor_name("gemma", "token_embd.weight"));
  EXPECT_FALSE(hf_tensor_name("llama", "blk.0.attn_q_norm.weight"));  // qwen3's
  EXPECT_FALSE(hf_tensor_name("deepseek2", "blk.0.attn_k.weight"));   // grouped attention's
  EXPECT_FALSE(hf_tensor_name("llama", "blk..attn_q.weight"));
  EXPECT_FALSE(hf_tensor_name("llama", "blk.-1.attn_q.weight"));
  EXPECT_FALSE(hf_tensor_name("llama", "blk.01.attn_q.weight"));  // would be a second name for 1
  EXPECT_FALSE(hf_tensor_name("llama", "blk.99999999999.attn_q.weight"));
  EXPECT_FALSE(gguf_tensor_name("llama", "model.layers.0.mlp.experts.0.gate_proj.weight"));
  EXPECT_FALSE(gguf_tensor_name("deepseek2", "model.layers.0.mlp.experts..gate_proj.weight"));
}

TEST(GgufNames, FindTheStackOfAnExpert) {
  const auto expert = stack_of_expert("model.layers.3.mlp.experts.17.gate_proj.weight");
  ASSERT_TRUE(expert);
  EXPECT_EQ(expert->stack, "model.layers.3.mlp.experts.gate_proj.weight");
  EXPECT_EQ(expert->expert, 17u);
  EXPECT_FALSE(stack_of_expert("model.layers.3.mlp.experts.gate_proj.weight"));
  EXPECT_FALSE(stack_of_expert("model.layers.3.mlp.experts.17."));
  EXPECT_FALSE(stack_of_expert("model.norm.weight"));
}

TEST(GgufNames, TellTheLayer) {
  EXPECT_EQ(layer_of_tensor("blk.12.attn_q.weight"), 12u);
  EXPECT_EQ(layer_of_tensor("model.layers.3.mlp.gate.weight"), 3u);
  EXPECT_FALSE(layer_of_tensor("output.weight"));
}

}  // namespace
}  // namespace fathom
