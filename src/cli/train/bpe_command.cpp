// `fathom train bpe`: learns a vocabulary.
#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <memory>

#include "base/atomic_file.h"
#include "cli/train/commands.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/tokenizer_json_writer.h"
#include "train/bpe_trainer.h"
#include "train/documents.h"

namespace fathom {
namespace {

struct BpeArguments {
  std::vector<std::string> files;
  std::string output = "tokenizer.json", field = "text", pre_tokenizer = "deepseek-v3";
  train::BpeTrainerOptions options;
};

PreTokenizer pre_tokenizer_of(const std::string& name) {
  std::string names;
  for (const PreTokenizer kind :
       {PreTokenizer::DeepSeekV3, PreTokenizer::Gpt2, PreTokenizer::SmolLm, PreTokenizer::Llama3,
        PreTokenizer::Qwen2, PreTokenizer::DeepSeekLlm, PreTokenizer::DeepSeekCoder}) {
    if (name == to_string(kind)) return kind;
    names += (names.empty() ? "" : ", ") + std::string(to_string(kind));
  }
  fail(ErrorCode::InvalidArgument, "no pre-tokenizer is called '{}'; there are {}", name, names);
}

void bpe(const BpeArguments& arguments, Context& context) {
  train::BpeTrainerOptions options = arguments.options;
  options.pre_tokenizer = pre_tokenizer_of(arguments.pre_tokenizer);
  options.progress = context.progress();
  train::BpeTrainer trainer(options);
  std::size_t documents = 0, bytes = 0;
  for (const std::string& file : arguments.files) {
    train::DocumentOptions reading;
    reading.field = arguments.field;
    train::read_documents(file, reading, [&](const train::Document& document) {
      trainer.feed(document.text);
      ++documents;
      bytes += document.text.size();
    });
  }
  const TokenizerSpec spec = trainer.train();
  AtomicFile out(arguments.output);
  out.write(write_tokenizer_json(spec));
  out.commit();
  if (context.json) {
    return print_json({{"output", arguments.output},
                       {"documents", documents},
                       {"bytes", bytes},
                       {"distinct_words", trainer.distinct_words()},
                       {"vocab_size", spec.pieces.size()},
                       {"merges", spec.merges.size()}});
  }
  fmt::print("{}: {} tokens, {} merges, from {} documents ({}, {} words)\n", arguments.output,
             spec.pieces.size(), spec.merges.size(), documents, format_bytes(bytes),
             trainer.distinct_words());
  if (spec.pieces.size() < options.vocab_size) {
    print_note(context, "the text has no more pairs to merge: it is too small for so many tokens");
  }
}

}  // namespace

void add_bpe_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("bpe", "Learn a byte-level BPE vocabulary");
  auto arguments = std::make_shared<BpeArguments>();
  command->add_option("FILE", arguments->files, "JSON lines (*.jsonl), or texts")->required();
  command->add_option("-o,--output", arguments->output, "The tokenizer.json to write")
      ->type_name("FILE")
      ->capture_default_str();
  command
      ->add_option("--vocab-size", arguments->options.vocab_size,
                   "Tokens, special ones and the 256 bytes included")
      ->type_name("N")
      ->check(CLI::Range(256, 1 << 20))
      ->capture_default_str();
  command
      ->add_option("--special", arguments->options.special_tokens,
                   "Special tokens, which get the first ids in this order")
      ->type_name("TOKEN");
  command
      ->add_option("--token", arguments->options.added_tokens,
                   "Further tokens, found whole in any text: <think>")
      ->type_name("TOKEN");
  command
      ->add_option("--min-frequency", arguments->options.min_frequency,
                   "Merge no pair that is met less often")
      ->type_name("N");
  command
      ->add_option("--pre-tokenizer", arguments->pre_tokenizer,
                   "How text is cut into words: deepseek-v3, gpt-2, smollm, llama-3, qwen2, ...")
      ->type_name("NAME")
      ->capture_default_str();
  command->add_option("--field", arguments->field, "Of JSON lines, the field with the text")
      ->type_name("NAME")
      ->capture_default_str();
  add_json_option(*command, context);
  command->callback([arguments, &context] { bpe(*arguments, context); });
}

}  // namespace fathom
