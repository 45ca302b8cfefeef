// `fathom tokenize` and `fathom detokenize`: text to token ids and back, through a model's
// tokenizer.
#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <charconv>
#include <memory>

#include "cli/commands.h"
#include "cli/model_loader.h"
#include "engine/tokenizer_loader.h"

namespace fathom {
namespace {

struct TokenizeOptions {
  std::string model;
  bool no_bos = false;
  bool no_special = false;
  bool count = false;
  bool skip_special = false;
  std::vector<std::string> ids;
};

Tokenizer tokenizer_of(const std::string& model, const Context& context) {
  return load_tokenizer(*open_checkpoint(find_model(model, false, context)));
}

void tokenize(const TokenizeOptions& options, const Context& context) {
  const Tokenizer tokenizer = tokenizer_of(options.model, context);
  const std::vector<TokenId> ids = tokenizer.encode(
      read_stdin(), {.add_special = !options.no_bos, .parse_special = !options.no_special});
  if (context.json) {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    nlohmann::ordered_json pieces = nlohmann::ordered_json::array();
    for (const TokenId id : ids) {
      list.push_back(value(id));
      pieces.push_back(tokenizer.piece(id));
    }
    print_json({{"count", ids.size()}, {"ids", std::move(list)}, {"pieces", std::move(pieces)}});
    return;
  }
  if (options.count) {
    fmt::print("{}\n", ids.size());
    return;
  }
  std::string line;
  for (const TokenId id : ids) line += (line.empty() ? "" : " ") + std::to_string(value(id));
  line += "\n";
  std::fwrite(line.data(), 1, line.size(), stdout);
}

/// Ids as `tokenize` prints them: separated by white space, commas or brackets.
std::vector<TokenId> parse_ids(const std::string& text) {
  constexpr std::string_view kSeparators = " \t\r\n,[]";
  std::vector<TokenId> ids;
  std::size_t at = 0;
  while ((at = text.find_first_not_of(kSeparators, at)) != std::string::npos) {
    const std::size_t end = std::min(text.find_first_of(kSeparators, at), text.size());
    std::int32_t id = 0;
    const auto [stop, error] = std::from_chars(text.data() + at, text.data() + end, id);
    require(error == std::errc{} && stop == text.data() + end, ErrorCode::InvalidArgument,
            "'{}' is no token id", text.substr(at, std::min<std::size_t>(end - at, 40)));
    ids.push_back(TokenId{id});
    at = end;
  }
  return ids;
}

void detokenize(const TokenizeOptions& options, const Context& context) {
  const Tokenizer tokenizer = tokenizer_of(options.model, context);
  std::string given;
  for (const std::string& id : options.ids) given += id + " ";
  if (options.ids.empty()) given = read_stdin();
  const std::string text = tokenizer.decode(parse_ids(given), options.skip_special);
  if (context.json) {
    print_json({{"text", text}});
  } else {
    std::fwrite(text.data(), 1, text.size(), stdout);
  }
}

}  // namespace

void add_tokenize_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("tokenize", "Print the token ids of the text on stdin");
  auto options = std::make_shared<TokenizeOptions>();
  command->add_option("MODEL", options->model, "A name in the store, a GGUF file, or a folder")
      ->type_name("")
      ->required();
  command->add_flag("--no-bos", options->no_bos, "Add no token at the beginning or the end");
  command->add_flag("--no-special", options->no_special,
                    "Take the text of control tokens (\"<|im_end|>\") as plain text");
  command->add_flag("--count", options->count, "Print only how many there are");
  add_json_option(*command, context);
  command->footer("fathom tokenize smollm2:135m < text.txt");
  command->callback([options, &context] { tokenize(*options, context); });
}

void add_detokenize_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("detokenize", "Print the text of token ids");
  auto options = std::make_shared<TokenizeOptions>();
  command->add_option("MODEL", options->model, "A name in the store, a GGUF file, or a folder")
      ->type_name("")
      ->required();
  command->add_option("ID", options->ids, "Token ids; read from stdin if there are none")
      ->type_name("");
  command->add_flag("--skip-special", options->skip_special, "Leave control tokens out");
  add_json_option(*command, context);
  command->footer("fathom tokenize MODEL < text.txt | fathom detokenize MODEL");
  command->callback([options, &context] { detokenize(*options, context); });
}

}  // namespace fathom
