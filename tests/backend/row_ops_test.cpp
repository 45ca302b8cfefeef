#include "backend/cpu/row_ops.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace fathom::cpu {
namespace {

using testing::ElementsAre;
using testing::UnorderedElementsAre;

struct Chosen {
  std::vector<std::int32_t> ids;
  std::vector<float> weights;
};

Chosen choose(const GateSpec& spec, std::vector<float> logits,
              const std::vector<float>& bias = {}) {
  Chosen chosen;
  chosen.ids.resize(spec.per_token);
  chosen.weights.resize(spec.per_token);
  choose_experts(spec, logits.data(), bias.empty() ? nullptr : bias.data(), chosen.ids.data(),
                 chosen.weights.data());
  return chosen;
}

float sigmoid(float x) { return 1 / (1 + std::exp(-x)); }

TEST(Router, WeighsByTheSoftmaxOverAllExperts) {
  GateSpec spec{.experts = 4, .per_token = 2};
  const Chosen chosen = choose(spec, {1, 3, 2, 0});
  const float sum = std::exp(1.0F) + std::exp(3.0F) + std::exp(2.0F) + 1;
  EXPECT_THAT(chosen.ids, ElementsAre(1, 2));
  EXPECT_FLOAT_EQ(chosen.weights[0], std::exp(3.0F) / sum);
  EXPECT_FLOAT_EQ(chosen.weights[1], std::exp(2.0F) / sum);
}

TEST(Router, NormalisesThenScales) {
  GateSpec spec{.experts = 4, .per_token = 2, .normalise = true, .scale = 2.5F};
  const Chosen chosen = choose(spec, {1, 3, 2, 0});
  EXPECT_NEAR(chosen.weights[0] + chosen.weights[1], 2.5F, 1e-6);
  EXPECT_NEAR(chosen.weights[0] / chosen.weights[1], std::exp(1.0F), 1e-5);
}

TEST(Router, PicksBestGroupsBeforeExperts) {
  // Expert 5 is the third best of all, but its group's best is below the other groups' best.
  GateSpec spec{.experts = 6, .per_token = 3, .groups = 3, .groups_used = 2};
  EXPECT_THAT(choose(spec, {9, 0, 8, 1, 7, 6.9F}).ids, UnorderedElementsAre(0, 2, 3));
}

TEST(Router, ScoresGroupsByTheirTwoBestWhereAsked) {
  // By its best, group 0 would win; by the two best, group 1.
  GateSpec spec{.experts = 4, .per_token = 1, .sigmoid = true, .groups = 2, .groups_used = 1};
  EXPECT_THAT(choose(spec, {2, -9, 1, 1}).ids, ElementsAre(0));
  spec.group_terms = 2;
  EXPECT_THAT(choose(spec, {2, -9, 1, 0.5F}).ids, ElementsAre(2));
}

TEST(Router, BiasChangesTheChoiceButNotTheWeights) {
  GateSpec spec{.experts = 4, .per_token = 2, .sigmoid = true};
  const Chosen chosen = choose(spec, {1, 0.5F, 0, -1}, {0, 0, 0, 5});
  EXPECT_THAT(chosen.ids, ElementsAre(3, 0));
  EXPECT_FLOAT_EQ(chosen.weights[0], sigmoid(-1));
  EXPECT_FLOAT_EQ(chosen.weights[1], sigmoid(1));
}

TEST(Router, NegativeBiasedScoresStillBeatOtherGroups) {
  // Within the chosen group all biased scores are negative: experts outside it must not come in.
  GateSpec spec{.experts = 4,
                .per_token = 2,
                .sigmoid = true,
                .groups = 2,
                .groups_used = 1,
                .group_terms = 2};
  EXPECT_THAT(choose(spec, {0, 0, 0, 0}, {-2, -2, -3, -3}).ids, ElementsAre(0, 1));
}

TEST(Router, TakesTheLowerIdOfEqualScores) {
  GateSpec spec{.experts = 5, .per_token = 3};
  EXPECT_THAT(choose(spec, {0, 1, 1, 1, 1}).ids, ElementsAre(1, 2, 3));
}

TEST(Router, StaysInRangeWithADamagedModel) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const bool sigmoid_gate : {false, true}) {
    GateSpec spec{.experts = 4,
                  .per_token = 3,
                  .sigmoid = sigmoid_gate,
                  .groups = 2,
                  .groups_used = 2,
                  .group_terms = 2};
    const Chosen chosen = choose(spec, {nan, nan, nan, nan});
    std::vector<std::int32_t> sorted = chosen.ids;
    std::sort(sorted.begin(), sorted.end());
    EXPECT_EQ(std::unique(sorted.begin(), sorted.end()), sorted.end()) << "one expert twice";
    for (std::int32_t id : chosen.ids) {
      EXPECT_GE(id, 0);
      EXPECT_LT(id, 4);
    }
  }
}

TEST(RmsNorm, DividesByTheRootMeanSquare) {
  std::vector<float> x;
  for (int i = 0; i < 37; ++i) x.push_back(static_cast<float>(i % 7) - 3);
  const std::vector<float> weight(37, 2.0F);
  double squares = 0;
  for (float v : x) squares += static_cast<double>(v) * static_cast<double>(v);
  std::vector<float> out(37);
  rms_norm_row(x.data(), weight.data(), 37, 0.5F, out.data());
  for (std::size_t i = 0; i < 37; ++i) {
    EXPECT_NEAR(out[i], 2 * x[i] / std::sqrt(squares / 37 + 0.5), 1e-6);
  }
  rms_norm_row(x.data(), weight.data(), 37, 0.5F, x.data());
  EXPECT_EQ(x, out) << "in place";
}

TEST(Rotation, TurnsNeighboursOrHalves) {
  const std::vector<float> frequencies{1.0F, 0.1F};
  float rotation[4];
  rotation_row(frequencies, 3, 2.0F, rotation);  // cos and sin times 2
  std::vector<float> neighbours{1, 0, 0, 1};
  rotate_row(rotation, 2, true, neighbours.data());
  EXPECT_FLOAT_EQ(neighbours[0], 2 * std::cos(3.0F));
  EXPECT_FLOAT_EQ(neighbours[1], 2 * std::sin(3.0F));
  EXPECT_FLOAT_EQ(neighbours[2], -2 * std::sin(0.3F));
  EXPECT_FLOAT_EQ(neighbours[3], 2 * std::cos(0.3F));
  std::vector<float> halves{1, 0, 0, 1};  // pairs (0, 2) and (1, 3)
  rotate_row(rotation, 2, false, halves.data());
  EXPECT_FLOAT_EQ(halves[0], 2 * std::cos(3.0F));
  EXPECT_FLOAT_EQ(halves[2], 2 * std::sin(3.0F));
  EXPECT_FLOAT_EQ(halves[1], -2 * std::sin(0.3F));
  EXPECT_FLOAT_EQ(halves[3], 2 * std::cos(0.3F));
}

}  // namespace
}  // namespace fathom::cpu
