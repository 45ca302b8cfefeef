// A run of reinforcement small enough for a test.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "train/torch/grpo.h"
#include "train/torch/tiny_run.h"

namespace fathom::train {

class GrpoRun : public ::testing::Test {
 protected:
  GrpoRun() {
    const ModelTexts texts{kTinyConfig, write_tokenizer_json(tiny_vocabulary()), ""};
    write_model_folder(make("model"), TorchModel::random(tiny_config(), {}, 0.05, 1), texts);
  }
  std::filesystem::path make(const std::string& name) const {
    std::filesystem::create_directories(folder_.path() / name);
    return folder_.path() / name;
  }
  GrpoOptions options(const std::string& run) const {
    GrpoOptions options;
    options.weights = folder_.path() / "model";
    options.texts = read_model_texts(options.weights);
    options.tasks = {{"a=", "1"}, {"bc=", "2"}, {"d=", "3"}};
    options.rewards = {parse_reward("pattern=[a-z].*", 1)};  // a tenth of all bytes
    options.run = folder_.path() / run;
    options.steps = 30;
    options.questions = 4;
    options.group = 16;
    options.max_tokens = 3;
    options.rate.peak = 5e-3;
    options.optimizer.weight_decay = 0;
    options.end = TokenId{0};
    options.save_every = options.evaluate_every = 0;
    return options;
  }
  static std::vector<std::string> log(const GrpoOptions& options) {
    return log_of(options.run, {"sampling_seconds", "training_seconds"});
  }
  testing::ScratchFolder folder_;
};

}  // namespace fathom::train
