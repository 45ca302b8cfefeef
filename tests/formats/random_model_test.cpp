#include "formats/random_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "base/error.h"
#include "base/json_guard.h"
#include "formats/gguf_checkpoint.h"
#include "formats/test_files.h"
#include "formats/tiny_shape.h"
#include "tensor/quantise.h"

namespace fathom {
namespace {

using testing::kTiny;

TEST(RandomModel, CountsTheParametersOfThePublishedCheckpoints) {
  // Half the total_size of each model.safetensors.index.json (BF16); SmolLM2's model card.
  const std::map<std::string, std::uint64_t> published{
      {"smollm2-135m", 134'515'008},         {"r1-distill-qwen-1.5b", 1'777'088'000},
      {"r1-distill-qwen-7b", 7'615'616'512}, {"r1-distill-llama-8b", 8'030'261'248},
      {"deepseek-moe-16b", 16'375'728'128},  {"deepseek-v2-lite", 15'706'484'224}};
  for (const auto& [name, count] : published) {
    EXPECT_EQ(parameter_count(find_model_shape(name)), count) << name;
  }
}

TEST(RandomModel, MakesTheSameFileOfTheSameSeed) {
  const testing::ScratchFolder dir;
  RandomModelOptions options;
  options.type = "Q4_K_M";
  options.threads = 2;
  make_random_gguf(kTiny, dir.path() / "a.gguf", options);
  options.threads = 1;
  make_random_gguf(kTiny, dir.path() / "b.gguf", options);
  options.seed = 2;
  make_random_gguf(kTiny, dir.path() / "c.gguf", options);
  const auto read = [&](const char* name) { return read_text_file(dir.path() / name, 64u << 20); };
  EXPECT_EQ(read("a.gguf"), read("b.gguf"));
  EXPECT_NE(read("a.gguf"), read("c.gguf"));
}

TEST(RandomModel, HasNormalWeightsAndNoTwoRowsAlike) {
  const testing::ScratchFolder dir;
  RandomModelOptions options;
  options.type = "Q8_0";
  make_random_gguf(kTiny, dir.path() / "m.gguf", options);
  const GgufCheckpoint model(dir.path() / "m.gguf");
  const std::vector<float> down =
      to_f32(model.tensor("model.layers.1.mlp.experts.3.down_proj.weight"));
  const std::vector<float> same =
      to_f32(model.tensor("model.layers.1.mlp.experts.2.down_proj.weight"));
  double squares = 0;
  for (const float x : down) squares += double(x) * x;
  EXPECT_NEAR(std::sqrt(squares / double(down.size())), 0.02, 0.001);
  EXPECT_NE(down, same);
  const std::vector<float> first(down.begin(), down.begin() + 256);
  const std::vector<float> second(down.begin() + 256, down.begin() + 512);
  EXPECT_NE(first, second);
  EXPECT_THAT(to_f32(model.tensor("model.layers.0.input_layernorm.weight")), ::testing::Each(1.0F));
  EXPECT_THAT(to_f32(model.tensor("model.layers.1.mlp.gate.e_score_correction_bias")),
              ::testing::Each(0.0F));
}

TEST(RandomModel, SaysThatItIsMadeUp) {
  const testing::ScratchFolder dir;
  RandomModelOptions options;
  options.type = "Q8_0";
  options.layers = 1;
  make_random_gguf(kTiny, dir.path() / "m.gguf", options);
  const GgufCheckpoint model(dir.path() / "m.gguf");
  EXPECT_EQ(model.need_string("general.name"), "tiny (random weights)");
  EXPECT_EQ(model.need_int("deepseek2.block_count"), 1);
  EXPECT_EQ(model.need_int("deepseek2.vocab_size"), 300);
}

TEST(RandomModel, RefusesAShapeItDoesNotKnowByName) {
  EXPECT_THROW(
      {
        try {
          find_model_shape("gpt-5");
        } catch (const Error& error) {
          EXPECT_THAT(error.what(), ::testing::HasSubstr("deepseek-v2-lite"));
          throw;
        }
      },
      Error);
}

}  // namespace
}  // namespace fathom
