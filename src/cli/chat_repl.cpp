#include "cli/chat_repl.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#include "base/memory.h"
#include "base/progress.h"
#include "base/version.h"
#include "cli/interrupt.h"
#include "cli/line_editor.h"
#include "cli/terminal.h"

namespace fathom {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kSmall = 1'000'000'000;  // parameters; too few for many facts

std::string strip(const std::string& text) {
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

/// "~/x" as the shell would have it.
fs::path user_path(const std::string& text) {
  const char* home = std::getenv("HOME");
  if (home != nullptr && text.starts_with("~/")) return fs::path(home) / text.substr(2);
  return text;
}

class Repl {
 public:
  Repl(ChatSession& session, const Engine& engine, const ChatFormat* format, ReplOptions options)
      : session_(session),
        engine_(engine),
        format_(format),
        options_(std::move(options)),
        palette_(stdout_palette()),
        editor_(options_.history_file, command_words(), options_.history_key) {}

  void run() {
    greet();
    std::string text;
    while (read_message(text)) {
      if (text.empty()) continue;
      editor_.remember(text);
      if (text[0] == '/') {
        if (!run_command(text)) return;
      } else {
        answer([&](AnswerPrinter& printer) { return session_.ask(text, printer); });
      }
    }
  }

 private:
  struct Command {
    const char* name;
    const char* argument;
    const char* help;
    void (Repl::*run)(const std::string& argument);
  };
  static const std::vector<Command>& commands();
  static std::vector<std::string> command_words();

  void say(const std::string& text) const { std::fputs((text + "\n").c_str(), stdout); }
  void say_wrapped(const char* colour, const std::string& text) const {
    TextWrap wrap(terminal_width() - 1);
    const std::string wrapped = wrap.push(text);
    say(colour + wrapped + wrap.finish() + palette_.reset);
  }
  void whisper(const std::string& text) const { say_wrapped(palette_.dim, text); }
  void complain(const std::string& text) const { say_wrapped(palette_.warning, text); }

  void greet() const {
    say(fmt::format("{}{}{} on fathom {}, with a context of {} tokens", palette_.bold,
                    options_.model, palette_.reset, kVersion, engine_.context_tokens()));
    if (format_ == nullptr) {
      whisper("This is a base model: it does not answer, it continues your text.");
    }
    if (options_.parameters < kSmall) {
      whisper(fmt::format(
          "A model of {} million parameters is quick, but it often errs and repeats itself.",
          (options_.parameters + 500'000) / 1'000'000));
    }
    if (!options_.history_file.empty() && !editor_.keeps_history()) {
      whisper("The history is sealed under another --encryption-key: nothing is added to it.");
    }
    whisper("/help lists the commands, Ctrl-C stops an answer, Ctrl-D leaves.\n");
  }

  /// One message: a line, or lines that end in a backslash, or everything between two """.
  bool read_message(std::string& text) {
    const std::string prompt =
        fmt::format("\1{}{}\1>\1{}\1 ", palette_.bold, palette_.accent, palette_.reset);
    const std::string more = fmt::format("\1{}\1.\1{}\1 ", palette_.dim, palette_.reset);
    text.clear();
    std::string line;
    bool quoted = false;
    for (bool first = true;; first = false) {
      switch (editor_.read(first ? prompt : more, line)) {
        case LineEditor::Outcome::End:
          return false;
        case LineEditor::Outcome::Interrupted:
          if (first && !hinted_) whisper("Ctrl-D or /exit leaves.");
          hinted_ = true;
          text.clear();
          return true;
        case LineEditor::Outcome::Line:
          break;
      }
      if (first && line.starts_with("\"\"\"")) {
        quoted = true;
        line.erase(0, 3);
      }
      if (quoted) {
        const std::size_t end = line.find("\"\"\"");
        text += line.substr(0, end);
        if (end != std::string::npos) break;
        text += "\n";
      } else if (line.ends_with("\\")) {
        text += line.substr(0, line.size() - 1) + "\n";
      } else {
        text += line;
        break;
      }
    }
    text = strip(text);
    return true;
  }

  void answer(const std::function<Turn(AnswerPrinter&)>& ask) {
    const QuietKeyboard quiet;
    AnswerPrinter printer(printer_options(session_.settings.view));
    try {
      const Turn turn = ask(printer);
      last_usage_ = turn.end.usage;
      if (turn.end.reason == FinishReason::Length) {
        whisper(fills_context(turn.end.usage, engine_) ? "[the context is full; /clear starts anew]"
                                                       : "[cut at max-tokens]");
      }
      if (turn.end.reason == FinishReason::Repetition) {
        whisper("[ended: it only repeated itself; /retry asks again, /set stop-loops off lets it]");
      }
      if (turn.end.reason == FinishReason::Cancelled) whisper("[stopped]");
      if (session_.settings.stats) whisper(describe_usage(turn.end.usage));
    } catch (const Error& error) {
      printer.finish();
      complain(error.what());
      if (error.code() == ErrorCode::InvalidArgument && session_.messages().size() > 1) {
        whisper("/clear forgets the conversation and makes room.");
      }
    }
    say("");
  }

  /// False: the person leaves.
  bool run_command(const std::string& line) {
    const std::size_t space = line.find_first_of(" \t\n");
    const std::string name = line.substr(0, space);
    const std::string argument = space == std::string::npos ? "" : strip(line.substr(space));
    if (name == "/exit" || name == "/quit" || name == "/bye") return false;
    const auto found = std::find_if(commands().begin(), commands().end(),
                                    [&](const Command& command) { return name == command.name; });
    if (found == commands().end()) {
      complain(fmt::format("There is no {}; /help lists the commands.", name));
      return true;
    }
    try {
      (this->*found->run)(argument);
    } catch (const Error& error) {
      complain(error.what());
    }
    return true;
  }

  void help(const std::string&) {
    for (const Command& command : commands()) {
      say(fmt::format("  {}{:<10}{} {}{:<14}{} {}", palette_.accent, command.name, palette_.reset,
                      palette_.dim, command.argument, palette_.reset, command.help));
    }
    say(fmt::format("  {}{:<10}{} {:<14} {}", palette_.accent, "/exit", palette_.reset, "",
                    "leave (as Ctrl-D does)"));
    whisper(
        "\nSeveral lines: end a line with \\, or put \"\"\" before and after. Pasted text stays "
        "together.\n");
  }

  void clear(const std::string&) {
    session_.clear();
    whisper("The conversation is forgotten.\n");
  }

  void set(const std::string& argument) {
    const std::size_t space = argument.find_first_of(" \t=");
    if (argument.empty()) {
      for (const auto& [name, value] : session_.settings.list()) {
        say(fmt::format("  {}{:<18}{} {}", palette_.accent, name, palette_.reset, value));
      }
      whisper("\n/set NAME VALUE changes one.\n");
      return;
    }
    const std::string name = argument.substr(0, space);
    session_.settings.set(name,
                          space == std::string::npos ? "" : strip(argument.substr(space + 1)));
    for (const auto& [each, value] : session_.settings.list()) {
      if (each == name) whisper(fmt::format("{} is {}\n", name, value));
    }
  }

  void system(const std::string& argument) {
    session_.set_system(argument);
    whisper(argument.empty() ? "No system message.\n" : "From now on, the model is told this.\n");
  }

  void think(const std::string& argument) {
    if (argument.empty()) {
      if (session_.last_reasoning().empty()) {
        whisper("The last answer was given without thinking.\n");
        return;
      }
      whisper(session_.last_reasoning() + "\n");
    } else if (argument == "on" || argument == "off") {
      session_.settings.set("think", argument);
      const bool able = format_ != nullptr && format_->can_switch_thinking();
      whisper(able ? fmt::format("Thinking is {}.\n", argument)
                   : "This model's template has no such switch; nothing changes.\n");
    } else {
      session_.settings.set("thinking", argument);
      whisper(fmt::format("Thinking is shown as: {}.\n", argument));
    }
  }

  void retry(const std::string&) {
    answer([&](AnswerPrinter& printer) { return session_.retry(printer); });
  }

  void save(const std::string& argument) {
    require(!argument.empty(), ErrorCode::InvalidArgument, "/save FILE: which file?");
    session_.save(user_path(argument), options_.model);
    whisper(fmt::format("Saved to {}.\n", argument));
  }

  void load(const std::string& argument) {
    require(!argument.empty(), ErrorCode::InvalidArgument, "/load FILE: which file?");
    session_.load(user_path(argument));
    whisper(fmt::format("{} messages from {}.\n", session_.messages().size(), argument));
  }

  void stats(const std::string& argument) {
    if (!argument.empty()) {
      session_.settings.set("stats", argument);
      whisper(fmt::format("Stats after every answer: {}.\n", argument));
      return;
    }
    if (last_usage_.completion_tokens > 0) say_wrapped("", describe_usage(last_usage_));
    const SchedulerStats stats = engine_.stats();
    const ResidentMemory memory = resident_memory();
    say_wrapped(
        "", fmt::format(
                "memory: {} (peak {}), of it {} hold the conversation; room for {} tokens more\n",
                format_bytes(memory.now), format_bytes(memory.peak),
                format_bytes(stats.cache_bytes), stats.cache_free_tokens));
  }

  ChatSession& session_;
  const Engine& engine_;
  const ChatFormat* format_;
  ReplOptions options_;
  Palette palette_;
  LineEditor editor_;
  Usage last_usage_;
  bool hinted_ = false;
};

const std::vector<Repl::Command>& Repl::commands() {
  static const std::vector<Command> list{
      {"/help", "", "this list", &Repl::help},
      {"/clear", "", "forget the conversation", &Repl::clear},
      {"/retry", "", "answer the last question again", &Repl::retry},
      {"/system", "TEXT", "tell the model how to behave; without text, nothing", &Repl::system},
      {"/set", "NAME VALUE", "change a setting; alone, list them", &Repl::set},
      {"/think", "", "read the thinking before the last answer", &Repl::think},
      {"/think", "fold|show|hide", "how thinking is shown while it happens", &Repl::think},
      {"/think", "on|off", "whether to think, for models that can do both", &Repl::think},
      {"/save", "FILE", "keep the conversation", &Repl::save},
      {"/load", "FILE", "go on with a kept one", &Repl::load},
      {"/stats", "[on|off]", "speed and memory; on: after every answer", &Repl::stats},
  };
  return list;
}

std::vector<std::string> Repl::command_words() {
  std::vector<std::string> words{"/exit"};
  for (const Command& command : commands()) {
    if (words.back() != command.name) words.emplace_back(command.name);
  }
  return words;
}

}  // namespace

PrinterOptions printer_options(ThinkingView view) {
  PrinterOptions options;
  options.terminal = stdout_is_terminal();
  options.width = terminal_width();
  options.height = terminal_height();
  options.palette = stdout_palette();
  options.thinking = view;
  return options;
}

void run_repl(ChatSession& session, const Engine& engine, const ChatFormat* format,
              const ReplOptions& options) {
  const InterruptGuard guard;
  Repl(session, engine, format, options).run();
}

}  // namespace fathom
