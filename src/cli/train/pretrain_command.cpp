// `fathom train pretrain`: next tokens of plain text.
#include <CLI/CLI.hpp>

#include <filesystem>
#include <memory>

#include "cli/counts.h"
#include "cli/train/commands.h"
#include "cli/train/run.h"
#include "train/corpus_rows.h"

namespace fathom {
namespace {

struct PretrainArguments {
  RunArguments run;
  std::string tokens;
  std::vector<std::filesystem::path> data, evaluation;
  std::size_t row_tokens = 1024, evaluation_rows = 64;
  bool together = false;
  double fim = 0;
};

void pretrain(const PretrainArguments& arguments, Context& context) {
  train::RunOptions options = run_options(arguments.run);
  options.tokens = read_count("--tokens", arguments.tokens);
  options.row_tokens = arguments.row_tokens;
  options.separate = !arguments.together;
  const Tokenizer tokenizer = tokenizer_of(options);
  train::PackOptions pack;
  pack.row_tokens = arguments.row_tokens;
  pack.ahead = options.twin.mtp_depth > 0 ? 2 : 1;
  pack.separate = options.separate;
  pack.end_of_document = options.end;
  pack.seed = options.seed;
  if (arguments.fim > 0) {
    constexpr const char* kWhat = "fill-in-the-middle";
    pack.middle = {arguments.fim, control_token(tokenizer, "<｜fim▁begin｜>", kWhat),
                   control_token(tokenizer, "<｜fim▁hole｜>", kWhat),
                   control_token(tokenizer, "<｜fim▁end｜>", kWhat)};
  }
  options.rows = std::make_shared<train::CorpusRows>(arguments.data, tokenizer, pack);
  if (!arguments.evaluation.empty()) {
    options.evaluation =
        train::CorpusRows(arguments.evaluation, tokenizer, pack).first(arguments.evaluation_rows);
  }
  run_training(options, arguments.run, context);
}

}  // namespace

void add_pretrain_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("pretrain", "Train on plain text");
  auto arguments = std::make_shared<PretrainArguments>();
  add_run_options(*command, arguments->run);
  const auto number = [&](const char* name, auto& value, const char* help) {
    return command->add_option(name, value, help)->type_name("X")->capture_default_str();
  };
  command->add_option("--data", arguments->data, "Files of tokens (fathom train corpus)")
      ->type_name("FILE")
      ->required();
  command->add_option("--tokens", arguments->tokens, "To train on: 300K, 5M, 1e9")
      ->type_name("N")
      ->required();
  command->add_option("--evaluation", arguments->evaluation, "Files that are not trained on")
      ->type_name("FILE");
  number("--evaluation-rows", arguments->evaluation_rows, "Rows to evaluate on");
  number("--row-tokens", arguments->row_tokens, "Tokens of a row")->check(CLI::Range(2, 1 << 20));
  command->add_flag("--together", arguments->together,
                    "Documents of a row see each other, as in V3 (else each is by itself)");
  number("--fim", arguments->fim, "Share of documents to fill in the middle of (V3: 0.1)")
      ->check(CLI::Range(0.0, 1.0));
  add_json_option(*command, context);
  command->callback([arguments, &context] { pretrain(*arguments, context); });
}

}  // namespace fathom
