// The policy's loss by its formulas, on numbers worked out by hand or by plain loops.
#include <gtest/gtest.h>

#include <torch/torch.h>

#include <cmath>

#include "train/torch/policy_loss.h"

namespace fathom::train {
namespace {

/// Two answers, of three tokens and of one.
struct Two {
  Tensor logprobs =
      torch::tensor({{-1.0F, -2.0F, -0.5F}, {-0.7F, 0.0F, 0.0F}}).set_requires_grad(true);
  Tensor old = torch::tensor({{-1.3F, -1.5F, -0.5F}, {-0.2F, 0.0F, 0.0F}});
  Tensor mask = torch::tensor({{1.0F, 1.0F, 1.0F}, {1.0F, 0.0F, 0.0F}});
  Tensor advantages = torch::tensor({1.5F, -0.5F});
  PolicyBatch batch() const { return {logprobs, old, old - 0.1, old + 0.2, mask, advantages}; }
  BatchTotals totals{2, 4, 10};
};

double at(const Tensor& t, int r, int c) { return t[r][c].item<double>(); }

/// min(ratio A, clip(ratio) A), negative, of each token.
double token_loss(double ratio, double advantage, double low, double high) {
  const double clipped = std::clamp(ratio, 1 - low, 1 + high);
  return -std::min(ratio * advantage, clipped * advantage);
}

TEST(Advantages, AreTheGroupsDeviations) {
  const auto a = advantages_of({1, 0, 0, 1}, true);
  EXPECT_EQ(a, (std::vector<double>{1, -1, -1, 1}));
  EXPECT_EQ(advantages_of({1, 0, 0, 1}, false), (std::vector<double>{0.5, -0.5, -0.5, 0.5}));
  EXPECT_EQ(advantages_of({0.7, 0.7, 0.7}, true), (std::vector<double>{0, 0, 0}));
}

TEST(PolicyLoss, IsGrposByEachMean) {
  const Two two;
  double first = 0;
  for (int t = 0; t < 3; ++t) {
    first += token_loss(std::exp(at(two.logprobs, 0, t) - at(two.old, 0, t)), 1.5, 0.2, 0.2);
  }
  const double second = token_loss(std::exp(-0.5), -0.5, 0.2, 0.2);
  PolicyOptions options;
  EXPECT_NEAR(policy_loss(two.batch(), options, two.totals).loss.item<double>(),
              (first / 3 + second) / 2, 1e-6);
  options.mean = LossMean::Token;
  EXPECT_NEAR(policy_loss(two.batch(), options, two.totals).loss.item<double>(),
              (first + second) / 4, 1e-6);
  options.mean = LossMean::Constant;
  EXPECT_NEAR(policy_loss(two.batch(), options, two.totals).loss.item<double>(),
              (first + second) / 20, 1e-6);
}

TEST(PolicyLoss, CountsWhatTheClipTakesTheGradientFrom) {
  const Two two;
  const PolicyLoss loss = policy_loss(two.batch(), {}, two.totals);
  // exp(0.3) = 1.35 with a positive advantage; exp(-0.5) = 0.61 with a negative one. exp(-0.5) with
  // a positive advantage is not clipped.
  EXPECT_EQ(loss.clipped_high, 1);
  EXPECT_EQ(loss.clipped_low, 1);
  loss.loss.backward();
  const Tensor gradient = two.logprobs.grad();
  EXPECT_EQ(at(gradient, 0, 0), 0);
  EXPECT_LT(at(gradient, 0, 1), 0);
  EXPECT_LT(at(gradient, 0, 2), 0);
  EXPECT_EQ(at(gradient, 1, 0), 0);
  EXPECT_EQ(at(gradient, 1, 1), 0);  // padding
}

TEST(PolicyLoss, OnPolicyItsGradientIsThePolicyGradients) {
  Two two;
  PolicyBatch batch = two.batch();
  batch.old = Tensor();
  const PolicyLoss loss = policy_loss(batch, {}, two.totals);
  EXPECT_NEAR(loss.loss.item<double>(), -(1.5 - 0.5) / 2, 1e-6);
  EXPECT_EQ(loss.clipped_low + loss.clipped_high, 0);
  loss.loss.backward();
  for (int t = 0; t < 3; ++t) EXPECT_NEAR(at(two.logprobs.grad(), 0, t), -1.5 / 3 / 2, 1e-6);
  EXPECT_NEAR(at(two.logprobs.grad(), 1, 0), 0.5 / 2, 1e-6);
}

TEST(PolicyLoss, GspoHasOneRatioForAnAnswer) {
  const Two two;
  PolicyOptions options;
  options.sequence_ratio = true;
  const double ratio = std::exp((0.3 - 0.5 + 0.0) / 3);
  const double expected =
      (token_loss(ratio, 1.5, 0.2, 0.2) + token_loss(std::exp(-0.5), -0.5, 0.2, 0.2)) / 2;
  const PolicyLoss loss = policy_loss(two.batch(), options, two.totals);
  EXPECT_NEAR(loss.loss.item<double>(), expected, 1e-6);
  loss.loss.backward();
  EXPECT_NEAR(at(two.logprobs.grad(), 0, 0), at(two.logprobs.grad(), 0, 2), 1e-7);
}

TEST(PolicyLoss, CispoKeepsTheGradientOfWhatItClips) {
  const Two two;
  PolicyOptions options;
  options.keep_gradient = true;
  options.clip_low = 1;
  options.clip_high = 0.28;
  const PolicyLoss loss = policy_loss(two.batch(), options, two.totals);
  loss.loss.backward();
  EXPECT_NEAR(at(two.logprobs.grad(), 0, 0), -1.28 * 1.5 / 3 / 2, 1e-6);
  EXPECT_NEAR(at(two.logprobs.grad(), 1, 0), std::exp(-0.5) * 0.5 / 2, 1e-6);
}

TEST(PolicyLoss, TruncatedWeightsAreCapped) {
  const Two two;
  PolicyOptions plain, weighted;
  weighted.truncated_weight = 2;
  const double without = policy_loss(two.batch(), plain, two.totals).loss.item<double>();
  EXPECT_NEAR(policy_loss(two.batch(), weighted, two.totals).loss.item<double>(),
              without * std::exp(0.1), 1e-5);
  weighted.truncated_weight = 1.05;
  EXPECT_NEAR(policy_loss(two.batch(), weighted, two.totals).loss.item<double>(), without * 1.05,
              1e-5);
}

TEST(PolicyLoss, TheDivergenceIsSchulmansAndNeverInfinite) {
  Two two;
  PolicyOptions options;
  options.kl = 0.5;
  double kl = 0;
  for (int r = 0; r < 2; ++r) {
    for (int t = 0; t < 3; ++t) {
      const double log_ratio = at(two.old, r, t) + 0.2 - at(two.logprobs, r, t);
      kl += at(two.mask, r, t) * (std::exp(log_ratio) - log_ratio - 1);
    }
  }
  EXPECT_NEAR(policy_loss(two.batch(), options, two.totals).kl, kl, 1e-5);
  PolicyBatch far = two.batch();
  far.reference = far.logprobs.detach() + 1000;
  far.logprobs = far.logprobs - 500;
  const PolicyLoss loss = policy_loss(far, options, two.totals);
  EXPECT_TRUE(std::isfinite(loss.loss.item<double>()));
  loss.loss.backward();
  EXPECT_TRUE(torch::isfinite(two.logprobs.grad()).all().item<bool>());
}

TEST(PolicyLoss, PartsOfABatchAddUp) {
  const Two two;
  PolicyOptions options;
  options.kl = 0.1;
  for (const LossMean mean : {LossMean::Sequence, LossMean::Token, LossMean::Constant}) {
    options.mean = mean;
    const PolicyBatch all = two.batch();
    double parts = 0;
    for (int r = 0; r < 2; ++r) {
      const auto row = [&](const Tensor& t) { return t.narrow(0, r, 1); };
      parts += policy_loss({row(all.logprobs), row(all.old), row(all.rollout), row(all.reference),
                            row(all.mask), row(all.advantages)},
                           options, two.totals)
                   .loss.item<double>();
    }
    EXPECT_NEAR(policy_loss(all, options, two.totals).loss.item<double>(), parts, 1e-6);
  }
}

}  // namespace
}  // namespace fathom::train
