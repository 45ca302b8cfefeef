#include "cli/train/run.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <utility>

#include "base/cpu_features.h"
#include "base/progress.h"
#include "cli/counts.h"
#include "cli/interrupt.h"
#include "cli/terminal.h"
#include "config/model_cost.h"
#include "train/torch/device.h"
#include "train/torch/peak.h"

namespace fathom {
namespace {

using Json = nlohmann::ordered_json;
using train::RunLine;

/// Numbers of a run that do not change.
struct Yardstick {
  double peak = 0;  // FLOP/s
  double dollars_per_hour = 0;
  double total_tokens = 0;
};

/// One line that says where a run is.
std::string line_text(const RunLine& line, const Yardstick& yard, double rate) {
  const double left = (yard.total_tokens - line.tokens) / std::max(rate, 1e-9);
  std::string text = fmt::format(
      "step {}  {} of {} tokens  loss {:.4f}  rate {:.2e}  |g| {:.2f}  {} tokens/s  {:.1f} "
      "GFLOP/s  MFU {:.0f} %  ETA {}",
      line.step, short_count(line.tokens), short_count(yard.total_tokens), line.report.loss,
      line.rate, line.report.gradient_norm, short_count(rate), line.flop_per_s / 1e9,
      100 * line.flop_per_s / yard.peak, format_duration(std::max(left, 0.0)));
  if (yard.dollars_per_hour > 0) {
    text += fmt::format("  ${:.2f} to go", left / 3600 * yard.dollars_per_hour);
  }
  return text;
}

Json line_json(const RunLine& line, const Yardstick& yard) {
  Json json{{"step", line.step},
            {"tokens", line.tokens},
            {"loss", line.report.loss},
            {"gradient_norm", line.report.gradient_norm},
            {"rate", line.rate},
            {"tokens_per_s", static_cast<double>(line.report.tokens) / line.seconds},
            {"flop_per_s", line.flop_per_s},
            {"mfu", line.flop_per_s / yard.peak}};
  if (line.evaluation) json["evaluation"] = *line.evaluation;
  if (!line.samples.empty()) json["samples"] = line.samples;
  return json;
}

/// Draws the line in place at a terminal, else one every five seconds.
class Reporter {
 public:
  Reporter(const Context& context, const Yardstick& yard, std::vector<std::string> prompts)
      : context_(context), yard_(yard), prompts_(std::move(prompts)) {}
  ~Reporter() { end_line(); }

  void report(const RunLine& line, bool last) {
    if (context_.json) return print_json(line_json(line, yard_));
    const double rate = static_cast<double>(line.report.tokens) / line.seconds;
    rate_ = rate_ == 0 ? rate : 0.9 * rate_ + 0.1 * rate;
    const auto now = std::chrono::steady_clock::now();
    if (terminal_) {
      fmt::print(stderr, "\r\x1B[K{}", line_text(line, yard_, rate_));
      std::fflush(stderr);
      open_ = true;
    } else if (last || now - told_ > std::chrono::seconds(5)) {
      fmt::print(stderr, "{}\n", line_text(line, yard_, rate_));
      told_ = now;
    }
    if (line.report.skipped) note("skipped: the loss or the gradient was not finite");
    if (line.evaluation) {
      note(fmt::format("step {}: evaluation loss {:.4f}, perplexity {:.2f}", line.step,
                       *line.evaluation, std::exp(*line.evaluation)));
    }
    for (std::size_t i = 0; i < line.samples.size(); ++i) {
      note(terminal_ ? fmt::format("  {}\x1B[1m{}\x1B[0m", prompts_[i], line.samples[i])
                     : fmt::format("  {}|{}", prompts_[i], line.samples[i]));
    }
  }

 private:
  void note(const std::string& text) {
    end_line();
    fmt::print(stderr, "{}\n", text);
  }
  void end_line() {
    if (std::exchange(open_, false)) fmt::print(stderr, "\n");
  }

  const Context& context_;
  const Yardstick& yard_;
  const std::vector<std::string> prompts_;
  const bool terminal_ = stderr_is_terminal();
  std::chrono::steady_clock::time_point told_;
  double rate_ = 0;
  bool open_ = false;
};

const char* precision_name(const train::TwinOptions& twin) {
  if (twin.fp8) return "fp8";
  return twin.compute == at::kFloat ? "f32" : "bf16";
}

/// Three real steps in a folder that goes, and what the whole run would take by them.
void dry_run(train::RunOptions options, const Yardstick& yard, Context& context) {
  const PassingFolder folder;
  options.run = folder.path();
  options.save_every = options.evaluate_every = 0;
  options.evaluation.clear();
  // As large as steps get, not as they begin.
  options.batch.first = 0;
  train::TrainingRun run(options);
  const ParameterCount count = count_parameters(run.model().config());
  double best = 0;
  for (int i = 0; i < 3 && !run.done(); ++i) {
    const RunLine line = run.step();
    best = std::max(best, static_cast<double>(line.report.tokens) / line.seconds);
  }
  const double seconds = yard.total_tokens / best;
  const double flop = run.flop_per_token() * yard.total_tokens;
  const double cost = seconds / 3600 * yard.dollars_per_hour;
  const std::uint64_t peak_bytes = peak_memory();
  if (context.json) {
    return print_json(
        {{"parameters", count.total()},
         {"active_parameters", count.active()},
         {"flop_per_token", run.flop_per_token()},
         {"flop", flop},
         {"tokens_per_s", best},
         {"mfu", best * run.flop_per_token() / yard.peak},
         {"seconds", seconds},
         {"dollars", cost},
         {"peak_memory_bytes", peak_bytes},
         {"peak_device_memory_bytes", train::peak_device_memory(options.twin.device).value_or(0)},
         {"epochs", yard.total_tokens / options.rows->tokens()},
         {"precision", precision_name(options.twin)}});
  }
  print_parameters(count);
  fmt::print("precision   {}\n", precision_name(options.twin));
  fmt::print("work        {:.3g} FLOP ({:.4g} MFLOP a token), {:.1f} times through the data\n",
             flop, run.flop_per_token() / 1e6, yard.total_tokens / options.rows->tokens());
  fmt::print("memory      {}{} at most in three steps\n", format_bytes(peak_bytes),
             device_memory_text(options.twin.device));
  fmt::print("time        {} at {} tokens/s, MFU {:.0f} %", format_duration(seconds),
             short_count(best), 100 * best * run.flop_per_token() / yard.peak);
  if (cost > 0) fmt::print("; ${:.2f}", cost);
  fmt::print("\n");
}

}  // namespace

PassingFolder::PassingFolder() {
  const std::filesystem::path place = std::filesystem::temp_directory_path();
  std::string folder = (place / "fathom-dry-XXXXXX").string();
  require(::mkdtemp(folder.data()) != nullptr, ErrorCode::Io, "cannot make a folder in {}",
          place.string());
  path_ = folder;
}

PassingFolder::~PassingFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::uint64_t peak_memory() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
}

void print_parameters(const ParameterCount& count) {
  fmt::print("parameters  {} of which {} work on a token\n",
             short_count(static_cast<double>(count.total())),
             short_count(static_cast<double>(count.active())));
}

Crew join_ranks(const MachineArguments& machine) {
  train::RankSetup setup =
      train::rank_setup([](const char* name) -> const char* { return std::getenv(name); });
  setup.patience = std::chrono::seconds(machine.rank_patience);
  if (machine.threads > 0) {
    at::set_num_threads(machine.threads);
  } else if (setup.here > 1 && std::getenv("OMP_NUM_THREADS") == nullptr) {
    at::set_num_threads(std::max(1, at::get_num_threads() / setup.here));
  }
  Crew crew;
  crew.device = train::training_device(machine.device, setup.place);
  crew.ranks = train::Ranks::join(setup, crew.device);
  return crew;
}

void tell_start(const Crew& crew, const Context& context) {
  const std::string ranks =
      crew.ranks.alone() ? "" : fmt::format("{} ranks, this one ", crew.ranks.size());
  if (ranks.empty() && crew.device.is_cpu()) return;
  print_note(context, fmt::format("{}on {}", ranks, train::device_text(crew.device)));
}

std::string device_memory_text(const at::Device& device) {
  const auto bytes = train::peak_device_memory(device);
  return bytes ? fmt::format(", {} of the GPU's", format_bytes(*bytes)) : "";
}

void add_machine_options(CLI::App& command, MachineArguments& machine) {
  command.add_option("--threads", machine.threads, "0: all CPUs")
      ->type_name("X")
      ->check(CLI::Range(0, 4096))
      ->capture_default_str();
  command
      .add_option("--device", machine.device,
                  "cpu, cuda, cuda:N, or auto: a GPU if PyTorch finds one")
      ->type_name("NAME")
      ->capture_default_str();
  command
      .add_option("--rank-patience", machine.rank_patience,
                  "How long to wait for other ranks that say nothing")
      ->type_name("SECONDS")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
}

Tokenizer tokenizer_of(const train::RunOptions& options) {
  return Tokenizer::from_json(options.texts.tokenizer, options.texts.tokenizer_config);
}

TokenId control_token(const Tokenizer& tokenizer, const std::string& text, const char* what) {
  const auto id = tokenizer.token_to_id(text);
  require(id.has_value(), ErrorCode::InvalidArgument, "the vocabulary has no token '{}' for {}",
          text, what);
  return *id;
}

TokenId ending_token(const Tokenizer& tokenizer, const std::string& text, const char* what) {
  if (!text.empty()) return control_token(tokenizer, text, "the end");
  require(tokenizer.eos().has_value(), ErrorCode::InvalidArgument,
          "the vocabulary does not say which token ends {}: --end names it", what);
  return *tokenizer.eos();
}

train::RunOptions run_options(const RunArguments& arguments) {
  train::RunOptions options = arguments.options;
  const std::filesystem::path folder = arguments.model;
  options.texts = train::read_model_texts(folder);
  const bool has_weights = std::filesystem::exists(folder / "model.safetensors") ||
                           std::filesystem::exists(folder / "model.safetensors.index.json");
  if (has_weights && !arguments.from_scratch) options.weights = folder;
  options.rate.shape = train::rate_shape(arguments.schedule);
  options.optimizer.kind = train::optimizer_kind(arguments.optimizer);
  const std::string& precision = arguments.precision;
  require(precision == "auto" || precision == "bf16" || precision == "f32" || precision == "fp8",
          ErrorCode::InvalidArgument, "--precision {}: there are auto, bf16, f32 and fp8",
          precision);
  options.twin.fp8 = precision == "fp8";
  const Tokenizer tokenizer = tokenizer_of(options);
  options.end = ending_token(tokenizer, arguments.end, "a text");
  return options;
}

namespace {

/// "auto" is BF16 if every rank's device multiplies it. On a CPU that does not, BF16 is taken apart
/// for each product, and F32 is more than twice as quick (docs/performance.md).
at::ScalarType compute_type(const std::string& precision, const Crew& crew) {
  if (precision != "auto") return precision == "f32" ? at::kFloat : at::kBFloat16;
  const CpuFeatures& cpu = cpu_features();
  const bool here = !crew.device.is_cpu() || cpu.avx512_bf16 || cpu.amx_bf16;
  return crew.ranks.most(here ? 0 : 1) > 0 ? at::kFloat : at::kBFloat16;
}

/// The model to learn from, whose tokens must be the student's.
train::Teacher load_teacher(const train::RunOptions& options, const RunArguments& arguments) {
  const Tokenizer own = tokenizer_of(options);
  const train::ModelTexts texts = train::read_model_texts(arguments.teacher);
  const Tokenizer theirs = Tokenizer::from_json(texts.tokenizer, texts.tokenizer_config);
  require(
      own.vocab_size() == theirs.vocab_size(), ErrorCode::InvalidArgument,
      "{} has {} tokens and the student {}: only its answers can be learned from ('fathom train "
      "sample'), not its distributions",
      arguments.teacher, theirs.vocab_size(), own.vocab_size());
  for (std::size_t i = 0; i < own.vocab_size(); ++i) {
    const TokenId id{static_cast<std::int32_t>(i)};
    require(own.piece(id) == theirs.piece(id), ErrorCode::InvalidArgument,
            "token {} is '{}' for {} and '{}' for the student: their distributions do not match", i,
            theirs.piece(id), arguments.teacher, own.piece(id));
  }
  train::TwinOptions twin = options.twin;
  twin.mtp_depth = 0;
  twin.fp8 = false;
  train::Teacher teacher;
  const auto weights = open_checkpoint(arguments.teacher);
  teacher.model =
      std::make_shared<train::TorchModel>(train::TorchModel::load(*weights, twin).frozen_copy());
  teacher.digest = train::weights_digest(*weights);
  teacher.vocabulary = static_cast<std::int64_t>(own.vocab_size());
  teacher.weight = arguments.teacher_weight;
  teacher.temperature = arguments.teacher_temperature;
  return teacher;
}

}  // namespace

void run_training(train::RunOptions options, const RunArguments& arguments, Context& context) {
  const Crew crew = join_ranks(arguments.machine);
  const train::Ranks ranks = options.ranks = crew.ranks;
  options.twin.device = crew.device;
  options.twin.compute = compute_type(arguments.precision, crew);
  require(ranks.alone() || !arguments.dry_run, ErrorCode::InvalidArgument,
          "a dry run is one process's affair: it was started as {} ranks", ranks.size());
  require(!ranks.alone() || !options.expert_parallel, ErrorCode::InvalidArgument,
          "--expert-parallel wants several ranks: torchrun or mpirun start them");
  if (!arguments.teacher.empty()) options.trainer.teacher = load_teacher(options, arguments);
  require(options.lora.rank == 0 || !options.weights.empty(), ErrorCode::InvalidArgument,
          "adapters adapt a model that has weights, and {} has none", arguments.model);
  Yardstick yard;
  yard.peak = ranks.sum(train::measure_product_peak(options.twin.compute, options.twin.device));
  yard.dollars_per_hour = arguments.dollars_per_hour;
  yard.total_tokens = options.tokens;
  if (arguments.dry_run) return dry_run(options, yard, context);

  train::TrainingRun run(options);
  const bool tells = ranks.first();
  if (tells) tell_start(crew, context);
  if (tells && run.resumed()) {
    print_note(context, fmt::format("goes on from step {} ({} tokens)", run.steps(),
                                    short_count(run.tokens())));
  } else if (tells && !options.weights.empty()) {
    print_note(context, fmt::format("begins with the weights of {}", options.weights.string()));
  }
  const InterruptGuard guard;
  Reporter reporter(context, yard, options.prompts);
  while (!run.done()) {
    const RunLine line = run.step();
    if (tells) reporter.report(line, run.done());
    // Told to one of them, all stop after the same step.
    if (ranks.most(InterruptGuard::take() ? 1 : 0) > 0) {
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

void add_lora_options(CLI::App& command, train::LoraOptions& lora) {
  command.add_option("--lora-rank", lora.rank, "Train adapters of this rank alone; 0: all weights")
      ->type_name("X")
      ->check(CLI::Range(0, 4096))
      ->capture_default_str();
  command.add_option("--lora-alpha", lora.alpha, "Adapters count alpha / rank")
      ->type_name("X")
      ->capture_default_str();
  command
      .add_option("--lora-target", lora.targets,
                  "Matrices to adapt, as q_proj; without it all but the experts'")
      ->type_name("NAME ...");
}

void add_run_options(CLI::App& command, RunArguments& arguments) {
  train::RunOptions& o = arguments.options;
  const auto number = [&](const char* name, auto& value, const char* help) {
    return command.add_option(name, value, help)->type_name("X")->capture_default_str();
  };
  command.add_option("MODEL", arguments.model, "A folder with config.json and tokenizer.json")
      ->type_name("FOLDER")
      ->required();
  command.add_option("--run", o.run, "Checkpoints and log; what is there is gone on with")
      ->type_name("FOLDER")
      ->required();
  command.add_flag("--from-scratch", arguments.from_scratch,
                   "Random weights, though the folder has some");
  command.add_option("--prompt", o.prompts, "Gone on with after each evaluation")
      ->type_name("TEXT");
  number("--rows", o.batch.last, "Rows of a step")->check(CLI::Range(1, 1 << 20));
  number("--first-rows", o.batch.first, "Rows of the first steps, growing as V3's did; 0: --rows")
      ->check(CLI::Range(0, 1 << 20));
  number("--micro-rows", o.micro_rows, "Rows that go through the model at once")
      ->check(CLI::Range(1, 1 << 16));
  command.add_option("--end", arguments.end, "The token that ends a text")->type_name("TOKEN");
  number("--rate", o.rate.peak, "Learning rate at its peak");
  number("--warmup", o.rate.warmup_steps, "Steps of linear warm-up")->check(CLI::Range(0, 1 << 30));
  number("--schedule", arguments.schedule, "constant, cosine, wsd or v3");
  number("--optimizer", arguments.optimizer, "adamw or muon");
  number("--weight-decay", o.optimizer.weight_decay, "Of matrices");
  number("--clip", o.trainer.clip, "Of the gradient's norm; 0: none");
  number("--mtp", o.twin.mtp_depth, "Blocks of multi-token prediction")->check(CLI::Range(0, 1));
  number("--mtp-weight", o.trainer.mtp_weight, "Of their loss");
  number("--balance-alpha", o.trainer.balance_alpha, "Of the sequence-wise balance loss");
  number("--bias-speed", o.trainer.bias_speed, "Of the routers' biases (gamma)");
  number("--deviation", o.deviation, "Standard deviation of random weights");
  number("--precision", arguments.precision,
         "bf16 (weights stay F32), f32, fp8 (simulated: V3's numerics, not its speed), or auto: "
         "bf16 where it is multiplied as such, else f32");
  number("--seed", o.seed, "The same seed, the same run");
  number("--save-every", o.save_every, "Steps between checkpoints; 0: only the last");
  number("--keep", o.keep, "Checkpoints to keep beside the best")->check(CLI::Range(1, 1000));
  number("--evaluate-every", o.evaluate_every, "Steps between evaluations and samples");
  number("--dollars-per-hour", arguments.dollars_per_hour, "What this machine costs");
  add_machine_options(command, arguments.machine);
  command.add_flag("--recompute", o.twin.recompute,
                   "Make activations again on the way back: less memory, a third more time");
  command.add_flag("--expert-parallel", o.expert_parallel,
                   "Spread the experts over the ranks, and send tokens to them");
  add_lora_options(command, o.lora);
  command.add_option("--teacher", arguments.teacher, "A model whose distributions are learned")
      ->type_name("FOLDER");
  number("--teacher-weight", arguments.teacher_weight,
         "Of its divergence; the texts' own loss has the rest")
      ->check(CLI::Range(0.0, 1.0));
  number("--teacher-temperature", arguments.teacher_temperature, "Of both distributions")
      ->check(CLI::Range(0.1, 100.0));
  command.add_flag("--tensorboard", o.tensorboard, "Event files for TensorBoard beside the log");
  command.add_flag("--dry-run", arguments.dry_run,
                   "Make three steps, tell what the run would take, and leave nothing");
}

}  // namespace fathom
