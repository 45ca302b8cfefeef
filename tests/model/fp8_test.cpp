// DeepSeek-V3's native FP8: weights in E4M3 with a scale for every 128x128 block.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <sstream>

#include "formats/memory_checkpoint.h"
#include "model/golden_models.h"
#include "tensor/quantise.h"

namespace fathom {
namespace {

using namespace test;  // NOLINT

bool is_projection(const std::string& name) {
  return name.find("_proj") != std::string::npos && name.ends_with(".weight");
}

/// A golden model with every projection in FP8, and the same dequantised to F32.
struct Fp8Twins {
  std::unique_ptr<Checkpoint> original;
  std::shared_ptr<MemoryCheckpoint> fp8 = std::make_shared<MemoryCheckpoint>("fp8");
  std::shared_ptr<MemoryCheckpoint> plain = std::make_shared<MemoryCheckpoint>("plain");
};

void add_quantised(Fp8Twins& twins, const std::string& name, const TensorView& weight) {
  // These matrices are smaller than a block, so that one scale serves each; where larger ones have
  // several is dequantise_fp8_blocks' own test.
  const std::vector<float> values = to_f32(weight);
  float largest = 0;
  for (float v : values) largest = std::max(largest, std::abs(v));
  const float scale = largest / 448;
  std::vector<float> scaled(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) scaled[i] = values[i] / scale;
  const auto blocks = [](std::uint64_t n) { return (n + 127) / 128; };
  const Shape scale_shape{blocks(weight.shape[0]), blocks(weight.shape[1])};
  quantise(DType::F8_E4M3, scaled, twins.fp8->add(name, DType::F8_E4M3, weight.shape));
  twins.fp8->add(name + "_scale_inv", scale_shape,
                 std::vector<float>(scale_shape.elements(), scale));

  const auto rows = weight.shape[0];
  std::vector<float> back(values.size());
  dequantise_fp8_blocks(*twins.fp8->find(name), *twins.fp8->find(name + "_scale_inv"), 0, rows,
                        back);
  twins.plain->add(name, weight.shape, back);
}

Fp8Twins make_twins(const std::string& name) {
  Fp8Twins twins{open_golden({name, ""})};
  std::ifstream file(golden_folder(name) / "config.json");
  std::ostringstream config;
  config << file.rdbuf();
  twins.fp8->set_config(config.str());
  twins.fp8->set("quantization_config.quant_method", "fp8");
  twins.plain->set_config(config.str());
  for (const std::string& tensor : twins.original->names()) {
    const TensorView view = *twins.original->find(tensor);
    if (is_projection(tensor)) {
      add_quantised(twins, tensor, view);
    } else {
      twins.fp8->add_view(tensor, view);
      twins.plain->add_view(tensor, view);
    }
  }
  return twins;
}

std::vector<float> logits_of(const std::shared_ptr<MemoryCheckpoint>& checkpoint,
                             ActivationPrecision precision, const Golden& golden) {
  ModelOptions options;
  options.precision = precision;
  options.threads = 2;
  return feed_in_chunks(*Model::load(checkpoint, options), golden.tokens, {golden.tokens.size()});
}

TEST(Fp8, GivesTheLogitsOfItsDequantisedWeights) {
  const Golden golden = read_golden("deepseek3");
  const Fp8Twins twins = make_twins("deepseek3");
  const auto expected = logits_of(twins.plain, ActivationPrecision::F32, golden);
  EXPECT_EQ(logits_of(twins.fp8, ActivationPrecision::F32, golden), expected)
      << "the exact path dequantises to F32";
  EXPECT_GT(worst_error(expected, golden.logits, 91), 1e-3) << "nothing was rounded to FP8";
}

TEST(Fp8, TheFastPathStaysClose) {
  // Weights become BF16 (8 bits of mantissa for E4M3's 4 times a scale): some 1e-3 of a logit,
  // more where an expert changes, hence the mean.
  const Golden golden = read_golden("deepseek3");
  const Fp8Twins twins = make_twins("deepseek3");
  const auto exact = logits_of(twins.plain, ActivationPrecision::F32, golden);
  const auto fast = logits_of(twins.fp8, ActivationPrecision::Fast, golden);
  double sum = 0;
  for (std::size_t i = 0; i < exact.size(); i += 91) {
    sum += relative_error(std::span(fast).subspan(i, 91), std::span(exact).subspan(i, 91));
  }
  EXPECT_LT(sum / static_cast<double>(golden.tokens.size()), 0.03);
}

}  // namespace
}  // namespace fathom
