// `fathom train grpo`: reinforcement learning with rewards by rule.
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <memory>

#include "base/progress.h"
#include "cli/interrupt.h"
#include "cli/terminal.h"
#include "cli/train/commands.h"
#include "cli/train/run.h"
#include "train/torch/device.h"
#include "train/torch/grpo.h"

namespace fathom {
namespace {

using Json = nlohmann::ordered_json;
using train::GrpoReport;

struct GrpoArguments {
  train::GrpoOptions options;
  std::string model, variant = "grpo", precision = "f32", schedule = "constant";
  TaskArguments tasks;
  std::vector<std::string> evaluation, rewards{"exact"};
  double reward_seconds = 10;
  std::size_t evaluation_tasks = 200;
  MachineArguments machine;
  bool dry_run = false;
  double dollars_per_hour = 0;
};

/// Published variants, as what they change of GRPO.
void apply_variant(const std::string& name, train::GrpoOptions& options) {
  train::PolicyOptions& policy = options.policy;
  if (name == "grpo") return;
  if (name == "dr-grpo") {
    policy.mean = train::LossMean::Constant;
    policy.divide_by_deviation = false;
  } else if (name == "dapo") {
    policy.clip_high = 0.28;
    policy.mean = train::LossMean::Token;
    options.dynamic_sampling = true;
  } else if (name == "gspo") {
    policy.sequence_ratio = true;
    policy.clip_low = 3e-4;
    policy.clip_high = 4e-4;
  } else if (name == "cispo") {
    policy.keep_gradient = true;
    policy.mean = train::LossMean::Token;
    policy.clip_low = 1;  // no lower bound
    policy.clip_high = 0.28;
  } else {
    fail(ErrorCode::InvalidArgument,
         "no variant is called '{}'; there are grpo, dr-grpo, dapo, gspo, cispo", name);
  }
}

train::GrpoOptions options_of(const GrpoArguments& arguments) {
  train::GrpoOptions options = arguments.options;
  apply_variant(arguments.variant, options);
  options.weights = arguments.model;
  options.texts = train::read_model_texts(arguments.model);
  require(arguments.precision == "bf16" || arguments.precision == "f32", ErrorCode::InvalidArgument,
          "--precision {}: there are bf16 and f32", arguments.precision);
  options.rate.shape = train::rate_shape(arguments.schedule);
  options.twin.compute = arguments.precision == "bf16" ? at::kBFloat16 : at::kFloat;
  options.chat = arguments.tasks.chat;
  options.instruction = arguments.tasks.instruction;
  const auto read = [&](const auto& files, std::vector<train::RlTask>& into) {
    for (const auto& file : files) {
      const auto tasks = train::read_rl_tasks(file, arguments.tasks.fields);
      into.insert(into.end(), tasks.begin(), tasks.end());
    }
  };
  read(arguments.tasks.files, options.tasks);
  read(arguments.evaluation, options.evaluation);
  if (options.evaluation.size() > arguments.evaluation_tasks) {
    options.evaluation.resize(arguments.evaluation_tasks);
  }
  for (const std::string& reward : arguments.rewards) {
    options.rewards.push_back(
        train::parse_reward(reward, options.seed, reward_programs(arguments.reward_seconds)));
  }
  const Tokenizer tokenizer =
      Tokenizer::from_json(options.texts.tokenizer, options.texts.tokenizer_config);
  options.end = ending_token(tokenizer, arguments.tasks.end, "an answer");
  return options;
}

std::string line_text(const GrpoReport& report, const train::GrpoOptions& options, double seconds,
                      double dollars_per_hour) {
  std::string text =
      fmt::format("step {}/{}  reward {:.3f}", report.step, options.steps, report.reward);
  if (options.rewards.size() > 1) {
    for (std::size_t i = 0; i < report.parts.size(); ++i) {
      text += fmt::format("  {} {:.3f}", options.rewards[i].name, report.parts[i]);
    }
  }
  text += fmt::format(
      "  length {:.1f}  cut off {:.0f} %  equal groups {:.0f} %  entropy {:.3f}  |g| {:.2f}  gap "
      "{:.1e}  {:.0f} answers/s",
      report.length, 100 * report.truncated, 100 * report.equal_groups, report.entropy,
      report.gradient_norm, report.gap, report.samples_per_s);
  if (options.replay_routing) text += fmt::format("  rerouted {:.2f} %", 100 * report.rerouted);
  if (options.policy.kl > 0) text += fmt::format("  KL {:.4f}", report.kl);
  const double left = seconds * static_cast<double>(options.steps - report.step);
  text += "  ETA " + format_duration(left);
  if (dollars_per_hour > 0) text += fmt::format("  ${:.2f} to go", left / 3600 * dollars_per_hour);
  return text;
}

std::string evaluation_text(const train::Evaluation& e) {
  std::string text = fmt::format("evaluation on {}: greedy {:.1f} %, {:.1f} tokens", e.tasks,
                                 100 * e.greedy, e.length);
  if (e.samples > 0) {
    text += fmt::format("; at temperature 1 pass@1 {:.1f} %, pass@{} {:.1f} %, maj@{} {:.1f} %",
                        100 * e.sampled, e.samples, 100 * e.any, e.samples, 100 * e.majority);
  }
  return text;
}

Json line_json(const GrpoReport& report) {
  Json json{{"step", report.step},
            {"reward", report.reward},
            {"length", report.length},
            {"truncated", report.truncated},
            {"equal_groups", report.equal_groups},
            {"entropy", report.entropy},
            {"kl", report.kl},
            {"gap", report.gap},
            {"rerouted", report.rerouted},
            {"gradient_norm", report.gradient_norm},
            {"rate", report.rate},
            {"samples_per_s", report.samples_per_s},
            {"skipped", report.skipped}};
  if (report.evaluation) {
    const train::Evaluation& e = *report.evaluation;
    json["evaluation"] = {{"greedy", e.greedy},     {"pass_at_1", e.sampled}, {"pass_at_k", e.any},
                          {"maj_at_k", e.majority}, {"k", e.samples},         {"tasks", e.tasks}};
  }
  return json;
}

void tell(const GrpoReport& report, const train::GrpoOptions& options, double seconds,
          double dollars_per_hour, const Context& context) {
  if (context.json) return print_json(line_json(report));
  fmt::print(stderr, "{}\n", line_text(report, options, seconds, dollars_per_hour));
  if (report.skipped) {
    fmt::print(stderr, "  no update: {}\n",
               report.diverged ? "the loss or the gradient was not finite"
                               : "every group had equal rewards");
  }
  if (!report.evaluation) return;
  fmt::print(stderr, "  {}\n", evaluation_text(*report.evaluation));
  for (const auto& [reward, text] : report.samples) {
    fmt::print(stderr, "  {:.1f}  {}\n", reward, text);
  }
}

/// Two real steps in a folder that goes, and what the whole run would take by the second.
void dry_run(train::GrpoOptions options, double dollars_per_hour, const Context& context) {
  const PassingFolder folder;
  options.run = folder.path();
  options.save_every = options.evaluate_every = 0;
  options.evaluation.clear();
  const auto steps = static_cast<double>(options.steps);
  options.steps = 3;  // the last of a run is saved
  train::Grpo run(options);
  run.step();
  const GrpoReport report = run.step();
  const double step = report.sampling_seconds + report.training_seconds;
  const double cost = steps * step / 3600 * dollars_per_hour;
  const ParameterCount count = count_parameters(run.model().config());
  if (context.json) {
    return print_json(
        {{"parameters", count.total()},
         {"active_parameters", count.active()},
         {"answers_per_s", report.samples_per_s},
         {"tokens_per_answer", report.length},
         {"sampling_seconds", report.sampling_seconds},
         {"training_seconds", report.training_seconds},
         {"flop", steps * report.flop},
         {"seconds", steps * step},
         {"dollars", cost},
         {"peak_memory_bytes", peak_memory()},
         {"peak_device_memory_bytes", train::peak_device_memory(options.twin.device).value_or(0)}});
  }
  print_parameters(count);
  fmt::print("answers     {} a step of {:.0f} tokens, {:.0f} answers/s\n",
             options.questions * options.group, report.length, report.samples_per_s);
  fmt::print("work        {:.3g} FLOP, at {:.1f} GFLOP/s\n", steps * report.flop,
             report.flop / step / 1e9);
  fmt::print("memory      {}{} at most in two steps\n", format_bytes(peak_memory()),
             device_memory_text(options.twin.device));
  fmt::print(
      "time        {} for {:.0f} steps: {:.2f} s of sampling and {:.2f} s of learning each; "
      "longer answers take longer",
      format_duration(steps * step), steps, report.sampling_seconds, report.training_seconds);
  if (cost > 0) fmt::print("; ${:.2f}", cost);
  fmt::print("\n");
}

void grpo(const GrpoArguments& arguments, Context& context) {
  train::GrpoOptions options = options_of(arguments);
  const Crew crew = join_ranks(arguments.machine);
  options.ranks = crew.ranks;
  options.twin.device = crew.device;
  // The engine alone takes all CPUs, whatever PyTorch makes of them.
  if (arguments.machine.threads > 0 || !options.ranks.alone()) {
    options.threads = static_cast<unsigned>(at::get_num_threads());
  }
  require(options.ranks.alone() || !arguments.dry_run, ErrorCode::InvalidArgument,
          "a dry run is one process's affair: it was started as {} ranks", options.ranks.size());
  if (arguments.dry_run) return dry_run(options, arguments.dollars_per_hour, context);
  const bool tells = options.ranks.first();
  train::Grpo run(options);
  if (tells) tell_start(crew, context);
  if (tells && run.resumed()) print_note(context, fmt::format("goes on from step {}", run.steps()));
  if (run.steps() == 0 && !options.evaluation.empty()) {
    const train::Evaluation before = run.evaluate_start();
    if (tells) print_note(context, "before: " + evaluation_text(before));
  }
  const InterruptGuard guard;
  double seconds = 0;
  while (!run.done()) {
    const GrpoReport report = [&] {
      try {
        return run.step();
      } catch (const Error&) {
        run.save();  // a reward that failed costs nothing that came before
        throw;
      }
    }();
    const double step = report.sampling_seconds + report.training_seconds;
    seconds = seconds == 0 ? step : 0.9 * seconds + 0.1 * step;
    if (tells) tell(report, options, seconds, arguments.dollars_per_hour, context);
    if (options.ranks.most(InterruptGuard::take() ? 1 : 0) > 0) {
      run.save();
      fail(ErrorCode::Cancelled, "interrupted after step {}; the same command goes on from there",
           run.steps());
    }
  }
  run.save();
  if (tells && !context.json) {
    fmt::print("{}\n", run.folder().checkpoint(run.steps()).string());
  }
}

void add_options(CLI::App& command, GrpoArguments& arguments) {
  train::GrpoOptions& o = arguments.options;
  o.optimizer.weight_decay = 0;
  const auto number = [&](const char* name, auto& value, const char* help) {
    return command.add_option(name, value, help)->type_name("X")->capture_default_str();
  };
  command.add_option("MODEL", arguments.model, "The model's folder")
      ->type_name("FOLDER")
      ->required();
  add_task_options(command, arguments.tasks);
  command.add_option("--run", o.run, "Checkpoints and log; what is there is gone on with")
      ->type_name("FOLDER")
      ->required();
  command.add_option("--evaluation", arguments.evaluation, "Tasks that are not trained on")
      ->type_name("FILE");
  number("--evaluation-tasks", arguments.evaluation_tasks, "So many of them")
      ->check(CLI::Range(1, 1 << 20));
  number("--evaluation-samples", o.evaluation_samples, "Answers to each for pass@k and maj@k")
      ->check(CLI::Range(0, 1024));
  command
      .add_option(
          "--reward", arguments.rewards,
          "exact, format, random, pattern=REGEX, language=SCRIPT, program=PATH; *WEIGHT after "
          "it")
      ->type_name("REWARD ...");
  number("--reward-seconds", arguments.reward_seconds, "Patience with a reward's program")
      ->check(CLI::Range(0.001, 86400.0));
  number("--variant", arguments.variant, "grpo, dr-grpo, dapo, gspo or cispo");
  number("--steps", o.steps, "Steps")->check(CLI::Range(1, 1 << 30));
  number("--questions", o.questions, "Questions a step")->check(CLI::Range(1, 1 << 16));
  number("--group", o.group, "Answers to each")->check(CLI::Range(2, 1 << 12));
  number("--minibatches", o.minibatches, "Updates that a step's answers are shared out to")
      ->check(CLI::Range(1, 1 << 12));
  number("--max-tokens", o.max_tokens, "Of an answer")->check(CLI::Range(1, 1 << 20));
  number("--temperature", o.temperature, "Of sampling")->check(CLI::Range(0.01, 10.0));
  number("--kl", o.policy.kl, "Weight of the divergence from the reference (beta)");
  number("--refresh-reference", o.refresh_reference, "Steps between; 0: never");
  number("--clip-low", o.policy.clip_low, "Of the ratio, below 1");
  number("--clip-high", o.policy.clip_high, "Of the ratio, above 1");
  number("--truncated-weight", o.policy.truncated_weight,
         "Cap of trainer's over engine's probability as a weight; 0: none");
  command.add_flag("--replay-routing", o.replay_routing,
                   "Tokens go to the experts that the engine sent them to");
  command.add_flag("--dynamic-sampling", o.dynamic_sampling,
                   "Ask anew for groups whose answers all got the same");
  number("--overlong-buffer", o.overlong_buffer, "Tokens before the limit that cost reward");
  number("--rate", o.rate.peak, "Learning rate at its peak");
  number("--warmup", o.rate.warmup_steps, "Steps of linear warm-up");
  number("--schedule", arguments.schedule, "constant, cosine, wsd or v3");
  number("--weight-decay", o.optimizer.weight_decay, "Of matrices");
  number("--clip", o.clip, "Of the gradient's norm; 0: none");
  number("--precision", arguments.precision, "f32, or bf16 (weights stay F32)");
  number("--micro-tokens", o.micro_tokens, "Tokens that go through the model at once");
  number("--seed", o.seed, "The same seed, the same run");
  number("--save-every", o.save_every, "Steps between checkpoints; 0: only the last");
  number("--evaluate-every", o.evaluate_every, "Steps between evaluations; 0: only the last");
  number("--keep", o.keep, "Checkpoints to keep beside the best")->check(CLI::Range(1, 1000));
  command.add_flag("--recompute", o.twin.recompute,
                   "Make activations again on the way back: less memory, a third more time");
  add_lora_options(command, o.lora);
  command.add_flag("--tensorboard", o.tensorboard, "Event files for TensorBoard beside the log");
  add_machine_options(command, arguments.machine);
  number("--dollars-per-hour", arguments.dollars_per_hour, "What this machine costs");
  command.add_flag("--dry-run", arguments.dry_run,
                   "Make two steps, tell what the run would take, and leave nothing");
}

}  // namespace

void add_grpo_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("grpo", "Reinforcement learning with rewards by rule");
  auto arguments = std::make_shared<GrpoArguments>();
  add_options(*command, *arguments);
  add_json_option(*command, context);
  command->callback([arguments, &context] { grpo(*arguments, context); });
}

}  // namespace fathom
