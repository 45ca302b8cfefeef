// `fathom cost`: what training and running a model takes, told before anything is bought.
#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "backend/cpu/limits.h"
#include "base/file_map.h"
#include "base/progress.h"
#include "base/thread_pool.h"
#include "cli/commands.h"
#include "cli/cost_plan.h"
#include "cli/counts.h"
#include "cli/model_loader.h"
#include "formats/checkpoint.h"
#include "formats/memory_checkpoint.h"
#include "formats/model_shapes.h"

namespace fathom {
namespace {

using Json = nlohmann::ordered_json;

struct CostArguments {
  std::string model;
  std::string tokens;
  std::string gpu = "h800";
  double gpus = 0;  // to train on; 0: time is told for one
  double sequence = 4096;
  double mfu = 0.4;
  double price = -1;  // below 0: the kind's own
  InferenceOptions inference;
};

/// A published shape, a config.json, or a model of the store.
ModelConfig config_of(const std::string& model, const Context& context) {
  for (const ModelShape& shape : model_shapes()) {
    if (shape.name != model) continue;
    MemoryCheckpoint stated{std::string(shape.name)};
    stated.set_config(shape.config);
    return read_model_config(stated);
  }
  if (std::filesystem::path(model).extension() == ".json") {
    const FileMap file{model};
    MemoryCheckpoint stated{model};
    stated.set_config({reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()});
    return read_model_config(stated);
  }
  return read_model_config(*open_checkpoint(find_model(model, false, context)));
}

/// This machine as if it were a GPU: what its CPUs were just measured to do.
GpuKind this_machine() {
  ThreadPool pool;
  const cpu::MachineLimits limits = cpu::measure_limits(pool);
  GpuKind kind{"this", 0, 0, 0, 0, 0};
  kind.bf16_flop_per_s = std::max(limits.f32_flop_per_s, limits.tile_bf16_flop_per_s);
  kind.fp8_flop_per_s = limits.best_int8_op_per_s();
  kind.memory_bytes =
      static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  kind.bytes_per_s = limits.read_bytes_per_s;
  return kind;
}

std::string dollars(double value) {
  if (value >= 1e6) return fmt::format("${:.3f}M", value / 1e6);
  if (value >= 1e4) return fmt::format("${:.1f}K", value / 1e3);
  return value >= 1 ? fmt::format("${:.2f}", value) : fmt::format("${:.4f}", value);
}

std::string hours(double value) {
  return value >= 10 ? short_count(value) + " hours"
                     : fmt::format("{:.3g} hours ({:.3g} s)", value, value * 3600);
}

Json parameters_json(const ParameterCount& count) {
  return {{"total", count.total()},
          {"active", count.active()},
          {"embedding", count.embedding},
          {"head", count.head},
          {"attention", count.attention},
          {"dense_ffn", count.dense_ffn},
          {"shared_experts", count.shared_experts},
          {"routed_experts", count.routed_experts},
          {"routed_active", count.routed_active},
          {"router", count.router},
          {"norms", count.norms}};
}

void print_parameters(const ParameterCount& count) {
  const auto size = [](std::int64_t elements) {
    const auto value = static_cast<double>(elements);
    return value < 1e9 ? short_count(value) : fmt::format("{:.2f}B", value / 1e9);
  };
  fmt::print("parameters  {}, of which {} work on a token\n", size(count.total()),
             size(count.active()));
  const auto line = [](const char* name, std::int64_t elements, const std::string& more = {}) {
    if (elements > 0) {
      fmt::print("  {:<16}{:>9}{}\n", name, short_count(static_cast<double>(elements)), more);
    }
  };
  line("embedding", count.embedding, count.head == 0 ? ", also the head" : "");
  line("head", count.head);
  line("attention", count.attention);
  line("dense FFN", count.dense_ffn);
  line("shared experts", count.shared_experts);
  line("routed experts", count.routed_experts,
       fmt::format(", {} on a token", short_count(static_cast<double>(count.routed_active))));
  line("routers", count.router);
  line("norms", count.norms);
}

// --- what others have reported -------------------------------------------------------------------

/// DeepSeek-V3 computed from its own MFU, beside what it reported; then other runs and prices.
Json published(const ModelConfig& config) {
  const V3Report report;
  const GpuKind& h800 = find_gpu_kind("h800");
  const TrainingPlan plan =
      plan_training(config, h800, {report.tokens, report.sequence, report.mfu});
  const double others = report.extension_hours + report.post_training_hours;
  Json json{
      {"model", "DeepSeek-V3"},
      {"mfu", report.mfu},
      {"pretraining_gpu_hours",
       {{"computed", plan.gpu_hours}, {"reported", report.pretraining_hours}}},
      {"gpu_hours",
       {{"computed", plan.gpu_hours + others}, {"reported", report.pretraining_hours + others}}},
      {"dollars",
       {{"computed", (plan.gpu_hours + others) * report.dollars_per_hour},
        {"reported", (report.pretraining_hours + others) * report.dollars_per_hour}}}};
  Json runs = Json::array();
  for (const ReportedRun& run : reported_runs()) {
    runs.push_back({{"model", run.model},
                    {"part", run.part},
                    {"gpu", run.gpu},
                    {"gpu_hours", run.gpu_hours},
                    {"dollars", run.gpu_hours * find_gpu_kind(run.gpu).dollars_per_hour},
                    {"over_v3", run.gpu_hours / (report.pretraining_hours + others)},
                    {"source", run.source}});
  }
  json["reported_runs"] = std::move(runs);
  Json prices = Json::array();
  const ListPrice& mine = list_prices().front();
  for (const ListPrice& price : list_prices()) {
    prices.push_back({{"model", price.model},
                      {"input", price.input},
                      {"output", price.output},
                      {"output_over_first", price.output / mine.output}});
  }
  json["list_prices"] = std::move(prices);
  return json;
}

void print_published(const Json& json) {
  fmt::print("\nDeepSeek-V3 from its reported MFU of {:.1f} % (causal), 14.8T tokens of 4K:\n",
             100 * json["mfu"].get<double>());
  fmt::print("  {:<34}{:>10}{:>10}{:>8}\n", "", "computed", "reported", "");
  const auto line = [](const char* name, const Json& both, const auto& show) {
    const double computed = both["computed"], reported = both["reported"];
    fmt::print("  {:<34}{:>10}{:>10}{:>+7.1f} %\n", name, show(computed), show(reported),
               100 * (computed / reported - 1));
  };
  const auto mega = [](double v) { return fmt::format("{:.3f}M", v / 1e6); };
  line("H800 hours of pretraining", json["pretraining_gpu_hours"], mega);
  line("with extension and post-training", json["gpu_hours"], mega);
  line("at $2 an hour", json["dollars"], [](double v) { return dollars(v); });
  fmt::print("  (Those two are 119K and 5K hours as reported: their MFU is not known.)\n");
  fmt::print("\n{:<16}{:<46}{:>12}{:>10}{:>10}\n", "reported runs", "", "GPU hours", "at $2",
             "of V3's");
  double r1 = 0;
  for (const Json& run : json["reported_runs"]) {
    if (run["model"] == "DeepSeek-R1") r1 += run["gpu_hours"].get<double>();
    fmt::print("{:<16}{:<46}{:>7} {:<4}{:>10}{:>9.2f}x\n", run["model"].get<std::string>(),
               run["part"].get<std::string>(), short_count(run["gpu_hours"]),
               run["gpu"].get<std::string>(), dollars(run["dollars"]),
               run["over_v3"].get<double>());
  }
  fmt::print("DeepSeek-R1 in all: {} hours, {}, on top of V3's.\n", short_count(r1),
             dollars(2 * r1));
  fmt::print("\n{:<20}{:>14}{:>14}\n", "list prices, early 2025", "$/M input", "$/M output");
  for (const Json& price : json["list_prices"]) {
    fmt::print("{:<23}{:>10.2f}{:>14.2f}{:>9.1f}x\n", price["model"].get<std::string>(),
               price["input"].get<double>(), price["output"].get<double>(),
               price["output_over_first"].get<double>());
  }
}

// --- the command ---------------------------------------------------------------------------------

void print_training(const TrainingPlan& plan, const CostArguments& arguments, const GpuKind& gpu,
                    double tokens) {
  fmt::print("\ntraining on {} tokens, sequences of {:.0f}, {} at {:.0f} % of {:.4g} TFLOP/s\n",
             short_count(tokens), arguments.sequence, gpu.name, 100 * arguments.mfu,
             gpu.bf16_flop_per_s / 1e12);
  fmt::print("  {:.3g} FLOP ({:.4g} GFLOP a token), {}", plan.flop, plan.flop_per_token / 1e9,
             hours(plan.gpu_hours));
  if (gpu.dollars_per_hour > 0) {
    fmt::print(", {} at ${:.2f} an hour", dollars(plan.dollars), gpu.dollars_per_hour);
  }
  if (arguments.gpus > 0) {
    fmt::print("; {:.1f} days on {:.0f}", plan.gpu_hours / arguments.gpus / 24, arguments.gpus);
  }
  fmt::print("\n  {} for weights, gradients and optimiser: {:.0f} of them at least\n",
             format_bytes(static_cast<std::uint64_t>(plan.state_bytes)),
             std::ceil(plan.state_bytes / gpu.memory_bytes));
}

void print_inference(const InferencePlan& plan, const CostArguments& arguments,
                     const GpuKind& gpu) {
  const InferenceOptions& options = arguments.inference;
  fmt::print("\nrunning it, {:.0f} sequences of {:.0f} tokens, weights of {:g} bits, on {} x {}\n",
             options.batch, options.context, options.weight_bits, plan.gpus, gpu.name);
  fmt::print("  {} of weights, {} of cache a token; a step reads {}\n",
             format_bytes(static_cast<std::uint64_t>(plan.weight_bytes)),
             format_bytes(static_cast<std::uint64_t>(plan.kv_bytes_per_token)),
             format_bytes(static_cast<std::uint64_t>(plan.step_bytes)));
  fmt::print("  at best {} tokens/s written (bound by {}), {} tokens/s read\n",
             short_count(plan.decode_tokens_per_s), plan.bound_by_reads ? "reads" : "arithmetic",
             short_count(plan.prefill_tokens_per_s));
  if (gpu.dollars_per_hour > 0) {
    fmt::print("  at least {} a million written, {} a million read\n",
               dollars(plan.dollars_per_million_output), dollars(plan.dollars_per_million_input));
  }
}

void cost(const CostArguments& arguments, Context& context) {
  const ModelConfig config = config_of(arguments.model, context);
  GpuKind gpu = arguments.gpu == "this" ? this_machine() : find_gpu_kind(arguments.gpu);
  if (arguments.price >= 0) gpu.dollars_per_hour = arguments.price;
  const ParameterCount count = count_parameters(config);
  const ForwardWork forward = forward_work(config, arguments.sequence / 2);
  const InferencePlan inference = plan_inference(config, gpu, arguments.inference);
  std::optional<double> tokens;
  if (!arguments.tokens.empty()) tokens = read_count("--tokens", arguments.tokens);
  std::optional<TrainingPlan> training;
  if (tokens) {
    training = plan_training(config, gpu, {*tokens, arguments.sequence, arguments.mfu});
  }
  const bool v3 = arguments.model == "deepseek-v3";

  if (context.json) {
    Json json{{"model", arguments.model},
              {"parameters", parameters_json(count)},
              {"mtp_block_parameters", count_mtp_block(config).total()},
              {"forward_flop_per_token",
               {{"matrices", forward.matrices}, {"attention", forward.attention}}},
              {"gpu",
               {{"name", gpu.name},
                {"bf16_flop_per_s", gpu.bf16_flop_per_s},
                {"fp8_flop_per_s", gpu.fp8_flop_per_s},
                {"memory_bytes", gpu.memory_bytes},
                {"bytes_per_s", gpu.bytes_per_s},
                {"dollars_per_hour", gpu.dollars_per_hour}}}};
    if (training) {
      json["training"] = {{"tokens", *tokens},
                          {"mfu", arguments.mfu},
                          {"flop_per_token", training->flop_per_token},
                          {"flop", training->flop},
                          {"gpu_hours", training->gpu_hours},
                          {"dollars", training->dollars},
                          {"state_bytes", training->state_bytes}};
    }
    json["inference"] = {{"gpus", inference.gpus},
                         {"weight_bytes", inference.weight_bytes},
                         {"kv_bytes_per_token", inference.kv_bytes_per_token},
                         {"decode_tokens_per_s", inference.decode_tokens_per_s},
                         {"prefill_tokens_per_s", inference.prefill_tokens_per_s},
                         {"bound_by", inference.bound_by_reads ? "reads" : "arithmetic"},
                         {"dollars_per_million_output", inference.dollars_per_million_output},
                         {"dollars_per_million_input", inference.dollars_per_million_input}};
    if (v3) json["published"] = published(config);
    return print_json(json);
  }
  print_parameters(count);
  fmt::print("a forward pass takes {:.4g} GFLOP a token, {:.1f} % of it attention over {:.0f}\n",
             forward.total() / 1e9, 100 * forward.attention / forward.total(), arguments.sequence);
  if (training) print_training(*training, arguments, gpu, *tokens);
  print_inference(inference, arguments, gpu);
  if (v3) print_published(published(config));
}

}  // namespace

void add_cost_command(CLI::App& app, Context& context) {
  CLI::App* command =
      app.add_subcommand("cost", "What training and running a model takes, by its architecture");
  auto arguments = std::make_shared<CostArguments>();
  command
      ->add_option("MODEL", arguments->model,
                   "A published shape (deepseek-v3, deepseek-v2-lite, ...), a config.json, or a "
                   "model that is here")
      ->required();
  command->add_option("--tokens", arguments->tokens, "Train on so many: 14.8T, 300B, 5M")
      ->type_name("N");
  std::string kinds;
  for (const GpuKind& kind : gpu_kinds()) kinds += std::string(kind.name) + ", ";
  command->add_option("--gpu", arguments->gpu, kinds + "or this: this machine's CPUs, measured")
      ->type_name("KIND")
      ->capture_default_str();
  command->add_option("--gpus", arguments->gpus, "So many of them, for the days that it takes")
      ->type_name("N")
      ->check(CLI::Range(1.0, 1e7));
  command->add_option("--price", arguments->price, "Dollars an hour of one, not a round figure")
      ->type_name("X")
      ->check(CLI::Range(0.0, 1e6));
  command->add_option("--mfu", arguments->mfu, "Share of the BF16 peak that training reaches")
      ->type_name("X")
      ->check(CLI::Range(0.001, 1.0))
      ->capture_default_str();
  command->add_option("--sequence", arguments->sequence, "Tokens of a training sequence")
      ->type_name("N")
      ->check(CLI::Range(1.0, 1e8))
      ->capture_default_str();
  InferenceOptions& inference = arguments->inference;
  command->add_option("--batch", inference.batch, "Sequences that are answered at once")
      ->type_name("N")
      ->check(CLI::Range(1.0, 1e6))
      ->capture_default_str();
  command->add_option("--context", inference.context, "Tokens that each of them has")
      ->type_name("N")
      ->check(CLI::Range(1.0, 1e8))
      ->capture_default_str();
  command->add_option("--bits", inference.weight_bits, "Bits of a weight, when it runs")
      ->type_name("X")
      ->check(CLI::Range(1.0, 32.0))
      ->capture_default_str();
  add_json_option(*command, context);
  command->footer("fathom cost deepseek-v3 --tokens 14.8T --mfu 0.389 --gpus 2048");
  command->callback([arguments, &context] { cost(*arguments, context); });
}

}  // namespace fathom
