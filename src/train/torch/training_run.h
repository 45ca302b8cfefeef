// A run of training by next tokens: rows, schedules, steps, checkpoints. What the rows are (plain
// text, arXiv 2412.19437, 4.2; or answers to questions, 5.1) is their source's affair.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "train/row_source.h"
#include "train/schedule.h"
#include "train/torch/run_checkpoints.h"
#include "train/torch/trainer.h"

namespace fathom::train {

struct RunOptions {
  ModelTexts texts;               // what the model is
  std::filesystem::path weights;  // a model folder to start from; empty: random ones
  double deviation = 0.006;       // of random weights, as V3's
  std::string kind = "pretrain";  // as its checkpoints say
  std::shared_ptr<RowSource> rows;
  std::vector<Row> evaluation;  // that are not trained on
  std::filesystem::path run;    // the run's folder

  double tokens = 0;            // of the whole run
  BatchSchedule batch{0, 32};   // rows a step
  std::int64_t micro_rows = 8;  // rows that go through the model at once
  std::size_t row_tokens = 1024;
  bool separate = true;  // documents of a row do not see each other
  TokenId end{};         // ends a sample
  RateSchedule rate;
  OptimizerOptions optimizer;
  TrainerOptions trainer;
  TwinOptions twin;
  LoraOptions lora;
  Ranks ranks;                   // that share each batch, and see one run's folder
  bool expert_parallel = false;  // experts are spread over them
  std::uint64_t seed = 1;

  std::int64_t save_every = 500, evaluate_every = 100;  // steps; 0: only at the end
  bool tensorboard = false;                             // event files beside the log
  std::size_t keep = 2;                                 // checkpoints, and the best
  std::vector<std::string> prompts;                     // gone on with after each evaluation
  std::size_t sample_tokens = 48;
};

/// What a step did, with what a person wants to know of it.
struct RunLine {
  StepReport report;
  std::int64_t step = 0;  // steps made so far
  double tokens = 0;      // seen so far
  double rate = 0;
  double seconds = 0;  // of this step
  double flop_per_s = 0;
  std::optional<double> evaluation;  // mean loss on the evaluation data
  std::vector<std::string> samples;  // of each prompt, what came
};

/// With several ranks all of it is collective work.
class TrainingRun {
 public:
  /// Makes the model, or goes on where the run's folder ends. Throws
  /// Error(InvalidArgument) for options that contradict each other or the run that is there, and
  /// what opening files throws.
  explicit TrainingRun(RunOptions options);

  bool done() const { return tokens_ >= options_.tokens; }
  /// Throws Error(Internal) if 20 steps in a row had to be skipped: the run has diverged.
  RunLine step();
  /// Writes a checkpoint of what there is now, unless that was done.
  void save();

  const TorchModel& model() const { return *model_; }
  std::int64_t steps() const { return step_; }
  double tokens() const { return tokens_; }
  /// Went on from a checkpoint.
  bool resumed() const { return resumed_; }
  const RunFolder& folder() const { return checkpoints_.folder(); }
  /// Operations that a token costs: three forward passes, multi-token prediction included.
  double flop_per_token() const;

 private:
  std::vector<MicroBatch> next_batch(std::int64_t rows);
  std::vector<std::string> sample();
  nlohmann::ordered_json state() const;
  /// Options that a run cannot change on its way.
  nlohmann::ordered_json identity() const;
  void resume();
  /// Throws Error(InvalidArgument) if ranks would do different things.
  void compare_ranks() const;

  RunOptions options_;
  RunCheckpoints checkpoints_;
  Tokenizer tokenizer_;
  std::unique_ptr<TorchModel> model_;
  std::string adapted_;  // digest of what adapters adapt, which checkpoints do not keep
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<Trainer> trainer_;
  std::vector<MicroBatch> evaluation_;
  std::int64_t step_ = 0, skipped_ = 0;
  double tokens_ = 0;
  bool resumed_ = false;
};

}  // namespace fathom::train
