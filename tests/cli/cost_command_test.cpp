// `fathom cost`: the published account is reproduced, and plans follow the machine's limits.
#include <gmock/gmock.h>

#include <fstream>

#include "cli/run_program.h"
#include "formats/model_shapes.h"

namespace fathom {
namespace {

using namespace test;  // NOLINT
using ::testing::HasSubstr;

TEST(CostCommand, ReproducesDeepSeekV3sAccountFromItsMfu) {
  const Output told =
      run({"cost", "deepseek-v3", "--tokens", "14.8T", "--mfu", "0.3894", "--json"});
  ASSERT_EQ(told.exit_code, 0) << told.err;
  const auto json = told.json();
  EXPECT_EQ(json.at("parameters").at("total"), 671'026'419'200);
  EXPECT_NEAR(json.at("training").at("gpu_hours").get<double>(), 2.664e6, 2.664e6 * 0.005);
  EXPECT_NEAR(json.at("training").at("dollars").get<double>(), 5.328e6, 5.328e6 * 0.005);
  const auto& published = json.at("published");
  EXPECT_EQ(published.at("gpu_hours").at("reported"), 2.788e6);
  EXPECT_NEAR(published.at("gpu_hours").at("computed").get<double>(), 2.788e6, 2.788e6 * 0.005);
  EXPECT_EQ(published.at("dollars").at("reported"), 5.576e6);
  double r1 = 0;
  for (const auto& part : published.at("reported_runs")) {
    if (part.at("model") == "DeepSeek-R1") r1 += part.at("dollars").get<double>();
  }
  EXPECT_EQ(r1, 294e3);
}

TEST(CostCommand, TellsAPersonTheSame) {
  const Output told = run({"cost", "deepseek-v3", "--tokens", "14.8T", "--gpus", "2048"});
  ASSERT_EQ(told.exit_code, 0) << told.err;
  EXPECT_THAT(told.out, HasSubstr("671.03B, of which 37.55B work on a token"));
  EXPECT_THAT(told.out, HasSubstr("days on 2048"));
  EXPECT_THAT(told.out, HasSubstr("$5.576M"));
  EXPECT_THAT(told.out, HasSubstr("147K hours, $294.0K"));
}

TEST(CostCommand, AConfigFileIsEnough) {
  const TemporaryFolder folder;
  std::ofstream(folder / "config.json") << find_model_shape("deepseek-v2-lite").config;
  const Output told = run({"cost", folder / "config.json", "--json"});
  ASSERT_EQ(told.exit_code, 0) << told.err;
  EXPECT_EQ(told.json().at("parameters").at("total"), 15'706'484'224);
  EXPECT_FALSE(told.json().contains("training"));
}

TEST(CostCommand, DecodingIsBoundByReadsUntilTheBatchIsLarge) {
  const auto plan = [](const char* batch) {
    return run({"cost", "r1-distill-qwen-7b", "--gpu", "h100", "--batch", batch, "--context", "1",
                "--json"})
        .json()
        .at("inference");
  };
  EXPECT_EQ(plan("1").at("bound_by"), "reads");
  EXPECT_EQ(plan("4096").at("bound_by"), "arithmetic");
  // One sequence: the weights, all but the embedding, are read once a token.
  const double weights = 7'615'616'512.0 - 152064.0 * 3584;
  EXPECT_NEAR(plan("1").at("decode_tokens_per_s").get<double>(), 3.35e12 / weights, 1);
}

TEST(CostCommand, ThisMachineIsMeasured) {
  const Output told = run({"cost", "smollm2-135m", "--gpu", "this", "--batch", "1", "--json"});
  ASSERT_EQ(told.exit_code, 0) << told.err;
  EXPECT_GT(told.json().at("gpu").at("bytes_per_s").get<double>(), 1e8);
  EXPECT_EQ(told.json().at("inference").at("gpus"), 1);
}

TEST(CostCommand, WhatIsNotUnderstoodIsSaid) {
  EXPECT_THAT(run({"cost", "deepseek-v3", "--tokens", "many"}).err, HasSubstr("14.8T, 300B"));
  EXPECT_THAT(run({"cost", "deepseek-v3", "--gpu", "h900"}).err, HasSubstr("known are h800"));
  EXPECT_EQ(run({"cost", "no-such-model"}).exit_code, 1);
  EXPECT_EQ(run({"cost", "deepseek-v3", "--mfu", "2"}).exit_code, 2);
}

}  // namespace
}  // namespace fathom
