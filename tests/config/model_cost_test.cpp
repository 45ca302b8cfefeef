// Counts from an architecture alone, beside published figures and beside real lists of tensors.
#include <gtest/gtest.h>

#include "config/model_cost.h"
#include "formats/memory_checkpoint.h"
#include "formats/model_shapes.h"
#include "formats/random_model.h"

namespace fathom {
namespace {

ModelConfig config_of(const ModelShape& shape) {
  MemoryCheckpoint stated{std::string(shape.name)};
  stated.set_config(shape.config);
  return read_model_config(stated);
}

TEST(ModelCost, DeepSeekV3HasItsPublishedSize) {
  const ModelConfig v3 = config_of(find_model_shape("deepseek-v3"));
  const ParameterCount count = count_parameters(v3);
  EXPECT_EQ(count.total(), 671'026'419'200);
  EXPECT_EQ(count.active(), 37'552'297'472);
  // The repository's 685B have its block of multi-token prediction, with an embedding and a head.
  const std::int64_t mtp = count_mtp_block(v3).total();
  EXPECT_NEAR(static_cast<double>(count.total() + mtp + count.embedding + count.head), 684.5e9,
              0.1e9);
}

/// The list of tensors that the converter makes is another way to count.
TEST(ModelCost, EveryShapeHasTheElementsOfItsTensors) {
  for (const ModelShape& shape : model_shapes()) {
    const ParameterCount count = count_parameters(config_of(shape));
    EXPECT_EQ(static_cast<std::uint64_t>(count.total()), parameter_count(shape)) << shape.name;
    EXPECT_LE(count.active(), count.total()) << shape.name;
  }
}

TEST(ModelCost, ForwardWorkOfDeepSeekV3IsThatOfItsReportedThroughput) {
  // arXiv 2505.09343, table 4: 272.80B tokens a day on 2048 GPUs at 385 (causal) and 432
  // (non-causal) TFLOP/s, sequences of 4096.
  const ModelConfig v3 = config_of(find_model_shape("deepseek-v3"));
  const double tokens_per_s = 272.80e9 / 86400 / 2048;
  EXPECT_NEAR(3 * forward_work(v3, 2048).total() * tokens_per_s, 385e12, 385e12 * 0.005);
  EXPECT_NEAR(3 * forward_work(v3, 4096).total() * tokens_per_s, 432e12, 432e12 * 0.005);
}

TEST(ModelCost, ADecodingStepWorksOnTheLatentCache) {
  const ModelConfig v3 = config_of(find_model_shape("deepseek-v3"));
  EXPECT_DOUBLE_EQ(decode_work(v3, 1000).attention, 2.0 * 61 * 128 * (512 + 64 + 512) * 1000);
  EXPECT_DOUBLE_EQ(decode_work(v3, 1000).matrices, forward_work(v3, 1000).matrices);
  const ModelConfig dense = config_of(find_model_shape("r1-distill-qwen-1.5b"));
  EXPECT_DOUBLE_EQ(decode_work(dense, 7).total(), forward_work(dense, 7).total());
}

TEST(ModelCost, ATiedHeadIsMultipliedWithAndCountedOnce) {
  const ModelConfig small = config_of(find_model_shape("smollm2-135m"));
  const ParameterCount count = count_parameters(small);
  EXPECT_EQ(count.head, 0);
  EXPECT_EQ(count.total(), 134'515'008);
  EXPECT_EQ(count.multiplied(), count.total() - count.norms);
}

TEST(ModelCost, AFewTokensTouchFewExpertsAndManyTouchAll) {
  MoeConfig moe;
  moe.n_routed_experts = 256;
  moe.num_experts_per_tok = 8;
  EXPECT_DOUBLE_EQ(touched_share(moe, 0), 0);
  EXPECT_DOUBLE_EQ(touched_share(moe, 1), 8.0 / 256);
  EXPECT_LT(touched_share(moe, 2), 16.0 / 256);
  EXPECT_GT(touched_share(moe, 1000), 0.999);
  EXPECT_DOUBLE_EQ(touched_share(MoeConfig{}, 3), 1);
}

}  // namespace
}  // namespace fathom
