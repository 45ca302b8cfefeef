// The twin beside Hugging Face transformers (logits, gradients) and beside the engine.
#include <gtest/gtest.h>

#include <torch/torch.h>

#include <cstring>
#include <map>
#include <string>

#include "formats/memory_checkpoint.h"
#include "model/golden_models.h"
#include "train/torch/torch_model.h"

namespace fathom::train {
namespace {

using test::Golden;
using test::golden_folder;
using test::GoldenFile;

constexpr double kGradientTolerance = 1e-4;  // norm of the difference over the gradient's

Tensor tokens_of(const Golden& golden) {
  std::vector<std::int64_t> ids;
  for (const TokenId id : golden.tokens) ids.push_back(value(id));
  return torch::tensor(ids, torch::kLong).unsqueeze(0);
}

Tensor as_tensor(const TensorView& view) {
  std::vector<std::int64_t> shape;
  for (const std::uint64_t dim : view.shape.dims()) shape.push_back(static_cast<std::int64_t>(dim));
  Tensor tensor = torch::empty(shape, torch::kFloat);
  std::memcpy(tensor.data_ptr<float>(), view.data.data(), view.data.size());
  return tensor;
}

std::unique_ptr<Checkpoint> gradients_of(const std::string& name) {
  return open_checkpoint(std::filesystem::path(FATHOM_SOURCE_DIR) / "tests/golden/gradients" /
                         (name + ".safetensors"));
}

/// Mean cross-entropy of what comes `ahead` tokens later.
Tensor loss_of(const Tensor& logits, const Tensor& tokens, std::int64_t ahead) {
  const std::int64_t scored = tokens.size(1) - ahead;
  return torch::nn::functional::cross_entropy(logits[0].narrow(0, 0, scored),
                                              tokens[0].narrow(0, ahead, scored));
}

void expect_gradients(const TorchModel& model, const Checkpoint& expected,
                      const std::string& prefix) {
  std::size_t compared = 0;
  model.each_tensor(
      [](const TorchModel::Parameter& parameter) {
        const Tensor& gradient = parameter.value.grad();
        return gradient.defined() ? gradient : torch::zeros_like(parameter.value);
      },
      [&](const std::string& name, const Tensor& gradient) {
        if (name.ends_with("e_score_correction_bias")) return;
        const Tensor oracle = as_tensor(expected.tensor(prefix + name));
        const double norm = oracle.norm().item<double>();
        EXPECT_LE((gradient - oracle).norm().item<double>(), kGradientTolerance * norm + 1e-9)
            << name << ", whose gradient has norm " << norm;
        ++compared;
      });
  std::size_t stored = 0;
  for (const std::string& name : expected.names())
    stored += name.starts_with(prefix + "model.") || name.starts_with(prefix + "lm_head");
  EXPECT_EQ(compared, stored);
}

class Twin : public testing::TestWithParam<GoldenFile> {};

TEST_P(Twin, GivesTheOraclesLogits) {
  const torch::NoGradGuard no_gradient;
  const Golden golden = test::read_golden(GetParam().name);
  TorchModel model = TorchModel::load(*test::open_golden(GetParam()), {});
  const Tensor logits =
      model.logits(model.forward({tokens_of(golden), {}, {}}).states)[0].contiguous();
  const std::span<const float> values(logits.data_ptr<float>(),
                                      static_cast<std::size_t>(logits.numel()));
  EXPECT_LE(
      test::worst_error(values, golden.logits, static_cast<std::size_t>(model.config().vocab_size)),
      test::kOracleTolerance);
}

TEST_P(Twin, GivesTheEnginesLogits) {
  const torch::NoGradGuard no_gradient;
  const Golden golden = test::read_golden(GetParam().name);
  const auto engine = test::load_golden(GetParam());
  const auto theirs = test::feed_in_chunks(*engine, golden.tokens, {golden.tokens.size()});
  TorchModel model = TorchModel::load(*test::open_golden(GetParam()), {});
  const Tensor logits =
      model.logits(model.forward({tokens_of(golden), {}, {}}).states)[0].contiguous();
  const std::span<const float> ours(logits.data_ptr<float>(),
                                    static_cast<std::size_t>(logits.numel()));
  EXPECT_LE(test::worst_error(ours, theirs, static_cast<std::size_t>(model.config().vocab_size)),
            test::kOracleTolerance);
}

TEST_P(Twin, GivesTheOraclesGradients) {
  if (!GetParam().file.empty()) GTEST_SKIP() << "gradients have the names of the folder";
  const Golden golden = test::read_golden(GetParam().name);
  const auto expected = gradients_of(GetParam().name);
  TorchModel model = TorchModel::load(*test::open_golden(GetParam()), {});
  const Tensor tokens = tokens_of(golden);
  const Tensor loss = loss_of(model.logits(model.forward({tokens, {}, {}}).states), tokens, 1);
  EXPECT_NEAR(loss.item<double>(), as_tensor(expected->tensor("loss")).item<double>(), 1e-4);
  loss.backward();
  expect_gradients(model, *expected, "");
}

const GoldenFile kGoldens[] = {
    {"llama-gqa", ""},
    {"llama-gqa", "model.gguf"},
    {"llama-mqa-llama3", ""},
    {"llama-bias-linear", ""},
    {"qwen2", ""},
    {"qwen2-yarn", ""},
    {"qwen3", ""},
    {"deepseek-moe", ""},
    {"deepseek-moe", "model.gguf"},
    {"deepseek-moe-freq", ""},
    {"deepseek2-lite", ""},
    {"deepseek2", ""},
    {"deepseek3", ""},
    {"deepseek3", "kv_b.gguf"},
    {"deepseek3-plain", ""},
};
INSTANTIATE_TEST_SUITE_P(Goldens, Twin, testing::ValuesIn(kGoldens),
                         [](const auto& golden) { return golden.param.test_name(); });

TEST(TwinMtp, GivesTheOraclesLossAndGradients) {
  const Golden golden = test::read_golden("deepseek3");
  const auto expected = gradients_of("mtp");
  const auto main = test::open_golden({"deepseek3", ""});
  // The block's weights lie beside the gradients.
  MemoryCheckpoint whole("deepseek3 with mtp");
  for (const std::string& key : main->metadata_keys()) {
    const MetaValue& value = *main->metadata(key);
    if (const auto* text = std::get_if<std::string_view>(&value))
      whole.set(key, std::string(*text));
    if (const auto* number = std::get_if<std::int64_t>(&value)) whole.set(key, *number);
    if (const auto* real = std::get_if<double>(&value)) whole.set(key, *real);
    if (const auto* flag = std::get_if<bool>(&value)) whole.set(key, *flag);
  }
  for (const std::string& name : main->names()) whole.add_view(name, main->tensor(name));
  for (const std::string& name : expected->names()) {
    if (name.starts_with("weight.")) whole.add_view(name.substr(7), expected->tensor(name));
  }
  TwinOptions options;
  options.mtp_depth = 1;
  TorchModel model = TorchModel::load(whole, options);

  const Tensor tokens = tokens_of(golden);
  const std::int64_t length = tokens.size(1) - 1;
  const Hidden hidden = model.forward({tokens, {}, {}});
  Hidden shorter = hidden;
  shorter.states = hidden.states.narrow(1, 0, length);
  const Tensor seen = tokens.narrow(1, 0, length), next = tokens.narrow(1, 1, length);
  const Tensor further =
      loss_of(model.logits(model.predict_further(shorter, {seen, {}, {}}, next).states), next, 1);
  EXPECT_NEAR(further.item<double>(), as_tensor(expected->tensor("further")).item<double>(), 1e-4);
  const Tensor loss = loss_of(model.logits(hidden.states), tokens, 1) + 0.3 * further;
  EXPECT_NEAR(loss.item<double>(), as_tensor(expected->tensor("loss")).item<double>(), 1e-4);
  loss.backward();
  expect_gradients(model, *expected, "gradient.");
}

// --- documents, replay, balance ------------------------------------------------------------------

TorchModel small() { return TorchModel::load(*test::open_golden({"deepseek3", ""}), {}); }

TEST(TwinRows, DocumentsInARowDoNotSeeEachOther) {
  const torch::NoGradGuard no_gradient;
  TorchModel model = small();
  const Tensor tokens = tokens_of(test::read_golden("deepseek3"));
  const Tensor a = tokens.narrow(1, 0, 20), b = tokens.narrow(1, 60, 30);
  const Tensor packed = torch::cat({a, b}, 1);
  const Tensor positions = torch::cat({torch::arange(20), torch::arange(30)}).unsqueeze(0);
  const Tensor documents =
      torch::cat({torch::zeros(20, torch::kLong), torch::ones(30, torch::kLong)}).unsqueeze(0);
  const Tensor together = model.forward({packed, positions, documents}).states;
  const Tensor first = model.forward({a, {}, {}}).states;
  const Tensor second = model.forward({b, {}, {}}).states;
  EXPECT_LT((together.narrow(1, 0, 20) - first).abs().max().item<double>(), 1e-5);
  EXPECT_LT((together.narrow(1, 20, 30) - second).abs().max().item<double>(), 1e-5);
  // Reset positions alone are not enough: without the mask the second document sees the first.
  const Tensor leaking = model.forward({packed, positions, {}}).states;
  EXPECT_GT((leaking.narrow(1, 20, 30) - second).abs().max().item<double>(), 1e-2);
}

TEST(TwinRouter, AReplayedChoiceGivesTheSameStates) {
  TorchModel model = small();
  const Tensor tokens = tokens_of(test::read_golden("deepseek3"));
  const Hidden own = model.forward({tokens, {}, {}});
  std::vector<Tensor> ids;
  for (const RouterChoice& choice : own.routers) ids.push_back(choice.ids);
  EXPECT_TRUE(torch::equal(model.forward({tokens, {}, {}}, ids).states, own.states));
  // Other experts, other states; the weights come from the live scores, so gradients reach the
  // gate.
  for (Tensor& each : ids) each = (each + 1) % model.config().moe.n_routed_experts;
  const Hidden other = model.forward({tokens, {}, {}}, ids);
  EXPECT_FALSE(torch::allclose(other.states, own.states, 1e-3, 1e-3));
  other.states.sum().backward();
  EXPECT_GT(model.parameter("model.layers.1.mlp.gate.weight").grad().norm().item<double>(), 0);
}

TEST(TwinRouter, BalanceIsOneWhenAllExpertsGetTheSameAndMoreOtherwise) {
  MoeConfig moe;
  moe.n_routed_experts = 8;
  moe.num_experts_per_tok = 2;
  moe.score = GateScore::Sigmoid;
  moe.routing = Routing::NoAuxTc;
  const Tensor even = torch::eye(8).unsqueeze(0);  // token i likes expert i
  const Tensor gate = torch::eye(8) * 4 + torch::eye(8).roll(1, 1) * 3;
  const RouterChoice fair = route(even, gate, torch::zeros(8), moe);
  EXPECT_TRUE(torch::equal(fair.load, torch::full({8}, 2.0F)));
  EXPECT_NEAR(fair.balance.item<double>(), 1, 1e-5);
  const RouterChoice crowded = route(
      torch::ones({1, 8, 8}), torch::eye(8) * torch::arange(8).unsqueeze(1), torch::zeros(8), moe);
  EXPECT_EQ(crowded.load[7].item<double>(), 8);
  EXPECT_GT(crowded.balance.item<double>(), 1.1);
}

TEST(TwinRouter, TheBiasMovesAgainstTheLoad) {
  Tensor bias = torch::zeros(4);
  update_router_bias(bias, torch::tensor({1.0F, 3.0F, 2.0F, 2.0F}), 0.001);
  EXPECT_TRUE(torch::allclose(bias, torch::tensor({0.001F, -0.001F, 0.0F, 0.0F})));
}

}  // namespace
}  // namespace fathom::train
