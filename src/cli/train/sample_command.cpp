// `fathom train sample`: a teacher's answers that are right, for a student to learn.
#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "cli/interrupt.h"
#include "cli/terminal.h"
#include "cli/train/commands.h"
#include "cli/train/run.h"
#include "train/answer_samples.h"
#include "train/rollouts.h"
#include "train/torch/model_folder.h"

namespace fathom {
namespace {

struct SampleArguments {
  std::string model;
  TaskArguments tasks;
  std::filesystem::path output;
  std::vector<std::string> rewards{"exact"};
  train::SampleOptions options;
  double reward_seconds = 10;
  std::size_t most = std::size_t{1} << 40;
};

void sample(const SampleArguments& arguments, Context& context) {
  const train::ModelTexts texts = train::read_model_texts(arguments.model);
  const Tokenizer tokenizer = Tokenizer::from_json(texts.tokenizer, texts.tokenizer_config);
  train::SampleOptions options = arguments.options;
  options.end = ending_token(tokenizer, arguments.tasks.end, "an answer");
  std::vector<train::RlTask> tasks = read_tasks(arguments.tasks, arguments.model, tokenizer);
  if (tasks.size() > arguments.most) tasks.resize(arguments.most);
  std::vector<train::Reward> rewards;
  for (const std::string& reward : arguments.rewards) {
    rewards.push_back(
        train::parse_reward(reward, options.seed, reward_programs(arguments.reward_seconds)));
  }
  const auto engine = train::rollout_engine(open_checkpoint(arguments.model), tokenizer,
                                            {.prompt_tokens = longest_prompt(tasks),
                                             .max_tokens = options.max_tokens,
                                             .requests = options.tasks_at_once * options.group});
  const InterruptGuard guard;
  const train::SampleReport report =
      train::sample_answers(*engine, tasks, rewards, options, arguments.output, context.progress(),
                            [] { return InterruptGuard::take(); });
  if (context.json) {
    print_json({{"tasks", report.tasks},
                {"answered", report.answered},
                {"sampled", report.sampled},
                {"kept", report.kept}});
  } else {
    fmt::print("{}: {} of {} answers kept, to {} of {} tasks\n", arguments.output.string(),
               report.kept, report.sampled, report.answered, report.tasks);
  }
}

}  // namespace

void add_sample_command(CLI::App& app, Context& context) {
  CLI::App* command =
      app.add_subcommand("sample", "Answers of a model that are right, to learn from");
  auto arguments = std::make_shared<SampleArguments>();
  const auto number = [&](const char* name, auto& value, const char* help) {
    return command->add_option(name, value, help)->type_name("X")->capture_default_str();
  };
  command->add_option("MODEL", arguments->model, "The teacher's folder")
      ->type_name("FOLDER")
      ->required();
  add_task_options(*command, arguments->tasks);
  command->add_option("-o,--output", arguments->output, "JSON lines for 'fathom train sft'")
      ->type_name("FILE")
      ->required();
  command
      ->add_option("--reward", arguments->rewards,
                   "What an answer is kept for, as in 'fathom train grpo'")
      ->type_name("REWARD");
  number("--reward-seconds", arguments->reward_seconds, "Patience with a reward's program")
      ->check(CLI::Range(0.001, 86400.0));
  number("--least", arguments->options.least_reward, "Sum of rewards of a kept answer, at least");
  number("--most", arguments->most, "Tasks at most");
  number("--group", arguments->options.group, "Answers to each")->check(CLI::Range(1, 1 << 12));
  number("--kept", arguments->options.most_kept, "Of each task at most, the shortest; 0: all")
      ->check(CLI::Range(0, 1 << 12));
  number("--max-tokens", arguments->options.max_tokens, "Of an answer")
      ->check(CLI::Range(1, 1 << 20));
  number("--temperature", arguments->options.temperature, "Of sampling")
      ->check(CLI::Range(0.01, 10.0));
  number("--seed", arguments->options.seed, "The same seed, the same answers");
  add_json_option(*command, context);
  command->callback([arguments, &context] { sample(*arguments, context); });
}

}  // namespace fathom
