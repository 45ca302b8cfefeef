#include "cli/context.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <memory>
#include <system_error>

#include <unistd.h>

namespace fathom {
namespace {

std::string dump(const nlohmann::ordered_json& value) {
  return value.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace

ProgressSink Context::progress() const {
  // Work that is over in a moment needs no progress, only a place in nobody's log.
  struct Late {
    ProgressSink sink;
    std::chrono::steady_clock::time_point first;
    std::string task;
    bool shown = false;
  };
  auto late = std::make_shared<Late>();
  late->sink = json ? json_progress() : terminal_progress();
  return [late](const ProgressUpdate& update) {
    const auto now = std::chrono::steady_clock::now();
    if (update.task != late->task) {
      late->task = update.task;
      late->first = now;
      late->shown = false;
    }
    if (!late->shown && (update.finished || now - late->first < std::chrono::seconds(1))) return;
    late->shown = true;
    late->sink(update);
  };
}

ProgressSink Context::passing_progress() const {
  ProgressSink sink = progress();
  if (json || ::isatty(STDERR_FILENO) == 0) return sink;
  return [sink, shown = std::make_shared<bool>(false)](const ProgressUpdate& update) {
    if (!update.finished) {
      *shown = true;
      sink(update);
    } else if (*shown) {
      std::fputs("\r\033[K", stderr);
      std::fflush(stderr);
    }
  };
}

void add_json_option(CLI::App& command, Context& context) {
  command.add_flag("--json", context.json, "Print the result (and errors, on stderr) as JSON");
}

void print_json(const nlohmann::ordered_json& value) {
  const std::string line = dump(value) + "\n";
  std::fwrite(line.data(), 1, line.size(), stdout);
}

void print_error(std::string_view code, std::string_view message, bool json) {
  std::string line;
  if (json) {
    line = dump({{"error", {{"code", code}, {"message", message}}}});
  } else {
    line = "fathom: " + std::string(message);
    // One error is one line, whatever a path or a file's metadata put into it.
    for (char& c : line) {
      if (c == '\n' || c == '\r') c = ' ';
    }
  }
  line += "\n";
  std::fflush(stdout);
  std::fwrite(line.data(), 1, line.size(), stderr);
}

void print_note(const Context& context, std::string_view message) {
  if (context.json) return;
  const std::string line = std::string(message) + "\n";
  std::fwrite(line.data(), 1, line.size(), stderr);
}

std::string read_stdin(std::size_t limit) {
  std::string text;
  char block[65536];
  while (true) {
    const ssize_t got = ::read(STDIN_FILENO, block, sizeof block);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      fail(ErrorCode::Io, "cannot read standard input: {}", std::generic_category().message(errno));
    }
    if (got == 0) return text;
    text.append(block, static_cast<std::size_t>(got));
    require(text.size() <= limit, ErrorCode::ResourceLimit, "standard input holds more than {}",
            format_bytes(limit));
  }
}

}  // namespace fathom
