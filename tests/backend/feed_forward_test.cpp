// Feed-forward networks and mixtures of experts, against exact arithmetic and one another.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <memory>
#include <vector>

#include "backend/cpu/matmul.h"
#include "backend/cpu/matmul_table.h"
#include "backend/levels.h"
#include "backend/random_weights.h"

namespace fathom::cpu {
namespace {

using testing::levels;
using testing::random_floats;
using testing::RandomMatrix;

struct RandomFfn {
  RandomFfn(DType dtype, std::size_t hidden, std::size_t intermediate, unsigned seed)
      : RandomFfn({dtype, dtype, dtype}, hidden, intermediate, seed) {}
  RandomFfn(std::array<DType, 3> dtypes, std::size_t hidden, std::size_t intermediate,
            unsigned seed)
      : gate(dtypes[0], intermediate, hidden, seed),
        up(dtypes[1], intermediate, hidden, seed + 1),
        down(dtypes[2], hidden, intermediate, seed + 2) {}
  FeedForward pack(Precision precision, CpuLevel level, ThreadPool& pool) const {
    return {PackedMatrix::pack(gate.view, precision, level, pool),
            PackedMatrix::pack(up.view, precision, level, pool),
            PackedMatrix::pack(down.view, precision, level, pool)};
  }
  RandomMatrix gate, up, down;
};

std::vector<double> exact_product(const TensorView& weight, const std::vector<double>& x) {
  const std::vector<float> w = to_f32(weight);
  std::vector<double> y(weight.shape[0], 0.0);
  for (std::size_t r = 0; r < y.size(); ++r) {
    for (std::size_t i = 0; i < x.size(); ++i) y[r] += x[i] * w[r * x.size() + i];
  }
  return y;
}

TEST(FeedForward, IsSwiGlu) {
  ThreadPool pool(2);
  for (CpuLevel level : levels()) {
    for (DType dtype : {DType::F32, DType::Q8_0}) {
      const std::size_t hidden = 64;
      const std::size_t intermediate = 160;
      const RandomFfn ffn(dtype, hidden, intermediate, 30);
      const FeedForward packed = ffn.pack(Precision::F32, level, pool);
      const std::vector<float> x = random_floats(3 * hidden, 33, 0.3F);
      std::vector<float> y(3 * hidden, 1.0F);
      feed_forward(pool, packed, x.data(), 3, y.data(), true);
      for (std::size_t t = 0; t < 3; ++t) {
        const std::vector<double> xt(x.begin() + t * hidden, x.begin() + (t + 1) * hidden);
        std::vector<double> gate = exact_product(ffn.gate.view, xt);
        const std::vector<double> up = exact_product(ffn.up.view, xt);
        for (std::size_t i = 0; i < intermediate; ++i) {
          gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
        }
        const std::vector<double> expected = exact_product(ffn.down.view, gate);
        double size = 0;
        for (double e : expected) size = std::max(size, std::abs(e));
        for (std::size_t i = 0; i < hidden; ++i) {
          EXPECT_NEAR(y[t * hidden + i] - 1, expected[i], 2e-6 * size);
        }
      }
    }
  }
}

TEST(FeedForward, LevelsThreadsAndTokensAgreeBitForBit) {
  ThreadPool one(1);
  ThreadPool three(3);
  const std::size_t hidden = 256;
  const std::size_t tokens = 29;
  for (Precision precision : {Precision::F32, Precision::Int8, Precision::Int8Pair}) {
    const RandomFfn ffn(DType::Q4_K, hidden, 768, 40);
    const std::vector<float> x = random_floats(tokens * hidden, 43);
    std::vector<float> expected(tokens * hidden);
    const FeedForward scalar = ffn.pack(precision, CpuLevel::Scalar, one);
    feed_forward(one, scalar, x.data(), tokens, expected.data(), false);
    for (CpuLevel level : levels()) {
      const FeedForward packed = ffn.pack(precision, level, one);
      std::vector<float> y(tokens * hidden);
      feed_forward(three, packed, x.data(), tokens, y.data(), false);
      ASSERT_EQ(y, expected) << to_string(level);
      for (std::size_t t = 0; t < tokens; ++t) {
        feed_forward(three, packed, x.data() + t * hidden, 1, y.data() + t * hidden, false);
      }
      ASSERT_EQ(y, expected) << to_string(level) << " one by one";
    }
  }
}

TEST(FeedForward, MixesTypesAndOddSizes) {
  // Gate, up and down may each be packed or read as stored; only a packed `down` needs whole
  // blocks.
  struct Case {
    std::array<DType, 3> dtypes;
    std::size_t intermediate;
  };
  const Case cases[] = {{{DType::Q4_0, DType::F16, DType::Q8_0}, 96},
                        {{DType::BF16, DType::Q5_1, DType::Q4_0}, 160},
                        {{DType::Q4_0, DType::Q4_0, DType::F16}, 77},
                        {{DType::F32, DType::F16, DType::BF16}, 35},
                        {{DType::F16, DType::F16, DType::Q6_K}, 512}};
  ThreadPool one(1);
  ThreadPool three(3);
  const std::size_t hidden = 64;
  const std::size_t tokens = 50;
  for (const auto& [dtypes, intermediate] : cases) {
    const RandomFfn ffn(dtypes, hidden, intermediate, 60);
    const std::vector<float> x = random_floats(tokens * hidden, 63, 0.3F);
    for (Precision precision : {Precision::F32, Precision::Int8, Precision::Int8Pair}) {
      for (CpuLevel level : levels()) {
        const FeedForward packed = ffn.pack(precision, level, one);
        std::vector<float> y(tokens * hidden);
        feed_forward(three, packed, x.data(), tokens, y.data(), false);
        std::vector<float> single(hidden);
        for (std::size_t t = 0; t < tokens; ++t) {
          // The products one by one, as a network is not computed: gate, up, SwiGLU, down.
          std::vector<float> gate(intermediate);
          std::vector<float> up(intermediate);
          const Product first[] = {{&packed.gate, gate.data(), intermediate},
                                   {&packed.up, up.data(), intermediate}};
          matmul(one, x.data() + t * hidden, hidden, 1, first);
          matmul_table(level).silu_mul(gate.data(), up.data(), intermediate);
          const Product second{&packed.down, single.data(), hidden};
          matmul(one, gate.data(), intermediate, 1, {&second, 1});
          ASSERT_EQ(std::vector<float>(y.begin() + t * hidden, y.begin() + (t + 1) * hidden),
                    single)
              << to_string(level) << " " << to_string(dtypes[0]) << " token " << t;
        }
      }
    }
  }
}

TEST(MixtureOfExperts, IsTheWeightedSumOfItsExperts) {
  ThreadPool one(1);
  ThreadPool three(3);
  const std::size_t hidden = 64;
  const std::size_t experts = 9;
  const std::size_t per_token = 3;
  for (CpuLevel level : levels()) {
    for (Precision precision : {Precision::F32, Precision::Int8, Precision::Int8Pair}) {
      for (DType dtype : {DType::F16, DType::Q4_0}) {
        std::vector<std::unique_ptr<RandomFfn>> stored;
        std::vector<FeedForward> packed;
        for (unsigned e = 0; e < experts; ++e) {
          stored.push_back(std::make_unique<RandomFfn>(dtype, hidden, 96, 50 + 3 * e));
          packed.push_back(stored.back()->pack(precision, level, one));
        }
        // Wider than an expert, and of another type.
        const RandomFfn wide(DType::Q8_0, hidden, 224, 80);
        const FeedForward shared = wide.pack(precision, level, one);
        for (std::size_t tokens : {1UL, 2UL, 40UL}) {
          const std::vector<float> x = random_floats(tokens * hidden, 90, 0.3F);
          std::vector<std::int32_t> ids(tokens * per_token);
          for (std::size_t t = 0; t < tokens; ++t) {
            // Expert 8 is never used, expert 0 by every second token.
            for (std::size_t k = 0; k < per_token; ++k) {
              ids[t * per_token + k] = static_cast<std::int32_t>((t % 2 * 5 + k * (1 + t % 3)) % 8);
            }
          }
          const std::vector<float> weights = random_floats(tokens * per_token, 91);
          const std::vector<float> before = random_floats(tokens * hidden, 92);
          const Chosen chosen{ids.data(), weights.data(), per_token};
          std::vector<float> y = before;
          mixture_of_experts(three, packed, nullptr, x.data(), tokens, chosen, y.data());
          std::vector<float> y_shared = before;
          mixture_of_experts(three, packed, &shared, x.data(), tokens, chosen, y_shared.data());
          std::vector<float> expected = before;
          for (std::size_t t = 0; t < tokens; ++t) {
            for (std::size_t k = 0; k < per_token; ++k) {
              std::vector<float> out(hidden);
              const auto e = static_cast<std::size_t>(ids[t * per_token + k]);
              feed_forward(one, packed[e], x.data() + t * hidden, 1, out.data(), false);
              for (std::size_t i = 0; i < hidden; ++i) {
                const float term = weights[t * per_token + k] * out[i];
                expected[t * hidden + i] += term;
              }
            }
          }
          ASSERT_EQ(y, expected) << to_string(level) << " " << to_string(dtype) << " " << tokens;
          feed_forward(one, shared, x.data(), tokens, expected.data(), true);
          ASSERT_EQ(y_shared, expected) << to_string(level) << " with shared experts, " << tokens;
        }
      }
    }
  }
}

}  // namespace
}  // namespace fathom::cpu
