// `fathom train evaluate`: how good a model is at tasks with right answers.
#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "base/atomic_file.h"
#include "cli/terminal.h"
#include "cli/train/commands.h"
#include "cli/train/run.h"
#include "engine/exact_answer.h"
#include "train/evaluation.h"
#include "train/rollouts.h"
#include "train/torch/model_folder.h"

namespace fathom {
namespace {

using Json = nlohmann::ordered_json;
using train::Evaluation;

struct EvaluateArguments {
  std::string model;
  TaskArguments tasks;
  std::filesystem::path output;
  train::EvaluationOptions options;
  std::size_t most = 1000;
};

Json to_json(const Evaluation& e) {
  const auto right = static_cast<std::size_t>(e.greedy * static_cast<double>(e.tasks) + 0.5);
  const Interval interval = wilson_interval(right, e.tasks);
  Json json{{"tasks", e.tasks},   {"greedy", e.greedy}, {"interval", {interval.low, interval.high}},
            {"length", e.length}, {"thinks", e.thinks}, {"samples", e.samples}};
  for (const Evaluation::Tries& t : e.tries) {
    json["tries"].push_back({{"k", t.k}, {"pass", t.pass}, {"majority", t.majority}});
  }
  for (const Evaluation::Budget& b : e.budgets) {
    json["budgets"].push_back({{"tokens", b.tokens}, {"right", b.right}, {"length", b.length}});
  }
  return json;
}

void print(const Evaluation& e) {
  const auto right = static_cast<std::size_t>(e.greedy * static_cast<double>(e.tasks) + 0.5);
  const Interval interval = wilson_interval(right, e.tasks);
  fmt::print("greedy    {:.1f} % of {} ({:.1f}-{:.1f}), {:.1f} tokens, {:.0f} % think\n",
             100 * e.greedy, e.tasks, 100 * interval.low, 100 * interval.high, e.length,
             100 * e.thinks);
  for (const Evaluation::Tries& t : e.tries) {
    fmt::print("pass@{:<4} {:.1f} %   maj@{:<4} {:.1f} %\n", t.k, 100 * t.pass, t.k,
               100 * t.majority);
  }
  for (const Evaluation::Budget& b : e.budgets) {
    fmt::print("at most {:4} tokens of thought: {:.1f} % right, {:.1f} tokens\n", b.tokens,
               100 * b.right, b.length);
  }
}

void evaluate(const EvaluateArguments& arguments, Context& context) {
  const train::ModelTexts texts = train::read_model_texts(arguments.model);
  const Tokenizer tokenizer = Tokenizer::from_json(texts.tokenizer, texts.tokenizer_config);
  train::EvaluationOptions options = arguments.options;
  options.end = ending_token(tokenizer, arguments.tasks.end, "an answer");
  options.progress = context.progress();
  std::vector<train::RlTask> tasks = read_tasks(arguments.tasks, arguments.model, tokenizer);
  if (tasks.size() > arguments.most) tasks.resize(arguments.most);
  const auto engine =
      train::rollout_engine(open_checkpoint(arguments.model), tokenizer,
                            {.prompt_tokens = longest_prompt(tasks),
                             .max_tokens = options.max_tokens,
                             .requests = tasks.size() * std::max<std::size_t>(1, options.samples)});
  const Evaluation result = train::evaluate(*engine, tokenizer, tasks, options);
  if (!arguments.output.empty()) {
    AtomicFile file(arguments.output);
    file.write(to_json(result).dump(1) + "\n");
    file.commit();
  }
  if (context.json) {
    print_json(to_json(result));
  } else {
    print(result);
  }
}

}  // namespace

void add_evaluate_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand(
      "evaluate", "Answers to tasks: greedy, of many tries, and with less thought");
  auto arguments = std::make_shared<EvaluateArguments>();
  const auto number = [&](const char* name, auto& value, const char* help) {
    return command->add_option(name, value, help)->type_name("X")->capture_default_str();
  };
  command->add_option("MODEL", arguments->model, "The model's folder")
      ->type_name("FOLDER")
      ->required();
  add_task_options(*command, arguments->tasks);
  command->add_option("-o,--output", arguments->output, "Write the result as JSON too")
      ->type_name("FILE");
  number("--most", arguments->most, "Tasks at most")->check(CLI::Range(1, 1 << 24));
  number("--samples", arguments->options.samples, "Answers to each, beside the greedy one")
      ->check(CLI::Range(0, 4096));
  number("--temperature", arguments->options.temperature, "Of the samples")
      ->check(CLI::Range(0.01, 10.0));
  number("--max-tokens", arguments->options.max_tokens, "Of an answer")
      ->check(CLI::Range(1, 1 << 20));
  command
      ->add_option("--budget", arguments->options.budgets,
                   "Most tokens of a thought, which is closed there")
      ->type_name("N ...");
  number("--seed", arguments->options.seed, "The same seed, the same answers");
  add_json_option(*command, context);
  command->callback([arguments, &context] { evaluate(*arguments, context); });
}

}  // namespace fathom
