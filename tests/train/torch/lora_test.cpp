// Adapters, activations made again, and teachers.
#include "train/torch/lora.h"

#include <gmock/gmock.h>

#include <torch/torch.h>

#include <fstream>

#include "base/error.h"
#include "formats/test_files.h"
#include "tokenizer/tokenizer_json_writer.h"
#include "train/torch/model_folder.h"
#include "train/torch/tiny_twin.h"
#include "train/torch/trainer.h"

namespace fathom::train {
namespace {

namespace fs = std::filesystem;

Tensor some_tokens(int seed) {
  torch::manual_seed(seed);
  return torch::randint(4, 260, {3, 20}, torch::kLong);
}
MicroBatch batch_of(const Tensor& tokens) {
  MicroBatch batch;
  batch.rows.tokens = tokens.narrow(1, 0, tokens.size(1) - 1).contiguous();
  batch.targets = tokens.narrow(1, 1, tokens.size(1) - 1).contiguous();
  return batch;
}
Tensor logits_of(TorchModel& model, const Tensor& tokens) {
  const at::NoGradGuard no_gradient;
  return model.logits(model.forward({tokens, {}, {}}).states);
}
ModelTexts texts() { return {kTinyConfig, write_tokenizer_json(tiny_vocabulary()), ""}; }

LoraOptions rank_4() {
  LoraOptions lora;
  lora.rank = 4;
  lora.alpha = 8;
  return lora;
}

TEST(Lora, ChangesNothingAtFirstAndTrainsItselfAlone) {
  TorchModel model = TorchModel::random(tiny_config(), {}, 0.05, 1);
  const Tensor tokens = some_tokens(1), before = logits_of(model, tokens);
  const std::size_t weights = model.parameters().size();
  model.add_adapters(rank_4(), 7);
  EXPECT_TRUE(logits_of(model, tokens).equal(before));
  EXPECT_THAT(model.adapted(),
              ::testing::UnorderedElementsAre("q_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj",
                                              "gate_proj", "up_proj", "down_proj"));

  std::vector<Tensor> kept;
  for (std::size_t i = 0; i < weights; ++i) kept.push_back(model.parameters()[i].value.clone());
  Optimizer optimizer(model, {});
  // The routers' biases, which move without a gradient, stay too.
  Trainer trainer(model, optimizer, TrainerOptions{});
  const std::vector<MicroBatch> batch{batch_of(tokens)};
  const double first = trainer.step(batch, 1e-2).loss;
  double last = first;
  for (int i = 0; i < 20; ++i) last = trainer.step(batch, 1e-2).loss;
  EXPECT_LT(last, first - 0.1);
  for (std::size_t i = 0; i < weights; ++i) {
    EXPECT_TRUE(model.parameters()[i].value.equal(kept[i])) << model.parameters()[i].name;
  }
}

TEST(Lora, AddedToItsWeightsItSaysTheSame) {
  TorchModel model = TorchModel::random(tiny_config(), {}, 0.05, 1);
  model.add_adapters(rank_4(), 7);
  {
    const at::NoGradGuard no_gradient;
    for (auto& parameter : model.parameters()) {
      if (parameter.name.ends_with("lora_B.weight")) parameter.value.normal_(0, 0.05);
    }
  }
  const Tensor tokens = some_tokens(2), own = logits_of(model, tokens);
  testing::ScratchFolder folder;
  const fs::path merged = folder.path() / "merged", adapter = folder.path() / "adapter";
  fs::create_directories(merged);
  write_model_folder(merged, model, texts());
  TorchModel plain = TorchModel::load(*open_checkpoint(merged), {});
  EXPECT_LT((logits_of(plain, tokens) - own).abs().max().item<double>(),
            2e-5 * own.abs().max().item<double>());
  TorchModel copy = model.frozen_copy();
  EXPECT_TRUE(logits_of(copy, tokens).equal(logits_of(plain, tokens)));

  // As PEFT has them, and back bit for bit.
  write_adapters(adapter, model);
  std::ifstream file(adapter / "adapter_config.json");
  const auto config = nlohmann::json::parse(file);
  EXPECT_EQ(config["peft_type"], "LORA");
  EXPECT_EQ(config["r"], 4);
  EXPECT_EQ(config["lora_alpha"], 8.0);
  const auto stored = open_checkpoint(adapter / "adapter_model.safetensors");
  const TensorView a =
      stored->tensor("base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight");
  EXPECT_EQ(a.shape.to_string(), "[4, 32]");
  TorchModel other = TorchModel::random(tiny_config(), {}, 0.05, 1);
  other.add_adapters(rank_4(), 8);
  read_adapters(adapter, other);
  EXPECT_TRUE(logits_of(other, tokens).equal(own));
}

TEST(Lora, TargetsAreChosenByName) {
  LoraOptions lora = rank_4();
  lora.targets = {"q_proj", "o_proj"};
  TorchModel model = TorchModel::random(tiny_config(), {}, 0.05, 1);
  model.add_adapters(lora, 7);
  EXPECT_THAT(model.adapted(), ::testing::UnorderedElementsAre("q_proj", "o_proj"));
  lora.targets = {"k_proj"};  // multi-head latent attention has none
  TorchModel none = TorchModel::random(tiny_config(), {}, 0.05, 1);
  EXPECT_THROW(none.add_adapters(lora, 7), Error);
}

/// Gradients of a step's loss, the routers' balance included.
std::vector<Tensor> gradients_of(TorchModel& model, const Tensor& tokens) {
  const MicroBatch batch = batch_of(tokens);
  const Hidden hidden = model.forward(batch.rows);
  Tensor loss =
      at::cross_entropy_loss(model.logits(hidden.states).flatten(0, 1), batch.targets.flatten());
  for (const RouterChoice& choice : hidden.routers) loss = loss + 0.1 * choice.balance;
  loss.backward();
  std::vector<Tensor> all;
  for (const auto& parameter : model.parameters()) {
    if (parameter.trained) all.push_back(parameter.value.grad());
  }
  return all;
}

TEST(Recompute, GivesTheSameGradients) {
  const Tensor tokens = some_tokens(3);
  for (const bool adapters : {false, true}) {
    TwinOptions again;
    again.recompute = true;
    TorchModel one = TorchModel::random(tiny_config(), {}, 0.05, 1);
    TorchModel two = TorchModel::random(tiny_config(), again, 0.05, 1);
    for (TorchModel* model : {&one, &two}) {
      if (adapters) model->add_adapters(rank_4(), 7);
    }
    const auto a = gradients_of(one, tokens), b = gradients_of(two, tokens);
    ASSERT_EQ(a.size(), b.size());
    for (std::size_t i = 0; i < a.size(); ++i) {
      ASSERT_EQ(a[i].defined(), b[i].defined()) << i;
      if (!a[i].defined()) continue;
      EXPECT_TRUE(a[i].equal(b[i])) << i << (adapters ? ", adapters" : "");
    }
  }
}

TEST(Teacher, IsApproachedByItsDistributionsAlone) {
  const auto teacher =
      std::make_shared<TorchModel>(TorchModel::random(tiny_config(), {}, 0.3, 5).frozen_copy());
  TorchModel student = TorchModel::random(tiny_config(), {}, 0.05, 1);
  Optimizer optimizer(student, {});
  TrainerOptions options;
  options.teacher = Teacher{teacher, 260, 1.0, 2.0};
  Trainer trainer(student, optimizer, options);
  const std::vector<MicroBatch> batch{batch_of(some_tokens(4))};
  const double first = trainer.step(batch, 1e-2).divergence;
  double last = first;
  for (int i = 0; i < 30; ++i) last = trainer.step(batch, 1e-2).divergence;
  EXPECT_GT(first, 0);
  EXPECT_LT(last, first / 2);
}

TEST(Teacher, DivergesFromItselfByNothing) {
  TorchModel student = TorchModel::random(tiny_config(), {}, 0.3, 5);
  Optimizer optimizer(student, {});
  TrainerOptions options;
  options.balance_alpha = 0;
  options.bias_speed = 0;
  options.teacher = Teacher{std::make_shared<TorchModel>(student.frozen_copy()), 260, 1.0, 1.0};
  Trainer trainer(student, optimizer, options);
  const std::vector<MicroBatch> batch{batch_of(some_tokens(4))};
  const StepReport report = trainer.step(batch, 0);
  EXPECT_NEAR(report.divergence, 0, 1e-6);
  EXPECT_LT(report.gradient_norm, 1e-4);
}

}  // namespace
}  // namespace fathom::train
