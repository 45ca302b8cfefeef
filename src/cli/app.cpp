#include "cli/app.h"

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstdio>
#include <new>
#include <numeric>
#include <string>
#include <vector>

#include "base/version.h"
#include "cli/bus_error.h"
#include "cli/commands.h"

namespace fathom {
namespace {

/// Levenshtein distance, for "did you mean".
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0]++;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t substituted = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({substituted, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

bool is_command(const CLI::App& app, const std::string& name) {
  return !app.get_subcommands([&](const CLI::App* command) { return command->get_name() == name; })
              .empty();
}

/// The complaint about a first argument that names no subcommand.
std::string unknown_command(const CLI::App& app, const std::string& given) {
  std::string nearest;
  std::size_t best = 3;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    const std::size_t distance = edit_distance(given, command->get_name());
    if (distance < best && !command->get_group().empty()) {
      best = distance;
      nearest = command->get_name();
    }
  }
  std::string message = "unknown command '" + given + "'";
  if (!nearest.empty()) message += "; did you mean '" + nearest + "'?";
  return message + " (see '" + app.get_name() + " --help')";
}

int code(ExitCode exit_code) { return static_cast<int>(exit_code); }

int usage_error(const std::string& message, bool json) {
  print_error("usage", message, json);
  return code(ExitCode::Usage);
}

/// "run" when the parser had reached that subcommand.
std::string reached_command(const CLI::App& app) {
  const auto parsed = app.get_subcommands();
  return parsed.empty() ? std::string() : parsed.front()->get_name();
}

int parse_and_run(CLI::App& app, Context& context, int argc, const char* const* argv) {
  const bool json =
      std::any_of(argv + 1, argv + argc, [](std::string_view a) { return a == "--json"; });
  if (argc == 1) {
    std::fputs(app.help().c_str(), stdout);
    return code(ExitCode::Usage);
  }
  const std::string first = argv[1];
  if (!first.empty() && first[0] != '-' && !is_command(app, first)) {
    return usage_error(unknown_command(app, first), json);
  }
  try {
    app.parse(argc, argv);
    return code(context.exit_code);
  } catch (const CLI::Success& done) {  // --help, --version
    app.exit(done);
    return code(ExitCode::Success);
  } catch (const CLI::ParseError& error) {
    const std::string command = reached_command(app);
    std::string message = error.what();
    while (!message.empty() && (message.back() == '\n' || message.back() == '.')) {
      message.pop_back();
    }
    return usage_error(command.empty() ? message
                                       : fmt::format("{}: {} (see '{} {} --help')", command,
                                                     message, app.get_name(), command),
                       json);
  } catch (const Error& error) {
    print_error(to_string(error.code()), error.what(), json);
    return code(error.code() == ErrorCode::Cancelled ? ExitCode::Interrupted : ExitCode::Failure);
  } catch (const std::bad_alloc&) {
    print_error("resource_limit", "out of memory", json);
  } catch (const std::exception& error) {
    print_error("internal", error.what(), json);
  }
  return code(ExitCode::Failure);
}

}  // namespace

void build_app(CLI::App& app, Context& context) {
  app.description("Runs DeepSeek-class language models on machines people own.");
  app.set_version_flag("--version", std::string("fathom ") + kVersion, "Print the version");
  app.footer("'fathom COMMAND --help' tells more of a command, 'man fathom' of all of them.");

  add_run_command(app, context);
  add_serve_command(app, context);
  add_self_test_command(app, context);
  add_keys_command(app, context);
  add_usage_command(app, context);
  add_forget_command(app, context);
  add_pull_command(app, context);
  add_import_command(app, context);
  add_list_command(app, context);
  add_show_command(app, context);
  add_verify_command(app, context);
  add_rm_command(app, context);
  add_convert_command(app, context);
  add_quantize_command(app, context);
  add_pack_command(app, context);
  add_make_random_command(app, context);
  add_train_command(app, context);
  add_cost_command(app, context);
  add_bench_command(app, context);
  add_eval_command(app, context);
  add_tokenize_command(app, context);
  add_detokenize_command(app, context);
  add_completion_command(app, context);
  add_man_command(app, context);
}

int run_program(const Program& program, int argc, const char* const* argv) {
  explain_bus_errors();
  CLI::App app;
  Context context;
  app.name(program.name);
  app.set_help_flag("-h,--help", "Print this help");
  app.require_subcommand(1);
  program.build(app, context);
  const int result = parse_and_run(app, context, argc, argv);
  // A full disk shows itself when the buffer is written: at the end, or somewhere on the way.
  const bool lost = std::fflush(stdout) != 0 || std::ferror(stdout) != 0;
  if (lost && result == code(ExitCode::Success)) {
    print_error("io", "standard output could not be written whole; is the disk full?",
                context.json);
    return code(ExitCode::Failure);
  }
  return result;
}

int run_app(int argc, const char* const* argv) {
  return run_program({"fathom", build_app}, argc, argv);
}

}  // namespace fathom
