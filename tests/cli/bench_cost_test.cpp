#include "cli/bench_cost.h"

#include <gtest/gtest.h>

#include <array>
#include <span>
#include <string>

#include "config/model_config.h"
#include "formats/checkpoint.h"

namespace fathom {
namespace {

/// Two layers, the second of experts; a byte and ten operations each way to tell them apart.
ModelWork small_model() {
  ModelWork work;
  work.body = {100, 1000};
  work.head = {10, 500};
  work.expert = {{0, 0}, {6, 60}};
  work.experts_per_token = 2;
  work.kv_bytes = 8;
  return work;
}

Batch tokens(std::size_t count, std::size_t wanted) {
  Batch batch;
  for (std::size_t i = 0; i < count; ++i) {
    batch.add(TokenId{1}, SequenceId{static_cast<std::int32_t>(i)}, Position{0}, i < wanted);
  }
  return batch;
}

TEST(BenchCost, ABatchReadsEachWeightOnceAndComputesForEachToken) {
  const ModelWork model = small_model();
  WorkCounter counter(model);
  counter.pass(tokens(3, 2), 5);
  EXPECT_EQ(counter.operations(), 3 * 100 + 2 * 10);
  EXPECT_EQ(counter.bytes(), 1000 + 500 + 5 * 8);
}

TEST(BenchCost, APassThatWantsNoLogitsDoesNotReadTheHead) {
  const ModelWork model = small_model();
  WorkCounter counter(model);
  counter.pass(tokens(4, 0), 0);
  EXPECT_EQ(counter.bytes(), 1000);
}

TEST(BenchCost, ExpertsThatSeveralTokensChooseAreReadOnce) {
  const ModelWork model = small_model();
  WorkCounter counter(model);
  const std::array<std::int32_t, 6> ids{7, 0, 0, 7, 3, 0};  // three tokens, three experts
  const std::array<float, 6> weights{};
  counter.routing(1, ids, weights);
  EXPECT_EQ(counter.operations(), 6 * 6);
  EXPECT_EQ(counter.bytes(), 3 * 60);
  counter.routing(1, std::span(ids).first(2), std::span(weights).first(2));
  EXPECT_EQ(counter.bytes(), 3 * 60 + 2 * 60) << "the next pass reads them again";
}

TEST(BenchCost, TheLongerOfReadingAndComputingBinds) {
  const ModelWork model = small_model();
  WorkCounter counter(model);
  counter.pass(tokens(10, 0), 0);
  cpu::MachineLimits limits;
  limits.read_bytes_per_s = 1000;
  limits.int8_op_per_s = 500;
  limits.f32_flop_per_s = 100;
  EXPECT_DOUBLE_EQ(least_time(counter, limits, ActivationPrecision::Fast).reading, 1);
  EXPECT_DOUBLE_EQ(least_time(counter, limits, ActivationPrecision::Fast).seconds(), 2);
  EXPECT_STREQ(least_time(counter, limits, ActivationPrecision::Fast).bound_by(), "arithmetic");
  EXPECT_DOUBLE_EQ(least_time(counter, limits, ActivationPrecision::Fine).seconds(), 4);
  EXPECT_DOUBLE_EQ(least_time(counter, limits, ActivationPrecision::F32).seconds(), 10);
  limits.int8_op_per_s = 5000;
  EXPECT_STREQ(least_time(counter, limits, ActivationPrecision::Fast).bound_by(), "reads");
}

TEST(BenchCost, AModelsMatricesAreSortedByWhoUsesThem) {
  // deepseek3: one dense layer, then routed ones; embeddings are looked up, the head is multiplied.
  const auto checkpoint = open_checkpoint(FATHOM_SOURCE_DIR "/tests/golden/models/deepseek3");
  const ModelConfig config = read_model_config(*checkpoint);
  const ModelWork work = model_work(*checkpoint, config, DType::BF16);
  const auto elements = [&](const char* name) {
    return static_cast<double>(checkpoint->tensor(name).shape.elements());
  };
  EXPECT_EQ(work.head.operations, 2 * elements("lm_head.weight"));
  ASSERT_EQ(work.expert.size(), static_cast<std::size_t>(config.num_hidden_layers));
  EXPECT_EQ(work.expert.front().bytes, 0);
  const std::string last =
      "model.layers." + std::to_string(config.num_hidden_layers - 1) + ".mlp.experts.0.";
  double expert = 0;
  for (const char* part : {"gate_proj.weight", "up_proj.weight", "down_proj.weight"}) {
    expert += 2 * elements((last + part).c_str());
  }
  EXPECT_DOUBLE_EQ(work.expert.back().operations, expert);
  // What a token meets is all but the embeddings and the experts it does not choose.
  double all = 0;
  for (const std::string& name : checkpoint->names()) all += 2 * elements(name.c_str());
  double skipped = 2 * elements("model.embed_tokens.weight");
  for (const MatrixWork& layer : work.expert) {
    skipped += layer.operations *
               static_cast<double>(config.moe.n_routed_experts - config.moe.num_experts_per_tok);
  }
  EXPECT_NEAR(work.token().operations, all - skipped, 1e-6 * all);
}

}  // namespace
}  // namespace fathom
