// One step of training: losses over micro-batches, the clip, the update, the routers' biases.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "train/row_packer.h"
#include "train/torch/optimizer.h"
#include "train/torch/ranks.h"
#include "train/torch/torch_model.h"

namespace fathom::train {

/// Rows that go through the model at once. All on the CPU.
struct MicroBatch {
  static constexpr std::int64_t kIgnore = -100;  // a target that is not asked for

  TokenRows rows;
  Tensor targets;  // int64 [rows, length]: what follows each token, or kIgnore
  Tensor next;  // int64 [rows, length]: the token after, for multi-token prediction; or undefined
  Tensor further;     // int64 [rows, length]: the token after next, or kIgnore; or undefined
  bool idle = false;  // counts for nothing: this rank has no rows of its own while others have
  std::int64_t asked() const { return (targets != kIgnore).sum().item<std::int64_t>(); }
};

/// From packed rows. `separate`: no token is asked to predict another document's. With `mtp` the
/// rows must have two tokens ahead.
MicroBatch micro_batch(std::span<const Row> rows, std::size_t row_tokens, bool separate, bool mtp);

/// A model to learn from besides the texts (arXiv 1503.02531).
struct Teacher {
  std::shared_ptr<TorchModel> model;  // of the same vocabulary
  std::int64_t vocabulary = 0;  // tokens there are; what pads either model's table is left out
  double weight = 1;            // of its divergence; the texts' own loss has the rest
  double temperature = 1;
  std::string digest = {};  // of its weights, for runs that go on
};

struct TrainerOptions {
  double clip = 1.0;            // of the gradient's norm; 0: none
  double mtp_weight = 0.3;      // lambda of arXiv 2412.19437, eq. 25
  double balance_alpha = 1e-4;  // of the sequence-wise balance loss
  double bias_speed = 1e-3;     // gamma of the routers' biases; 0: they stay
  std::optional<Teacher> teacher;
};

struct StepReport {
  double loss = 0;        // nats a token, without the terms below
  double divergence = 0;  // from the teacher, nats a token at its temperature
  double further = 0;     // of multi-token prediction, without its weight
  double balance = 0;     // mean over routed layers; 1: all experts get the same
  double gradient_norm = 0;
  std::int64_t tokens = 0;  // seen
  std::int64_t asked = 0;   // with a target
  bool clipped = false;
  bool skipped = false;     // something was not finite: no update was made
  double largest_load = 0;  // of an expert in any layer, over the mean
};

class Trainer {
 public:
  /// Both outlive it. `ranks`: those that share each batch; all is collective work then.
  Trainer(TorchModel& model, Optimizer& optimizer, const TrainerOptions& options, Ranks ranks = {})
      : model_(model), optimizer_(optimizer), options_(options), ranks_(std::move(ranks)) {}

  /// All micro-batches together, of all ranks, are one batch: losses are divided by the tokens
  /// asked for in all of them, so that how rows are grouped changes nothing but rounding. Each rank
  /// has as many. What is reported is of the whole batch.
  StepReport step(std::span<const MicroBatch> batch, double rate);
  /// Mean loss of what is asked for, without gradients. All ranks are given the same batches.
  double evaluate(std::span<const MicroBatch> batch);

 private:
  TorchModel& model_;
  Optimizer& optimizer_;
  TrainerOptions options_;
  Ranks ranks_;
};

}  // namespace fathom::train
