// Group relative policy optimisation (arXiv 2402.03300, 4; arXiv 2501.12948, 2.2), with answers
// sampled on Fathom's own engine.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "train/evaluation.h"
#include "train/rewards.h"
#include "train/rollouts.h"
#include "train/schedule.h"
#include "train/tasks.h"
#include "train/torch/answer_batch.h"
#include "train/torch/optimizer.h"
#include "train/torch/policy_loss.h"
#include "train/torch/run_checkpoints.h"

namespace fathom::train {

struct GrpoOptions {
  ModelTexts texts;
  std::filesystem::path weights;  // the model folder to start from
  std::vector<RlTask> tasks, evaluation;
  bool chat = false;        // tasks are put as a user's turn, by the model's chat template
  std::string instruction;  // after each task's prompt
  std::vector<Reward> rewards;
  std::filesystem::path run;

  std::int64_t steps = 100;
  std::size_t questions = 16;   // of a step
  std::size_t group = 8;        // answers to each
  std::size_t minibatches = 1;  // updates that a step's answers are shared out to
  std::size_t max_tokens = 128;
  float temperature = 1;            // of sampling, and of the policy that is trained
  std::size_t micro_tokens = 8192;  // that go through the model at once
  /// Experts of the policy that learns are those that the engine's tokens went to (R3, arXiv
  /// 2510.11370).
  bool replay_routing = false;
  PolicyOptions policy;
  std::int64_t refresh_reference = 0;  // steps between; 0: never
  bool dynamic_sampling = false;       // groups with equal rewards are asked anew (DAPO, 3.2)
  std::size_t most_rounds = 4;         // of it, for one step
  std::size_t overlong_buffer = 0;     // tokens before the limit over which an answer loses up to 1
  double clip = 1;                     // of the gradient's norm
  RateSchedule rate{1e-5, 0, RateShape::Constant};  // shares are of the run's steps
  OptimizerOptions optimizer;
  TwinOptions twin;
  LoraOptions lora;
  Ranks ranks;           // that share each step's questions, and see one run's folder
  unsigned threads = 0;  // of the engine; 0: all CPUs
  TokenId end{};         // ends an answer
  std::uint64_t seed = 1;

  std::int64_t save_every = 50, evaluate_every = 20;
  bool tensorboard = false;  // event files beside the log
  std::size_t keep = 2;
  std::size_t evaluation_samples = 8;  // at temperature 1, for pass@k and maj@k; 0: greedy alone
};

struct GrpoReport {
  std::int64_t step = 0;
  double reward = 0;               // mean of all answers' sums
  std::vector<double> parts;       // mean of each reward, without its weight
  double equal_groups = 0;         // share whose answers all got the same
  double length = 0, longest = 0;  // tokens of an answer: mean, most
  double truncated = 0;            // share that the limit ended
  // Of answers that are learned from: not of groups that all got the same, without a reference.
  double entropy = 0;                        // nats a token
  double kl = 0;                             // from the reference, k3
  double clipped_low = 0, clipped_high = 0;  // shares of tokens
  double gap = 0;  // mean |log p of engine - of trainer| of sampled tokens
  double largest_gap = 0;
  double rerouted = 0;  // share of the engine's experts that the trainer would not choose itself
  double gradient_norm = 0;
  double rate = 0;          // of learning, in this step
  double largest_load = 0;  // of an expert, over the mean
  bool skipped = false;     // no update was made: nothing to learn from, or not finite
  bool diverged = false;    // an update's loss or gradient was not finite
  double sampling_seconds = 0, training_seconds = 0;
  double samples_per_s = 0;
  double flop = 0;  // of all ranks: what sampling read and wrote, and what was learned from
  std::optional<Evaluation> evaluation;
  std::vector<std::pair<double, std::string>> samples;  // a few answers, with their rewards
};

/// With several ranks all of it is collective work.
class Grpo {
 public:
  /// Opens the model, or goes on where the run's folder ends. Throws as TrainingRun does.
  explicit Grpo(GrpoOptions options);

  bool done() const { return step_ >= options_.steps; }
  /// Throws what rewards throw; the run is then as it was before the step. Throws Error(Internal)
  /// if 20 steps in a row had a loss or gradient that was not finite.
  GrpoReport step();
  Evaluation evaluate();
  /// The same before the first step, as step 0 of the log.
  Evaluation evaluate_start();
  void save();

  std::int64_t steps() const { return step_; }
  bool resumed() const { return resumed_; }
  const RunFolder& folder() const { return checkpoints_.folder(); }
  const TorchModel& model() const { return *model_; }

 private:
  /// Over what is learned from in a step.
  struct Sums {
    double tokens = 0, entropy = 0, gap = 0, kl = 0, clipped_low = 0, clipped_high = 0;
    double choices = 0, rerouted = 0;  // of experts, that were replayed
    double inputs = 0;                 // tokens that went through the model
    double largest_gap = 0;
    std::vector<Tensor> loads;  // of each routed layer's experts
  };
  double flop_per_token() const;
  std::unique_ptr<Engine> make_engine(std::size_t requests) const;
  std::vector<Sample> gather(GrpoReport& report);
  /// A round's answers of this rank to so many questions of all ranks.
  std::vector<std::vector<Sample>> ask(Engine& engine, std::size_t questions, std::size_t round);
  void judge(std::vector<Sample>& group, std::uint64_t first, GrpoReport& report) const;
  void learn(std::span<Sample> samples, GrpoReport& report);
  void update(std::span<Sample> samples, GrpoReport& report, Sums& sums);
  /// Before a step's first update, the policy is the old one of all others.
  void remember_policy(std::span<Sample> samples) const;
  /// Those that have something to teach, in learning_order().
  std::vector<const Sample*> teachers(std::span<const Sample> samples) const;
  struct Logprobs {
    Tensor policy, plain;  // [answers' tokens]: at the temperature, and at 1
    Tensor entropy;        // the same, if it is watched
    std::vector<RouterChoice> routers;
  };
  Logprobs logprobs(TorchModel& model, const AnswerBatch& batch, bool watched) const;
  AnswerBatch batch_of(std::span<const Sample* const> samples) const;
  void write_log(const GrpoReport& report) const;
  nlohmann::ordered_json identity() const;
  void resume();

  GrpoOptions options_;
  RunCheckpoints checkpoints_;
  Tokenizer tokenizer_;
  std::unique_ptr<TorchModel> model_, reference_;
  std::string adapted_;  // digest of what adapters adapt, which checkpoints do not keep
  std::unique_ptr<Optimizer> optimizer_;
  std::int64_t step_ = 0, diverged_ = 0;
  std::uint64_t dealt_ = 0;     // tasks so far
  std::uint64_t attempts_ = 0;  // answers so far
  bool resumed_ = false;
};

}  // namespace fathom::train
