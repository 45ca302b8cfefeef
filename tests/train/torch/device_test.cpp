// Training on another device than the CPU: with one whose memory the CPU cannot read, so that
// nothing is left behind or taken for the CPU's. What a GPU computes by itself is PyTorch's own
// affair.
#include "train/torch/device.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <thread>

#include "base/error.h"
#include "base/json_guard.h"
#include "train/torch/far_device.h"
#include "train/torch/grpo_run.h"
#include "train/torch/peak.h"
#include "train/torch/shared_run.h"

namespace fathom::train {
namespace {

using ::testing::HasSubstr;

TEST(FarDevice, TheCpuCannotReadIt) {
  const Tensor far = at::arange(6, at::kFloat).to(far_device());
  EXPECT_EQ(far.sum().item<double>(), 15);
  EXPECT_TRUE(at::equal(far.view({2, 3}).t().cpu(), at::arange(6, at::kFloat).view({2, 3}).t()));
  EXPECT_DEATH(std::fprintf(stderr, "%f", *static_cast<const float*>(far.const_data_ptr())), "");
  EXPECT_ANY_THROW(far.index_select(0, at::zeros({2}, at::kLong)) + at::ones({2}));
}

std::string told(const std::string& name) {
  try {
    training_device(name);
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing";
}

TEST(TrainingDevice, IsTheCpuWhereThereIsNoGpu) {
  EXPECT_EQ(training_device("cpu"), at::Device(at::kCPU));
  EXPECT_THAT(told("gpu"), HasSubstr("no device is called 'gpu': there are auto, cpu, cuda"));
  for (const char* name : {"cuda:", "cuda:x", "cuda:-1", "cuda:1x", ":0", "autos", ""}) {
    EXPECT_THAT(told(name), HasSubstr("no device is called")) << name;
  }
  if (at::hasCUDA()) GTEST_SKIP() << "there is a GPU";
  EXPECT_EQ(training_device("auto"), at::Device(at::kCPU));
  EXPECT_THAT(told("cuda"), HasSubstr("--device cuda: "));
  EXPECT_THAT(told("cuda:1"), HasSubstr("--device cuda:1: "));
}

TEST(TrainingDevice, APeakIsMeasuredWhereverItIs) {
  EXPECT_GT(measure_product_peak(at::kFloat, far_device(), 64), 0);
}

/// What all these runs do on the CPU too.
class FarRun : public SharedRun {
 protected:
  void expect_same_far(RunOptions options, int ranks = 1, bool spread = false) {
    options.run = folder_.path() / "near";
    const Outcome near = train(options, 1, false);
    options.run = folder_.path() / "far";
    options.twin.device = far_device();
    expect_same(near, train(options, ranks, spread));
    std::filesystem::remove_all(folder_.path() / "near");
    std::filesystem::remove_all(folder_.path() / "far");
  }
};

TEST_F(FarRun, LearnsWhatTheCpuLearns) {
  const std::size_t before = far_bytes();
  for (const auto kind : {OptimizerKind::AdamW, OptimizerKind::Muon}) {
    RunOptions options = this->options("");
    options.optimizer.kind = kind;
    options.prompts = {"number 1"};
    expect_same_far(options);
  }
  EXPECT_EQ(far_bytes(), before) << "tensors were left";
}

TEST_F(FarRun, ActivationsAreMadeAgainThereToo) {
  RunOptions options = this->options("");
  options.tokens = 8 * 6 * 32;
  options.twin.recompute = true;
  options.separate = false;
  expect_same_far(options);
}

TEST_F(FarRun, RanksMeetByWayOfTheCpu) {
  RunOptions options = this->options("");
  options.tokens = 8 * 6 * 32;
  expect_same_far(options, 2, false);
}

/// A process of its own (below), since PyTorch has one thread a device for all ways back.
TEST_F(FarRun, DISABLED_OneOfSeveralRanks) {
  const auto variable = [](const char* name) -> const char* { return std::getenv(name); };
  RunOptions options = this->options("");
  options.run = std::getenv("RUN");
  options.tokens = 8 * 6 * 32;
  options.twin.device = far_device();
  options.ranks = Ranks::join(rank_setup(variable));
  options.expert_parallel = true;
  TrainingRun run(options);
  ASSERT_TRUE(run.model().spread());
  while (!run.done()) run.step();
  run.save();
}

TEST_F(FarRun, TokensGoToExpertsOfOtherRanks) {
  RunOptions options = this->options("near");
  options.tokens = 8 * 6 * 32;
  const Outcome near = train(options, 1, false);
  const std::string far = folder_.path() / "far", port = std::to_string(free_port());
  const auto start = [&](const char* rank) {
    const std::string command =
        "OMP_NUM_THREADS=1 WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=" + port +
        " RANK=" + rank + " RUN=" + far +
        " " FATHOM_BINARY_DIR
        "/bin/test_train_torch --gtest_filter=FarRun.DISABLED_OneOfSeveralRanks"
        " --gtest_also_run_disabled_tests > " +
        far + rank + ".out 2>&1";
    return std::system(command.c_str());
  };
  int second = -1;
  std::thread other([&] { second = start("1"); });
  const int first = start("0");
  other.join();
  ASSERT_EQ(first, 0) << read_text_file(far + "0.out", 1 << 20);
  ASSERT_EQ(second, 0) << read_text_file(far + "1.out", 1 << 20);
  options.run = far;
  const auto lines = log(options);
  ASSERT_EQ(lines.size(), near.losses.size());
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const auto line = nlohmann::json::parse(lines[i]);
    EXPECT_NEAR(line.at("loss").get<double>(), near.losses[i], 1e-4) << i;
    EXPECT_NEAR(line.at("further").get<double>(), near.further[i], 1e-4) << i;
    EXPECT_NEAR(line.at("gradient_norm").get<double>(), near.norms[i], 1e-3) << i;
  }
}

TEST_F(FarRun, Fp8IsRoundedAlike) {
  RunOptions options = this->options("");
  options.tokens = 6 * 32;  // once: a rounding that falls the other way grows
  options.twin.fp8 = true;
  options.twin.device = far_device();
  options.run = folder_.path() / "far";
  const Outcome far = train(options, 1, false);
  options.twin.device = at::kCPU;
  options.run = folder_.path() / "near";
  EXPECT_NEAR(far.losses.at(0), train(options, 1, false).losses.at(0), 1e-3);
}

TEST_F(FarRun, GoesOnFromTheCpusCheckpointAndBack) {
  RunOptions options = this->options("whole");
  const Outcome whole = train(options, 1, false);
  options.run = folder_.path() / "parts";
  train(options, 1, false, 7);
  options.twin.device = far_device();
  train(options, 1, false, 14);
  options.twin.device = at::kCPU;
  Outcome last = train(options, 1, false);
  last.losses.insert(last.losses.begin(), whole.losses.begin(), whole.losses.begin() + 14);
  ASSERT_EQ(last.losses.size(), whole.losses.size());
  EXPECT_NEAR(last.losses.back(), whole.losses.back(), 1e-4);
  for (const auto& [name, value] : whole.weights) {
    EXPECT_LT((value - last.weights.at(name)).abs().max().item<double>(), 2e-3) << name;
  }
}

TEST_F(FarRun, AdaptersLearnFromATeacherThere) {
  RunOptions options = this->options("");
  std::filesystem::create_directories(folder_.path() / "model");
  const ModelConfig config = tiny_config();
  write_model_folder(folder_.path() / "model", TorchModel::random(config, {}, 0.05, 1),
                     options.texts);
  options.weights = folder_.path() / "model";
  options.tokens = 8 * 6 * 32;
  options.twin.mtp_depth = 0;
  options.lora.rank = 4;
  const auto with_teacher = [&](const at::Device& device) {
    TwinOptions twin;
    twin.device = device;
    Teacher teacher;
    teacher.model = std::make_shared<TorchModel>(TorchModel::random(config, twin, 0.05, 2));
    teacher.vocabulary = 260;
    teacher.weight = 0.5;
    options.trainer.teacher = teacher;
    options.twin.device = device;
    options.run = folder_.path() / at::DeviceTypeName(device.type());
    return train(options, 1, false);
  };
  expect_same(with_teacher(at::kCPU), with_teacher(far_device()));
}

using FarGrpo = GrpoRun;

TEST_F(FarGrpo, LearnsWhatTheCpuLearns) {
  GrpoOptions options = this->options("");
  options.steps = 4;
  options.policy.kl = 0.01;
  options.minibatches = 2;
  options.replay_routing = true;
  options.policy.truncated_weight = 2;
  const auto learn = [&](const at::Device& device) {
    options.twin.device = device;
    options.run = folder_.path() / at::DeviceTypeName(device.type());
    Grpo run(options);
    std::vector<GrpoReport> reports;
    while (!run.done()) reports.push_back(run.step());
    run.save();
    return std::pair(reports, weights_of(run.model()));
  };
  const auto [near, near_weights] = learn(at::kCPU);
  const auto [far, far_weights] = learn(far_device());
  // While weights are the same, so are answers.
  EXPECT_EQ(near[0].reward, far[0].reward);
  EXPECT_NEAR(near[0].gradient_norm, far[0].gradient_norm, 1e-4);
  EXPECT_NEAR(near[0].entropy, far[0].entropy, 1e-4);
  // The second half of each step's answers is older than the weights, here as there.
  for (std::size_t i = 0; i < far.size(); ++i) EXPECT_NEAR(far[i].gap, near[i].gap, 1e-3);
  for (const auto& [name, value] : near_weights) {
    EXPECT_LT((value - far_weights.at(name)).abs().max().item<double>(), 2e-3) << name;
  }
}

}  // namespace
}  // namespace fathom::train
