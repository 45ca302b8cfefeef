#include "cli/cost_plan.h"

#include <algorithm>
#include <cmath>

namespace fathom {
namespace {

constexpr double kHour = 3600;
constexpr double kStateBytes = 2 + 4 + 4 + 2 + 2;  // a parameter, as plan_training() says
constexpr double kUsableMemory = 0.9;

}  // namespace

TrainingPlan plan_training(const ModelConfig& config, const GpuKind& gpu,
                           const TrainingOptions& options) {
  TrainingPlan plan;
  plan.flop_per_token = 3 * forward_work(config, options.sequence / 2).total();
  plan.flop = plan.flop_per_token * options.tokens;
  plan.gpu_hours = plan.flop / (gpu.bf16_flop_per_s * options.mfu) / kHour;
  plan.dollars = plan.gpu_hours * gpu.dollars_per_hour;
  plan.state_bytes = kStateBytes * static_cast<double>(count_parameters(config).total());
  return plan;
}

InferencePlan plan_inference(const ModelConfig& config, const GpuKind& gpu,
                             const InferenceOptions& options) {
  const ParameterCount count = count_parameters(config);
  const double weight = options.weight_bits / 8;
  InferencePlan plan;
  plan.weight_bytes = static_cast<double>(count.total()) * weight;
  plan.kv_bytes_per_token =
      static_cast<double>(config.kv_width() * config.num_hidden_layers) * options.kv_bits / 8;
  const double cache = options.batch * options.context * plan.kv_bytes_per_token;
  plan.gpus = std::max<std::int64_t>(
      1, static_cast<std::int64_t>(
             std::ceil((plan.weight_bytes + cache) / (kUsableMemory * gpu.memory_bytes))));

  const double routed = static_cast<double>(count.routed_experts);
  const double always = static_cast<double>(count.multiplied() - count.routed_active);
  plan.step_bytes = (always + routed * touched_share(config.moe, options.batch)) * weight + cache;
  plan.step_flop = options.batch * decode_work(config, options.context).total();

  const auto gpus = static_cast<double>(plan.gpus);
  const bool fp8 = options.weight_bits <= 8 && gpu.fp8_flop_per_s > 0;
  const double rate = gpus * (fp8 ? gpu.fp8_flop_per_s : gpu.bf16_flop_per_s);
  const double reading = plan.step_bytes / (gpus * gpu.bytes_per_s);
  const double computing = plan.step_flop / rate;
  plan.bound_by_reads = reading > computing;
  plan.decode_tokens_per_s = options.batch / std::max(reading, computing);
  plan.prefill_tokens_per_s = rate / forward_work(config, options.context / 2).total();
  const double dollars_per_s = gpus * gpu.dollars_per_hour / kHour;
  plan.dollars_per_million_output = 1e6 * dollars_per_s / plan.decode_tokens_per_s;
  plan.dollars_per_million_input = 1e6 * dollars_per_s / plan.prefill_tokens_per_s;
  return plan;
}

}  // namespace fathom
