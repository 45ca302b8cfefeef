// `fathom train corpus`: texts become a file of tokens, which every run then maps.
#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <memory>

#include "base/json_guard.h"
#include "cli/train/commands.h"
#include "tokenizer/tokenizer_file.h"
#include "train/documents.h"
#include "train/token_corpus.h"

namespace fathom {
namespace {

struct CorpusArguments {
  std::vector<std::string> files;
  std::string tokenizer, output, field = "text";
};

Tokenizer open_tokenizer(std::filesystem::path path) {
  std::string config;
  if (std::filesystem::is_directory(path)) path /= "tokenizer.json";
  const auto beside = path.parent_path() / "tokenizer_config.json";
  if (std::filesystem::exists(beside)) config = read_tokenizer_config(beside);
  return Tokenizer(tokenizer_spec(read_tokenizer_file(path), config, path.string()));
}

void corpus(const CorpusArguments& arguments, Context& context) {
  const Tokenizer tokenizer = open_tokenizer(arguments.tokenizer);
  std::uintmax_t total = 0;
  for (const std::string& file : arguments.files) {
    std::error_code missing;  // reading it says what is wrong with it
    const std::uintmax_t size = std::filesystem::file_size(file, missing);
    if (!missing) total += size;
  }
  Progress progress(context.progress(), "tokenizing", total);
  train::TokenCorpusWriter writer(arguments.output, tokenizer);
  for (const std::string& file : arguments.files) {
    train::DocumentOptions reading;
    reading.field = arguments.field;
    train::read_documents(file, reading, [&](const train::Document& document) {
      // A document cannot make control tokens.
      writer.add(tokenizer.encode(document.text, {.add_special = false, .parse_special = false}));
      progress.advance(document.text.size());
    });
  }
  writer.commit();
  progress.finish();
  if (context.json) {
    return print_json({{"output", arguments.output},
                       {"documents", writer.documents()},
                       {"tokens", writer.tokens()},
                       {"vocab_size", tokenizer.vocab_size()}});
  }
  fmt::print("{}: {} documents, {} tokens\n", arguments.output, writer.documents(),
             writer.tokens());
}

}  // namespace

void add_corpus_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("corpus", "Make a file of tokens from texts");
  auto arguments = std::make_shared<CorpusArguments>();
  command->add_option("FILE", arguments->files, "JSON lines (*.jsonl), or texts")->required();
  command->add_option("--tokenizer", arguments->tokenizer, "A tokenizer.json, or a model's folder")
      ->type_name("PATH")
      ->required();
  command->add_option("-o,--output", arguments->output, "The file of tokens to write")
      ->type_name("FILE")
      ->required();
  command->add_option("--field", arguments->field, "Of JSON lines, the field with the text")
      ->type_name("NAME")
      ->capture_default_str();
  add_json_option(*command, context);
  command->callback([arguments, &context] { corpus(*arguments, context); });
}

}  // namespace fathom
