// FP8 numerics: rounding by the type's own table, and products beside plain ones.
#include <gtest/gtest.h>

#include <torch/torch.h>

#include "tensor/half.h"
#include "train/torch/fp8.h"
#include "train/torch/tiny_twin.h"
#include "train/torch/trainer.h"

namespace fathom::train {
namespace {

/// The nearest value of E4M3 by looking at all of them; ties to the even code.
float nearest(float x) {
  float best = 0, distance = INFINITY;
  int best_code = 0;
  for (int code = 0; code < 256; ++code) {
    const float value = e4m3_to_f32(static_cast<std::uint8_t>(code));
    if (std::isnan(value)) continue;
    const float d = std::abs(value - x);
    if (d < distance || (d == distance && code % 2 == 0 && best_code % 2 == 1)) {
      best = value;
      distance = d;
      best_code = code;
    }
  }
  return best;
}

TEST(Fp8, ATileIsRoundedByItsLargest) {
  torch::manual_seed(1);
  const Tensor x = torch::randn({3, 300}) * torch::tensor({1e-3F, 1.0F, 1e4F}).unsqueeze(1);
  const Tensor rounded = round_tiles(x);
  for (int r = 0; r < 3; ++r) {
    for (int tile = 0; tile < 3; ++tile) {
      const int first = tile * 128, size = std::min(128, 300 - first);
      const Tensor part = x[r].narrow(0, first, size);
      const float scale = part.abs().max().item<float>() / 448;
      for (int i = 0; i < size; ++i) {
        EXPECT_EQ(rounded[r][first + i].item<float>(),
                  nearest(part[i].item<float>() / scale) * scale);
      }
    }
  }
  EXPECT_TRUE(torch::equal(round_tiles(torch::zeros({2, 5})), torch::zeros({2, 5})));
}

TEST(Fp8, ABlockHasOneScale) {
  torch::manual_seed(2);
  Tensor weight = torch::randn({2, 200, 150});
  weight[1][130][140] = 1e6F;
  const Tensor rounded = round_blocks(weight);
  ASSERT_EQ(rounded.sizes(), weight.sizes());
  EXPECT_FLOAT_EQ(rounded[1][130][140].item<float>(), 1e6F);
  // Beside so large a value all else of its block is lost in the steps of its scale; no other is.
  const auto error = [&](int plane, int row, int column) {
    return (rounded - weight)[plane]
        .narrow(0, row, 70)
        .narrow(1, column, 20)
        .abs()
        .max()
        .item<double>();
  };
  EXPECT_GT(error(1, 128, 128), 2 * error(0, 128, 128));
  EXPECT_LT(error(1, 0, 0), 0.2);
  // As many tiles along a row: one row of 128 is a block of its own.
  EXPECT_TRUE(torch::equal(round_blocks(weight[0].narrow(0, 0, 1)),
                           round_tiles(weight[0].narrow(0, 0, 1))));
}

TEST(Fp8, ProductsAndGradientsAreNearPlainOnes) {
  torch::manual_seed(3);
  const Tensor x = torch::randn({2, 70, 192}), weight = torch::randn({160, 192}) * 0.05;
  const auto run = [&](bool fp8) {
    const Tensor a = x.clone().set_requires_grad(true), w = weight.clone().set_requires_grad(true);
    const Tensor y = fp8 ? project_fp8(a, w) : torch::linear(a, w);
    (y * y).sum().backward();
    return std::vector<Tensor>{y.detach(), a.grad(), w.grad()};
  };
  const auto plain = run(false), rounded = run(true);
  for (std::size_t i = 0; i < plain.size(); ++i) {
    const double error = ((rounded[i] - plain[i]).norm() / plain[i].norm()).item<double>();
    EXPECT_GT(error, 1e-3) << i;
    EXPECT_LT(error, 0.06) << i;  // E4M3 has three bits
  }
  // Rounded operands, exact products.
  EXPECT_TRUE(torch::allclose(rounded[0], torch::matmul(round_tiles(x), round_blocks(weight).t()),
                              1e-5, 1e-6));
}

TEST(Fp8, AModelLearnsAsWithBrainFloats) {
  const auto learn = [](bool fp8) {
    TwinOptions twin;
    twin.fp8 = fp8;
    TorchModel model = TorchModel::random(tiny_config(), twin, 0.05, 1);
    Optimizer optimizer(model, {});
    Trainer trainer(model, optimizer, {});
    torch::manual_seed(4);
    MicroBatch batch;
    batch.rows.tokens = torch::randint(4, 260, {4, 24}, torch::kLong);
    batch.targets = batch.rows.tokens.roll(-1, 1);
    double loss = 0;
    for (int i = 0; i < 40; ++i) loss = trainer.step({&batch, 1}, 5e-3).loss;
    return loss;
  };
  const double plain = learn(false), rounded = learn(true);
  EXPECT_NE(plain, rounded);
  EXPECT_LT(rounded, 4);
  EXPECT_NEAR(plain, rounded, 0.15 * plain + 0.1);
}

}  // namespace
}  // namespace fathom::train
