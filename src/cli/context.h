// What every subcommand shares: how to print, how to report progress, and the exit code.
#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "base/error.h"
#include "base/progress.h"

namespace CLI {
class App;
}

namespace fathom {

/// Exit codes of the program. A shell adds its own: 130 for SIGINT, 141 for SIGPIPE.
enum class ExitCode : int {
  Success = 0,
  Failure = 1,       // the work could not be done; one line on stderr says why
  Usage = 2,         // the command line is wrong
  Interrupted = 130  // Ctrl-C, as shells report it
};

struct Context {
  /// Machine-readable output: results as JSON on stdout, errors and progress as JSON on stderr.
  bool json = false;
  /// Set by a command that ran to its end but has bad news (a failed check, say).
  ExitCode exit_code = ExitCode::Success;

  /// Where long work reports: a line drawn in place, or JSON lines; nothing for work of less than
  /// a second.
  ProgressSink progress() const;
  /// The same for work that nobody asks about once it is done: at a terminal its line goes away.
  ProgressSink passing_progress() const;
};

/// Adds `--json` to a subcommand. Every subcommand that prints a result takes it.
void add_json_option(CLI::App& command, Context& context);

/// Writes the value and a line break to stdout. Text that is no UTF-8 is replaced by U+FFFD.
void print_json(const nlohmann::ordered_json& value);

/// The one line on stderr that a failing program leaves: "fathom: message", or
/// {"error":{"code":"corrupt","message":"..."}}.
void print_error(std::string_view code, std::string_view message, bool json);

/// A line on stderr that is no result and no error; silent under --json.
void print_note(const Context& context, std::string_view message);

/// All of stdin. Throws Error(Io) when it cannot be read, Error(ResourceLimit) past `limit` bytes.
std::string read_stdin(std::size_t limit = std::size_t{1} << 30);

}  // namespace fathom
