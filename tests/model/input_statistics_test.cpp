// What a model's weights are multiplied by, as importance matrices are made of it.
#include <gtest/gtest.h>

#include <numeric>

#include "model/golden_models.h"
#include "tensor/quantise.h"

namespace fathom {
namespace {

using namespace test;  // NOLINT

/// Feeds a golden text in chunks to a model that keeps statistics.
InputStatistics statistics_of(const GoldenFile& golden, const std::vector<std::size_t>& chunks,
                              unsigned threads = 2) {
  InputStatistics inputs;
  ModelOptions options;
  options.precision = ActivationPrecision::F32;
  options.threads = threads;
  options.inputs = &inputs;
  const auto model = Model::load(open_golden(golden), options);
  feed_in_chunks(*model, read_golden(golden.name).tokens, chunks);
  return inputs;
}

TEST(InputStatistics, FirstLayersProjectionsMeetTheNormedEmbeddings) {
  const GoldenFile golden{"llama-gqa", ""};
  const InputStatistics inputs = statistics_of(golden, {100});
  const auto checkpoint = open_golden(golden);
  const TensorView table = checkpoint->tensor("model.embed_tokens.weight");
  const auto norm = to_f32(checkpoint->tensor("model.layers.0.input_layernorm.weight"));
  const double epsilon = checkpoint->need_float("rms_norm_eps");
  std::vector<double> expected(norm.size());
  const std::vector<TokenId> tokens = read_golden(golden.name).tokens;
  for (const TokenId token : tokens) {
    std::vector<float> x(norm.size());
    dequantise(table.dtype, table.row(static_cast<std::uint64_t>(value(token))), x);
    double mean = 0;
    for (const float v : x) mean += double{v} * v / static_cast<double>(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double y = x[i] / std::sqrt(mean + epsilon) * norm[i];
      expected[i] += y * y;
    }
  }
  for (const char* part : {"q_proj", "k_proj", "v_proj"}) {
    const auto& sums = inputs.at(std::string("model.layers.0.self_attn.") + part + ".weight");
    ASSERT_EQ(sums.size(), 1U);
    EXPECT_EQ(sums[0].rows, tokens.size());
    ASSERT_EQ(sums[0].squares.size(), expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_NEAR(sums[0].squares[i], expected[i], 1e-5 * expected[i] + 1e-12) << part << i;
    }
  }
}

TEST(InputStatistics, EveryTokenReachesAsManyExpertsAsTheGateChooses) {
  const GoldenFile golden{"deepseek-moe", ""};
  const InputStatistics inputs = statistics_of(golden, {100});
  const Golden expected = read_golden(golden.name);
  for (const auto& [layer, routing] : expected.routing) {
    std::vector<std::uint64_t> chosen(9);
    for (const auto& ids : routing.ids) {
      for (const std::int32_t id : ids) ++chosen[static_cast<std::size_t>(id)];
    }
    for (const char* part : {"gate_proj", "up_proj", "down_proj"}) {
      const auto& experts =
          inputs.at("model.layers." + std::to_string(layer) + ".mlp.experts." + part + ".weight");
      ASSERT_EQ(experts.size(), chosen.size());
      for (std::size_t e = 0; e < chosen.size(); ++e) EXPECT_EQ(experts[e].rows, chosen[e]) << e;
      const double total =
          std::accumulate(experts[0].squares.begin(), experts[0].squares.end(), 0.0);
      EXPECT_EQ(total > 0, chosen[0] > 0);
    }
  }
}

TEST(InputStatistics, AreTheSameForAnyThreadsAndBatches) {
  for (const GoldenFile& golden :
       {GoldenFile{"deepseek2-lite", "kv_b.gguf"}, GoldenFile{"deepseek2-lite", "split.gguf"}}) {
    const InputStatistics once = statistics_of(golden, {100}, 1);
    const InputStatistics parts = statistics_of(golden, {3, 1, 7}, 3);
    ASSERT_EQ(once.size(), parts.size());
    for (const auto& [name, sums] : once) {
      const auto& others = parts.at(name);
      ASSERT_EQ(sums.size(), others.size());
      for (std::size_t part = 0; part < sums.size(); ++part) {
        EXPECT_EQ(sums[part].rows, others[part].rows) << name;
        for (std::size_t i = 0; i < sums[part].squares.size(); ++i) {
          ASSERT_NEAR(sums[part].squares[i], others[part].squares[i],
                      1e-4 * sums[part].squares[i] + 1e-9)
              << name << " " << i;
        }
      }
    }
  }
}

TEST(InputStatistics, LatentVectorsAreCountedOnceATokenAbsorbedOrNot) {
  const std::size_t tokens = read_golden("deepseek2-lite").tokens.size();
  const InputStatistics whole = statistics_of({"deepseek2-lite", "kv_b.gguf"}, {100});
  const auto& latent = whole.at("model.layers.0.self_attn.kv_b_proj.weight");
  ASSERT_EQ(latent.size(), 1U);
  EXPECT_EQ(latent[0].rows, tokens);
  const InputStatistics split = statistics_of({"deepseek2-lite", "split.gguf"}, {100});
  for (const char* part : {"k_b_proj", "v_b_proj"}) {
    for (const InputSums& head :
         split.at(std::string("model.layers.0.self_attn.") + part + ".weight")) {
      EXPECT_EQ(head.rows, tokens);
    }
  }
}

}  // namespace
}  // namespace fathom
