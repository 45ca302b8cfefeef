// The sampler against a slow twin that sorts the whole vocabulary, and against statistics.
#include "engine/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>

#include "base/error.h"
#include "engine/philox.h"

namespace fathom {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// Near the end of float's range, twin and sampler round differently; nobody would see such a draw.
constexpr double kNegligible = 1e-30;

std::vector<float> random_logits(std::size_t size, float spread, std::uint32_t seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> logits(size);
  for (float& logit : logits) logit = normal(engine);
  return logits;
}

/// Steps 4 to 7 as their papers state them, in double, by sorting everything.
std::map<std::int32_t, double> twin(std::vector<float> logits, const SamplingParams& params) {
  std::vector<std::int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](auto a, auto b) { return std::pair(-logits[a], a) < std::pair(-logits[b], b); });
  if (params.top_k > 0 && static_cast<std::size_t>(params.top_k) < order.size()) {
    order.resize(static_cast<std::size_t>(params.top_k));
  }
  std::vector<double> p;
  for (const std::int32_t id : order) {
    p.push_back(std::exp(static_cast<double>(logits[id] - logits[order[0]]) / params.temperature));
  }
  const double all = std::accumulate(p.begin(), p.end(), 0.0);
  std::size_t kept = params.top_p < 1 ? 0 : p.size();
  for (double before = 0; kept < p.size() && (kept == 0 || before < params.top_p * all); ++kept) {
    before += p[kept];
  }
  std::map<std::int32_t, double> result;
  double total = 0;
  for (std::size_t i = 0; i < kept; ++i) {
    if (p[i] < params.min_p) continue;
    result[order[i]] = p[i];
    total += p[i];
  }
  for (auto& [id, probability] : result) probability /= total;
  std::erase_if(result, [](const auto& each) { return each.second < kNegligible; });
  return result;
}

std::map<std::int32_t, double> distribution(const std::vector<float>& logits,
                                            const SamplingParams& params) {
  Sampler sampler(params, logits.size());
  std::map<std::int32_t, double> result;
  for (const auto& [id, p] : sampler.distribution(logits)) {
    if (p >= kNegligible) result[value(id)] = p;
  }
  return result;
}

TEST(Philox, GivesTheAuthorsKnownAnswers) {
  using Block = std::array<std::uint32_t, 4>;
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}),
            (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({~0U, ~0U, ~0U, ~0U}, {~0U, ~0U}),
            (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Sampler, KeepsTheSameTokensAsASlowTwinForEveryMixOfFilters) {
  int compared = 0;
  for (const std::size_t size : {1, 7, 500, 5000}) {
    for (const float spread : {0.0F, 0.5F, 3.0F, 12.0F}) {
      const auto logits = random_logits(size, spread, static_cast<std::uint32_t>(compared));
      for (const float temperature : {0.2F, 0.6F, 1.0F, 2.5F}) {
        for (const int top_k : {0, 1, 5, 40, 4999}) {
          for (const float top_p : {1.0F, 0.95F, 0.5F, 0.001F}) {
            for (const float min_p : {0.0F, 0.05F, 0.9F}) {
              SamplingParams params;
              params.temperature = temperature;
              params.top_k = top_k;
              params.top_p = top_p;
              params.min_p = min_p;
              const auto expected = twin(logits, params);
              const auto got = distribution(logits, params);
              // A token at the very edge of the nucleus may fall either way by rounding.
              ASSERT_NEAR(static_cast<double>(got.size()), static_cast<double>(expected.size()), 1)
                  << size << " " << spread << " " << temperature << " " << top_k << " " << top_p;
              for (const auto& [id, p] : got) {
                if (!expected.contains(id)) continue;
                ASSERT_NEAR(p, expected.at(id), 2e-4 * (1 + expected.at(id)));
              }
              ++compared;
            }
          }
        }
      }
    }
  }
  EXPECT_EQ(compared, 4 * 4 * 4 * 5 * 4 * 3);
}

TEST(Sampler, DrawsInProportionToTheDistribution) {
  const auto logits = random_logits(30, 1.0F, 8);
  SamplingParams params;
  params.temperature = 0.8F;
  params.top_p = 0.9F;
  params.seed = 12345;
  const auto expected = twin(logits, params);
  ASSERT_GT(expected.size(), 5U);
  ASSERT_LT(expected.size(), 30U);
  Sampler sampler(params, logits.size());
  constexpr int kDraws = 40000;
  std::map<std::int32_t, int> counts;
  for (int i = 0; i < kDraws; ++i) ++counts[value(sampler.sample(logits).id)];
  double chi_square = 0;
  for (const auto& [id, p] : expected) {
    const double mean = p * kDraws;
    chi_square += (counts[id] - mean) * (counts[id] - mean) / mean;
    counts.erase(id);
  }
  EXPECT_THAT(counts, testing::IsEmpty()) << "a token outside the nucleus was drawn";
  // Mean and deviation of chi-square are df and sqrt(2 df); the seed is fixed, so this is no
  // gamble.
  const double df = static_cast<double>(expected.size()) - 1;
  EXPECT_LT(chi_square, df + 4 * std::sqrt(2 * df));
}

TEST(Sampler, SuccessiveDrawsAreIndependent) {
  const std::vector<float> even(2, 0.0F);
  SamplingParams params;
  params.seed = 99;
  Sampler sampler(params, 2);
  std::map<std::pair<int, int>, int> pairs;
  int last = value(sampler.sample(even).id);
  for (int i = 0; i < 20000; ++i) {
    const int next = value(sampler.sample(even).id);
    ++pairs[{last, next}];
    last = next;
  }
  for (const auto& [pair, count] : pairs) EXPECT_NEAR(count, 5000, 250);
}

TEST(Sampler, SameSeedSameTokensAndAnotherSeedOthers) {
  const auto logits = random_logits(1000, 1, 3);
  const auto draw = [&](std::uint64_t seed) {
    SamplingParams params;
    params.seed = seed;
    Sampler sampler(params, logits.size());
    std::vector<int> ids;
    for (int i = 0; i < 50; ++i) ids.push_back(value(sampler.sample(logits).id));
    return ids;
  };
  EXPECT_EQ(draw(1), draw(1));
  EXPECT_NE(draw(1), draw(2));
  EXPECT_NE(draw(1), draw(1ULL << 32));
}

TEST(Sampler, GreedyTakesTheBestAndTheSmallestIdAmongEquals) {
  SamplingParams params;
  params.temperature = 0;
  Sampler sampler(params, 5);
  EXPECT_EQ(value(sampler.sample(std::vector<float>{0, 3, 1, 3, -2}).id), 1);
}

TEST(Sampler, EqualLogitsAreCutByTokenId) {
  const std::vector<float> logits(100, 1.0F);
  SamplingParams params;
  params.top_k = 3;
  EXPECT_THAT(distribution(logits, params),
              testing::ElementsAre(testing::Key(0), testing::Key(1), testing::Key(2)));
}

TEST(Sampler, RepetitionPenaltyMovesSeenTokensTowardsLess) {
  SamplingParams params;
  params.repetition_penalty = 2;
  Sampler sampler(params, 3);
  sampler.add_prompt(std::vector<TokenId>{TokenId{0}, TokenId{1}, TokenId{1}});
  // CTRL's formula: positive logits are divided, negative ones multiplied, once however often seen.
  const auto got = sampler.distribution(std::vector<float>{2, -1, 0});
  const double z = std::exp(1.0) + std::exp(-2.0) + 1;
  EXPECT_NEAR(got[0].probability, std::exp(1.0) / z, 1e-6);
  EXPECT_NEAR(got[1].probability, std::exp(-2.0) / z, 1e-6);
}

TEST(Sampler, FrequencyAndPresenceCountTheAnswerOnly) {
  SamplingParams params;
  params.temperature = 0;
  params.frequency_penalty = 1;
  params.presence_penalty = 0.5F;
  Sampler sampler(params, 2);
  sampler.add_prompt(std::vector<TokenId>{TokenId{0}});
  const std::vector<float> logits{3, 0};
  // 3, then 3-1.5, then 3-2.5, then 3-3.5: token 0 falls behind after three.
  std::vector<int> ids;
  for (int i = 0; i < 4; ++i) ids.push_back(value(sampler.sample(logits).id));
  EXPECT_THAT(ids, testing::ElementsAre(0, 0, 0, 1));
}

TEST(Sampler, BiasBansAndForcesTokens) {
  SamplingParams params;
  params.logit_bias = {{TokenId{2}, -kInfinity}};
  EXPECT_THAT(distribution({0, 0, 50}, params), testing::Not(testing::Contains(testing::Key(2))));
  params.logit_bias = {{TokenId{1}, 1000.0F}};
  EXPECT_THAT(distribution({0, 0, 50}, params), testing::ElementsAre(testing::Key(1)));
}

TEST(Sampler, LogprobsAreOfTheUnmodifiedDistribution) {
  SamplingParams params;
  params.temperature = 0.1F;
  params.top_k = 1;
  params.logprobs = 2;
  params.logit_bias = {{TokenId{3}, 100.0F}};
  const std::vector<float> logits{1, 3, 2, 0};
  const SampledToken token = Sampler(params, 4).sample(logits);
  const double log_total = std::log(std::exp(1.0) + std::exp(3.0) + std::exp(2.0) + 1);
  EXPECT_EQ(value(token.id), 3);
  EXPECT_NEAR(token.logprob, 0 - log_total, 1e-6);
  ASSERT_EQ(token.top.size(), 2U);
  EXPECT_EQ(value(token.top[0].id), 1);
  EXPECT_NEAR(token.top[0].logprob, 3 - log_total, 1e-6);
  EXPECT_EQ(value(token.top[1].id), 2);
}

TEST(Sampler, RefusesLogitsThatAreNoNumbers) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), kInfinity}) {
    for (const float temperature : {0.0F, 1.0F}) {
      SamplingParams params;
      params.temperature = temperature;
      Sampler sampler(params, 3);
      EXPECT_THROW(sampler.sample(std::vector<float>{0, bad, 1}), Error);
    }
  }
  Sampler sampler({}, 2);
  EXPECT_THROW(sampler.sample(std::vector<float>{-kInfinity, -kInfinity}), Error);
}

TEST(Sampler, RefusesSettingsOutOfRange) {
  const auto refused = [](auto change) {
    SamplingParams params;
    change(params);
    try {
      check_sampling(params, 10);
    } catch (const Error& error) {
      return error.code() == ErrorCode::InvalidArgument;
    }
    return false;
  };
  EXPECT_TRUE(refused([](auto& p) { p.temperature = -1; }));
  EXPECT_TRUE(refused([](auto& p) { p.temperature = std::nanf(""); }));
  EXPECT_TRUE(refused([](auto& p) { p.top_k = -1; }));
  EXPECT_TRUE(refused([](auto& p) { p.top_p = 1.5F; }));
  EXPECT_TRUE(refused([](auto& p) { p.min_p = -0.1F; }));
  EXPECT_TRUE(refused([](auto& p) { p.repetition_penalty = 0; }));
  EXPECT_TRUE(refused([](auto& p) { p.logprobs = 1000; }));
  EXPECT_TRUE(refused([](auto& p) { p.logit_bias = {{TokenId{10}, 0.0F}}; }));
  EXPECT_TRUE(refused([](auto& p) { p.logit_bias = {{TokenId{-1}, 0.0F}}; }));
  EXPECT_TRUE(refused([](auto& p) { p.logit_bias = {{TokenId{1}, kInfinity}}; }));
  EXPECT_FALSE(refused([](auto&) {}));
}

}  // namespace
}  // namespace fathom
