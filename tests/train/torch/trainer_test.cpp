// Optimisers, steps, runs: beside PyTorch's own, and beside themselves after a restart.
#include <gmock/gmock.h>

#include <sys/resource.h>
#include <torch/torch.h>

#include <csignal>
#include <fstream>
#include <limits>

#include "model/golden_models.h"
#include "train/torch/live_model.h"
#include "train/torch/tiny_run.h"

namespace fathom::train {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

Tensor random_tokens(std::int64_t rows, std::int64_t length, int seed) {
  torch::manual_seed(seed);
  return torch::randint(4, 260, {rows, length + 2}, torch::kLong);
}
MicroBatch batch_of(const Tensor& tokens) {
  const std::int64_t length = tokens.size(1) - 2;
  MicroBatch batch;
  batch.rows.tokens = tokens.narrow(1, 0, length).contiguous();
  batch.targets = tokens.narrow(1, 1, length).contiguous();
  batch.next = batch.targets.clone();
  batch.further = tokens.narrow(1, 2, length).contiguous();
  return batch;
}

// --- optimisers ----------------------------------------------------------------------------------

TEST(AdamW, IsPyTorchs) {
  TorchModel ours = TorchModel::random(tiny_config(), {}, 0.02, 1);
  TorchModel theirs = TorchModel::random(tiny_config(), {}, 0.02, 1);
  std::vector<Tensor> matrices, others;
  for (auto& p : theirs.parameters()) {
    if (p.trained) (p.value.dim() >= 2 ? matrices : others).push_back(p.value);
  }
  using torch::optim::AdamWOptions;
  const auto defaults = [] {
    return AdamWOptions(1e-3).betas({0.9, 0.95}).eps(1e-8).weight_decay(0.1);
  };
  std::vector<torch::optim::OptimizerParamGroup> groups;
  groups.emplace_back(matrices, std::make_unique<AdamWOptions>(defaults()));
  groups.emplace_back(others, std::make_unique<AdamWOptions>(defaults().weight_decay(0)));
  torch::optim::AdamW oracle(groups, defaults());
  Optimizer optimizer(ours, {});
  for (int step = 0; step < 5; ++step) {
    const MicroBatch batch = batch_of(random_tokens(2, 16, step));
    for (TorchModel* model : {&ours, &theirs}) {
      const Tensor logits = model->logits(model->forward(batch.rows).states);
      torch::nn::functional::cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
          .backward();
    }
    optimizer.step(1e-3, 1);
    optimizer.zero_gradients();
    oracle.step();
    oracle.zero_grad();
  }
  const auto mine = weights_of(ours), other = weights_of(theirs);
  for (const auto& [name, value] : mine) {
    EXPECT_LT((value - other.at(name)).abs().max().item<double>(), 2e-6) << name;
  }
}

TEST(Muon, MakesSingularValuesNearOne) {
  torch::manual_seed(1);
  for (const auto& shape : {std::vector<std::int64_t>{20, 50}, {50, 20}, {3, 16, 40}}) {
    const Tensor values =
        std::get<1>(torch::linalg_svd(orthogonalised(torch::randn(shape)), false, std::nullopt));
    EXPECT_GT(values.min().item<double>(), 0.3);
    EXPECT_LT(values.max().item<double>(), 1.3);
  }
  // Singular vectors stay: the product with the matrix itself is symmetric and positive.
  const Tensor a = torch::randn({12, 30});
  const Tensor product = torch::mm(orthogonalised(a), a.t());
  EXPECT_TRUE(torch::allclose(product, product.t(), 1e-3, 1e-3));
  EXPECT_GT(std::get<0>(torch::linalg_eigh(product)).min().item<double>(), 0);
}

TEST(Muon, LearnsAndLeavesTheTablesToAdamW) {
  TorchModel model = TorchModel::random(tiny_config(), {}, 0.02, 1);
  OptimizerOptions options;
  options.kind = OptimizerKind::Muon;
  Optimizer optimizer(model, options);
  std::map<std::string, int> kept;
  optimizer.each_state(
      [&](const std::string& name, Tensor&, RowRange) { ++kept[name.substr(0, name.rfind('.'))]; });
  EXPECT_EQ(kept.at("model.embed_tokens.weight"), 2);
  EXPECT_EQ(kept.at("lm_head.weight"), 2);
  EXPECT_EQ(kept.at("model.layers.1.mlp.gate.weight"), 2);
  EXPECT_EQ(kept.at("model.layers.1.mlp.experts.gate_up_proj"), 1);
  Trainer trainer(model, optimizer, {});
  const MicroBatch batch = batch_of(random_tokens(2, 16, 1));
  MicroBatch plain = batch;
  plain.further = Tensor();
  const double first = trainer.step({&plain, 1}, 5e-3).loss;
  double last = 0;
  for (int i = 0; i < 30; ++i) last = trainer.step({&plain, 1}, 5e-3).loss;
  EXPECT_LT(last, 0.7 * first);
}

// --- steps ---------------------------------------------------------------------------------------

TEST(TrainerStep, AccumulatedIsOneBatch) {
  TwinOptions twin;
  twin.mtp_depth = 1;
  const Tensor tokens = random_tokens(6, 24, 3);
  const auto after = [&](const std::vector<std::int64_t>& sizes) {
    TorchModel model = TorchModel::random(tiny_config(), twin, 0.02, 1);
    Optimizer optimizer(model, {});
    Trainer trainer(model, optimizer, {});
    std::vector<MicroBatch> micro;
    std::int64_t at = 0;
    for (const std::int64_t size : sizes) {
      micro.push_back(batch_of(tokens.narrow(0, at, size)));
      at += size;
    }
    // Rows of unequal weight: a mean of means would differ.
    micro.front().targets.narrow(1, 4, 20).fill_(MicroBatch::kIgnore);
    if (sizes.size() == 1) {
      micro.front().targets = tokens.narrow(1, 1, 24).contiguous();
      micro.front().targets.narrow(0, 0, 2).narrow(1, 4, 20).fill_(MicroBatch::kIgnore);
    }
    const StepReport report = trainer.step(micro, 1e-2);
    return std::pair(report, weights_of(model));
  };
  const auto [whole, whole_weights] = after({6});
  const auto [parts, part_weights] = after({2, 1, 3});
  EXPECT_EQ(whole.asked, parts.asked);
  EXPECT_NEAR(whole.loss, parts.loss, 1e-5);
  EXPECT_NEAR(whole.further, parts.further, 1e-5);
  EXPECT_NEAR(whole.gradient_norm, parts.gradient_norm, 1e-4 * whole.gradient_norm);
  for (const auto& [name, value] : whole_weights) {
    // An AdamW step from zero moments is the gradient's sign: elements near zero may turn.
    EXPECT_LT((value - part_weights.at(name)).abs().mean().item<double>(), 1e-5) << name;
  }
}

TEST(TrainerStep, TheBiasOfEveryRouterMoves) {
  TwinOptions twin;
  twin.mtp_depth = 1;
  TorchModel model = TorchModel::random(tiny_config(), twin, 0.02, 1);
  Optimizer optimizer(model, {});
  TrainerOptions options;
  options.bias_speed = 0.01;
  Trainer trainer(model, optimizer, options);
  const MicroBatch batch = batch_of(random_tokens(2, 31, 5));
  trainer.step({&batch, 1}, 1e-3);
  for (const char* layer : {"1", "2"}) {  // the last is multi-token prediction's
    const Tensor bias =
        model.parameter(std::string("model.layers.") + layer + ".mlp.gate.e_score_correction_bias");
    EXPECT_NEAR(bias.abs().max().item<double>(), 0.01, 1e-6);
    EXPECT_FALSE(bias.requires_grad());
  }
}

TEST(TrainerStep, WhatIsNotFiniteChangesNothing) {
  TorchModel model = TorchModel::random(tiny_config(), {}, 0.02, 1);
  Optimizer optimizer(model, {});
  Trainer trainer(model, optimizer, {});
  {
    const torch::NoGradGuard no_gradient;
    model.parameter("model.norm.weight")[3] = std::numeric_limits<float>::quiet_NaN();
  }
  const auto before = weights_of(model);
  MicroBatch batch = batch_of(random_tokens(1, 8, 1));
  batch.further = Tensor();
  EXPECT_TRUE(trainer.step({&batch, 1}, 1e-2).skipped);
  EXPECT_EQ(optimizer.steps(), 0);
  for (const auto& [name, value] : weights_of(model)) {
    EXPECT_TRUE(torch::equal(value.nan_to_num(9), before.at(name).nan_to_num(9))) << name;
  }
}

// --- runs ----------------------------------------------------------------------------------------

class Run : public TinyRun {};

TEST_F(Run, InterruptedAnywhereEndsWithTheSameBits) {
  for (const auto kind : {OptimizerKind::AdamW, OptimizerKind::Muon}) {
    const std::string name = kind == OptimizerKind::Muon ? "muon" : "adamw";
    RunOptions whole = options(name + "-whole");
    whole.optimizer.kind = kind;
    TrainingRun one(whole);
    while (!one.done()) one.step();
    EXPECT_EQ(one.steps(), 20);

    RunOptions parts = options(name + "-parts");
    parts.optimizer.kind = kind;
    for (int stop = 0;; ++stop) {
      TrainingRun run(parts);
      EXPECT_EQ(run.resumed(), stop > 0);
      if (run.done()) break;
      for (int i = 0; i < 3 + stop && !run.done(); ++i) run.step();
      run.save();
    }
    TrainingRun again(parts);
    const auto a = weights_of(one.model()), b = weights_of(again.model());
    for (const auto& [weight, value] : a) EXPECT_TRUE(torch::equal(value, b.at(weight))) << weight;
    EXPECT_EQ(log(whole), log(parts));
  }
}

TEST_F(Run, WorkAfterTheLastCheckpointIsDoneAgain) {
  RunOptions o = options("run");
  o.save_every = 5;
  o.evaluate_every = 0;
  std::map<std::string, Tensor> before;
  {
    TrainingRun killed(o);
    for (int i = 0; i < 8; ++i) killed.step();
  }
  TrainingRun run(o);
  EXPECT_EQ(run.steps(), 5);
  EXPECT_EQ(log(o).size(), 5U);
  run.step();
  EXPECT_EQ(log(o).size(), 6U);
}

TEST_F(Run, ACheckpointOfTheBestHasItsLineInTheLog) {
  RunOptions o = options("run");
  {
    TrainingRun killed(o);
    for (int i = 0; i < 7; ++i) killed.step();
    EXPECT_EQ(killed.folder().steps().back(), 7);  // the first evaluation is the best so far
  }
  TrainingRun run(o);
  EXPECT_EQ(run.steps(), 7);
  EXPECT_EQ(log(o).size(), 7U);
}

TEST_F(Run, ASaveThatWasCutOffIsNoCheckpoint) {
  RunOptions o = options("run");
  o.save_every = 2;
  {
    TrainingRun run(o);
    for (int i = 0; i < 4; ++i) run.step();
  }
  fs::create_directories(o.run / "step-00000006.partial");
  std::ofstream(o.run / "step-00000006.partial/model.safetensors") << "half";
  fs::create_directories(o.run / "step-00000008");  // a folder without trainer.json
  TrainingRun run(o);
  EXPECT_EQ(run.steps(), 4);
  EXPECT_FALSE(fs::exists(o.run / "step-00000006.partial"));
}

TEST_F(Run, AFullDiskLosesNothing) {
  const auto without_best = [&](const char* name) {
    RunOptions o = options(name);
    o.evaluate_every = 0;
    return o;
  };
  RunOptions whole = without_best("whole");
  TrainingRun one(whole);
  while (!one.done()) one.step();

  RunOptions parts = without_best("parts");
  std::signal(SIGXFSZ, SIG_IGN);  // then a file over the limit fails as on a full disk
  rlimit before{};
  ::getrlimit(RLIMIT_FSIZE, &before);
  const rlimit small{20000, before.rlim_max};
  {
    TrainingRun run(parts);
    while (run.steps() < 5) run.step();
    run.save();
    while (run.steps() < 9) run.step();
    ::setrlimit(RLIMIT_FSIZE, &small);
    try {
      run.save();
      ADD_FAILURE() << "there was room";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::Io);
      EXPECT_THAT(error.what(), HasSubstr("step-00000009.partial"));
      EXPECT_THAT(error.what(), HasSubstr("File too large"));
    }
    ::setrlimit(RLIMIT_FSIZE, &before);
    // What went before is whole, and what is in memory can still be saved.
    EXPECT_TRUE(fs::exists(parts.run / "step-00000005" / "trainer.json"));
    EXPECT_FALSE(fs::exists(parts.run / "step-00000009"));
    EXPECT_EQ(TrainingRun(without_best("parts")).steps(), 5);
    run.save();
  }
  TrainingRun rest(parts);
  EXPECT_EQ(rest.steps(), 9);
  while (!rest.done()) rest.step();
  for (const auto& [name, value] : weights_of(one.model())) {
    EXPECT_TRUE(torch::equal(value, weights_of(rest.model()).at(name))) << name;
  }
}

TEST_F(Run, KeepsTheLastAndTheBest) {
  RunOptions o = options("run");
  o.save_every = 2;
  o.keep = 2;
  TrainingRun run(o);
  while (!run.done()) run.step();
  const auto steps = run.folder().steps();
  EXPECT_LE(steps.size(), 3U);
  EXPECT_EQ(steps.back(), 20);
}

TEST_F(Run, LearnsAndItsCheckpointRunsInTheEngine) {
  RunOptions o = options("run");
  o.tokens *= 6;
  o.prompts = {"number 12"};
  TrainingRun run(o);
  const RunLine first = run.step();
  RunLine last;
  while (!run.done()) last = run.step();
  EXPECT_LT(last.report.loss, 0.6 * first.report.loss);
  EXPECT_LT(last.report.further, first.report.further);
  ASSERT_TRUE(last.evaluation.has_value());
  EXPECT_LT(*last.evaluation, first.report.loss);
  EXPECT_EQ(last.samples.size(), 1U);

  const auto stored = open_checkpoint(run.folder().checkpoint(run.steps()));
  ModelOptions load;
  load.precision = ActivationPrecision::F32;
  const auto engine = Model::load(
      std::shared_ptr<const Checkpoint>(open_checkpoint(run.folder().checkpoint(run.steps()))),
      load);
  const std::vector<TokenId> tokens = tokenizer_.encode("number 12 and 4");
  const auto theirs = test::feed_in_chunks(*engine, tokens, {tokens.size()});
  const torch::NoGradGuard no_gradient;
  TorchModel twin = TorchModel::load(*stored, {});
  std::vector<std::int64_t> ids;
  for (const TokenId id : tokens) ids.push_back(value(id));
  const Tensor logits =
      twin.logits(twin.forward({torch::tensor(ids).unsqueeze(0), {}, {}}).states)[0].contiguous();
  const std::span<const float> ours(logits.data_ptr<float>(),
                                    static_cast<std::size_t>(logits.numel()));
  EXPECT_LE(test::worst_error(ours, theirs, 300), test::kOracleTolerance);
}

TEST_F(Run, AnotherRunsFolderIsRefused) {
  RunOptions o = options("run");
  {
    TrainingRun run(o);
    run.step();
    run.save();
  }
  const auto told = [&](RunOptions changed) {
    try {
      const TrainingRun run(std::move(changed));
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  RunOptions seed = o;
  seed.seed = 2;
  EXPECT_THAT(told(seed), HasSubstr("was begun with seed 1, not 2"));
  RunOptions optimizer = o;
  optimizer.optimizer.kind = OptimizerKind::Muon;
  EXPECT_THAT(told(optimizer), ::testing::AnyOf(HasSubstr("optimizer"), HasSubstr("first")));
  RunOptions shorter = o;
  shorter.row_tokens = 16;
  shorter.rows = rows(16);
  EXPECT_THAT(told(shorter), HasSubstr("row_tokens 32, not 16"));
}

TEST_F(Run, BrainFloatsLearnTheSame) {
  RunOptions o = options("run");
  o.twin.compute = at::kBFloat16;
  o.tokens *= 3;
  TrainingRun run(o);
  const double first = run.step().report.loss;
  double last = 0;
  while (!run.done()) last = run.step().report.loss;
  EXPECT_LT(last, 0.7 * first);
  for (const auto& parameter : run.model().parameters()) {
    EXPECT_EQ(parameter.value.scalar_type(), at::kFloat) << parameter.name;
  }
}

}  // namespace
}  // namespace fathom::train
