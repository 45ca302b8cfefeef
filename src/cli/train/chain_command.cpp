// `fathom train chain-data`: the texts and tasks of the default experiment.
#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <memory>

#include "base/atomic_file.h"
#include "cli/train/commands.h"
#include "train/chain_arithmetic.h"

namespace fathom {
namespace {

struct ChainArguments {
  train::ChainTextOptions options;
  std::string output;
  std::uint64_t count = 100'000, first = 0;
  bool tasks = false;
};

void chain_data(const ChainArguments& arguments, Context& context) {
  const train::ChainTextOptions& options = arguments.options;
  require(options.fewest <= options.most, ErrorCode::InvalidArgument,
          "--fewest {} is more than --most {}", options.fewest, options.most);
  AtomicFile out(arguments.output);
  for (std::uint64_t i = arguments.first; i < arguments.first + arguments.count; ++i) {
    nlohmann::ordered_json line;
    if (arguments.tasks) {
      const std::size_t operations = options.fewest + i % (options.most - options.fewest + 1);
      const train::ChainProblem problem = train::chain_problem(options.seed, i, operations);
      line = {{"prompt", problem.question()},
              {"answer", std::to_string(problem.answer())},
              {"thought", problem.thought()}};
    } else {
      line = {{"text", train::chain_text(options, i)}};
    }
    out.write(line.dump() + "\n");
  }
  out.commit();
  if (context.json) {
    return print_json({{"output", arguments.output}, {"lines", arguments.count}});
  }
  fmt::print("{}: {} {}\n", arguments.output, arguments.count, arguments.tasks ? "tasks" : "texts");
}

}  // namespace

void add_chain_command(CLI::App& app, Context& context) {
  CLI::App* command =
      app.add_subcommand("chain-data", "Make chains of arithmetic, the default experiment's data");
  auto arguments = std::make_shared<ChainArguments>();
  train::ChainTextOptions& o = arguments->options;
  command->add_option("-o,--output", arguments->output, "JSON lines to write")
      ->type_name("FILE")
      ->required();
  const auto number = [&](const char* name, auto& value, const char* help) {
    return command->add_option(name, value, help)->type_name("N")->capture_default_str();
  };
  number("--count", arguments->count, "Lines")->check(CLI::Range(1, 1 << 30));
  number("--first", arguments->first, "Number of the first: others, of the same seed");
  number("--fewest", o.fewest, "Operations at least")->check(CLI::Range(1, 1000));
  number("--most", o.most, "Operations at most")->check(CLI::Range(1, 1000));
  number("--thinking", o.thinking, "Share of texts that think")->check(CLI::Range(0.0, 1.0));
  number("--seed", o.seed, "The same seed, the same problems");
  command->add_flag("--tasks", arguments->tasks, "Questions with their answers, not texts");
  add_json_option(*command, context);
  command->callback([arguments, &context] { chain_data(*arguments, context); });
}

}  // namespace fathom
