// What runs of training by next tokens share: options, the line of progress, and how they end.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "cli/context.h"
#include "config/model_cost.h"
#include "train/rewards.h"
#include "train/tasks.h"
#include "train/torch/training_run.h"

namespace fathom {

/// What the training commands run on.
struct MachineArguments {
  int threads = 0;
  std::string device = "auto";
  int rank_patience = static_cast<int>(train::RankSetup{}.patience.count());  // seconds
};

struct RunArguments {
  train::RunOptions options;
  std::string model, schedule = "cosine", optimizer = "adamw", precision = "auto", end;
  bool from_scratch = false, dry_run = false;
  double dollars_per_hour = 0;
  MachineArguments machine;
  std::string teacher;
  double teacher_weight = 1, teacher_temperature = 1;
};

/// What commands that ask a model tasks share.
struct TaskArguments {
  std::vector<std::filesystem::path> files;
  train::TaskOptions fields;
  std::string instruction, end;
  bool chat = false;
};
void add_task_options(CLI::App& command, TaskArguments& arguments);
/// Of all files, encoded for the model of that folder. Throws Error(InvalidArgument) if it has no
/// chat template where one is wanted, and what reading throws.
std::vector<train::RlTask> read_tasks(const TaskArguments& arguments,
                                      const std::filesystem::path& model,
                                      const Tokenizer& tokenizer);
std::size_t longest_prompt(std::span<const train::RlTask> tasks);

/// What "program=PATH" rewards run behind: this program's `sandboxed`.
train::ProgramOptions reward_programs(double seconds);

/// A folder for a dry run, that goes with it. Throws Error(Io).
class PassingFolder {
 public:
  PassingFolder();
  ~PassingFolder();
  PassingFolder(const PassingFolder&) = delete;
  PassingFolder& operator=(const PassingFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};
/// Bytes, the most that this process has had so far.
std::uint64_t peak_memory();
void print_parameters(const ParameterCount& count);

/// Who trains, and on what.
struct Crew {
  train::Ranks ranks;
  at::Device device = at::kCPU;
};
/// The ranks that torchrun or mpirun started, or this one alone, each on its device (as
/// training_device() has them); and PyTorch's threads: so many, or with 0 this rank's part of the
/// machine's.
Crew join_ranks(const MachineArguments& machine);
void tell_start(const Crew& crew, const Context& context);
/// What a dry run says of the device's own memory; empty for CPUs.
std::string device_memory_text(const at::Device& device);
/// --threads, --device and --rank-patience.
void add_machine_options(CLI::App& command, MachineArguments& machine);

/// --lora-rank and what belongs to it.
void add_lora_options(CLI::App& command, train::LoraOptions& lora);

/// All options but those of the data.
void add_run_options(CLI::App& command, RunArguments& arguments);

/// What the words mean: the model's texts, weights, types. Rows and tokens are the caller's to set.
/// Throws Error(InvalidArgument), and what reading the folder throws.
train::RunOptions run_options(const RunArguments& arguments);
Tokenizer tokenizer_of(const train::RunOptions& options);
/// Throws Error(InvalidArgument) if the vocabulary has no such token, which is wanted for `what`.
TokenId control_token(const Tokenizer& tokenizer, const std::string& text, const char* what);
/// The token of that text, or if it is empty the vocabulary's own end, which ends `what` ("an
/// answer"). Throws Error(InvalidArgument) if there is none.
TokenId ending_token(const Tokenizer& tokenizer, const std::string& text, const char* what);

/// Runs to the end, telling of it, or only tells what it would take. Throws Error(Cancelled), after
/// saving, when it is interrupted.
void run_training(train::RunOptions options, const RunArguments& arguments, Context& context);

}  // namespace fathom
