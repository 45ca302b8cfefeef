// `fathom train sft`: answers to questions.
#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <filesystem>
#include <memory>
#include <utility>

#include "cli/train/commands.h"
#include "cli/train/run.h"
#include "train/example_rows.h"

namespace fathom {
namespace {

struct SftArguments {
  RunArguments run;
  std::vector<std::filesystem::path> data, evaluation;
  train::ExampleOptions examples;
  std::size_t row_tokens = 1024, evaluation_rows = 64;
  double epochs = 2;
  bool plain = false;
};

std::vector<train::Example> read(const std::vector<std::filesystem::path>& files,
                                 const Tokenizer& tokenizer, const ChatFormat* chat,
                                 const train::ExampleOptions& options, const Context& context) {
  std::vector<train::Example> all;
  train::ExampleReport report;
  for (const auto& file : files) {
    auto some = train::read_examples(file, tokenizer, chat, options, report);
    std::move(some.begin(), some.end(), std::back_inserter(all));
  }
  if (report.too_long > 0) {
    print_note(context, fmt::format("{} of {} examples have over {} tokens and are left out",
                                    report.too_long, report.read, options.most_tokens));
  }
  if (report.answers_left_out > 0) {
    print_note(context,
               fmt::format("{} earlier answers are not learned: the chat template writes them "
                           "otherwise once they are in the past",
                           report.answers_left_out));
  }
  return all;
}

void sft(const SftArguments& arguments, Context& context) {
  train::RunOptions options = run_options(arguments.run);
  options.kind = "sft";
  options.row_tokens = arguments.row_tokens;
  options.separate = true;
  const Tokenizer tokenizer = tokenizer_of(options);
  std::unique_ptr<ChatFormat> chat;
  if (!arguments.plain) {
    chat = ChatFormat::load(*open_checkpoint(arguments.run.model), tokenizer);
  }
  train::ExampleOptions examples = arguments.examples;
  examples.end = options.end;
  examples.most_tokens = arguments.row_tokens;
  const std::size_t ahead = options.twin.mtp_depth > 0 ? 2 : 1;
  options.rows = std::make_shared<train::ExampleRows>(
      read(arguments.data, tokenizer, chat.get(), examples, context), arguments.row_tokens, ahead,
      options.seed);
  options.tokens = arguments.epochs * options.rows->tokens();
  if (!arguments.evaluation.empty()) {
    options.evaluation =
        train::ExampleRows(read(arguments.evaluation, tokenizer, chat.get(), examples, context),
                           arguments.row_tokens, ahead, options.seed)
            .first(arguments.evaluation_rows);
  }
  run_training(options, arguments.run, context);
}

}  // namespace

void add_sft_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("sft", "Train on questions and their answers");
  auto arguments = std::make_shared<SftArguments>();
  arguments->run.options.rate.peak = 1e-5;
  arguments->run.options.rate.warmup_steps = 10;
  add_run_options(*command, arguments->run);
  const auto number = [&](const char* name, auto& value, const char* help) {
    return command->add_option(name, value, help)->type_name("X")->capture_default_str();
  };
  command
      ->add_option("--data", arguments->data,
                   "JSON lines: messages, or a prompt and its answer, of which answers are learned")
      ->type_name("FILE")
      ->required();
  command->add_option("--evaluation", arguments->evaluation, "Files that are not trained on")
      ->type_name("FILE");
  number("--evaluation-rows", arguments->evaluation_rows, "Rows to evaluate on");
  number("--epochs", arguments->epochs, "Times through the data")->check(CLI::Range(0.01, 1000.0));
  number("--row-tokens", arguments->row_tokens, "Tokens of a row; longer examples are left out")
      ->check(CLI::Range(8, 1 << 20));
  command->add_option("--prompt-field", arguments->examples.prompt_field, "Of an example")
      ->type_name("NAME")
      ->capture_default_str();
  command->add_option("--answer-field", arguments->examples.answer_field, "Of an example")
      ->type_name("NAME")
      ->capture_default_str();
  command->add_flag("--plain", arguments->plain,
                    "Prompt and answer as they are, though the model has a chat template");
  add_json_option(*command, context);
  command->callback([arguments, &context] { sft(*arguments, context); });
}

}  // namespace fathom
