// What training and running a model takes, from its architecture and a machine's limits.
#pragma once

#include <cstdint>
#include <optional>

#include "cli/cost_tables.h"
#include "config/model_config.h"
#include "config/model_cost.h"

namespace fathom {

struct TrainingPlan {
  double flop_per_token = 0;  // forward and backward: three times a forward pass
  double flop = 0;
  double gpu_hours = 0;
  double dollars = 0;
  double state_bytes = 0;  // weights, gradients, optimiser: of all GPUs together
};

struct TrainingOptions {
  double tokens = 0;
  double sequence = 4096;
  double mfu = 0.4;  // share of the BF16 peak
};

/// A causal mask is counted as it is: a token sees half of its sequence on average. The state is
/// that of mixed precision with AdamW: BF16 weights, FP32 master weights and gradients, and two
/// moments, BF16 as in arXiv 2412.19437, 3.3.3.
TrainingPlan plan_training(const ModelConfig& config, const GpuKind& gpu,
                           const TrainingOptions& options);

struct InferenceOptions {
  double batch = 64;       // sequences at once
  double context = 4096;   // entries that each has
  double weight_bits = 8;  //
  double kv_bits = 16;     //
};

/// At best: the longer of reading what a step must read and computing it, at the machine's peaks.
struct InferencePlan {
  double weight_bytes = 0;
  double kv_bytes_per_token = 0;
  double step_bytes = 0;  // that a decoding step of the whole batch must read
  double step_flop = 0;
  std::int64_t gpus = 1;  // that hold the weights and the batch's cache in 90 % of their memory
  double decode_tokens_per_s = 0, prefill_tokens_per_s = 0;  // of all those GPUs together
  double dollars_per_million_output = 0, dollars_per_million_input = 0;
  bool bound_by_reads = false;
};
InferencePlan plan_inference(const ModelConfig& config, const GpuKind& gpu,
                             const InferenceOptions& options);

}  // namespace fathom
