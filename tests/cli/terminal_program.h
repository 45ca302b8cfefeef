// Runs the built program at a terminal of its own, as a person does: types, waits, looks.
#pragma once

#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "cli/run_program.h"
#include "cli/screen.h"

namespace fathom::test {

/// Keys as xterm sends them.
namespace key {
inline constexpr const char* kEnter = "\r";
inline constexpr const char* kUp = "\033[A";
inline constexpr const char* kLeft = "\033[D";
inline constexpr const char* kTab = "\t";
inline constexpr const char* kInterrupt = "\x03";
inline constexpr const char* kEnd = "\x04";
inline constexpr const char* kStartOfLine = "\x01";
inline constexpr const char* kKillLine = "\x15";
inline constexpr const char* kPasteBegin = "\033[200~";
inline constexpr const char* kPasteEnd = "\033[201~";
}  // namespace key

class TerminalProgram {
 public:
  static constexpr unsigned short kRows = 24, kColumns = 80;

  /// `home` holds its history; nothing of the person who runs the tests is read or written.
  TerminalProgram(std::vector<std::string> arguments, const std::filesystem::path& home)
      : screen_(kRows, kColumns) {
    const winsize size{kRows, kColumns, 0, 0};
    child_ = ::forkpty(&terminal_, nullptr, nullptr, &size);
    if (child_ == 0) {
      ::setenv("HOME", home.c_str(), 1);
      ::setenv("TERM", "xterm", 1);
      ::setenv("NO_COLOR", "1", 1);
      for (const char* name :
           {"FATHOM_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "LC_ALL", "FATHOM_ENCRYPTION_KEY"}) {
        ::unsetenv(name);
      }
      const std::string executable = program();
      std::vector<char*> argv{const_cast<char*>(executable.c_str())};
      for (std::string& argument : arguments) argv.push_back(argument.data());
      argv.push_back(nullptr);
      ::execv(argv[0], argv.data());
      ::_exit(127);
    }
  }
  ~TerminalProgram() {
    if (child_ > 0) {
      ::kill(child_, SIGKILL);
      ::waitpid(child_, nullptr, 0);
    }
    ::close(terminal_);
  }
  TerminalProgram(const TerminalProgram&) = delete;
  TerminalProgram& operator=(const TerminalProgram&) = delete;

  void type(const std::string& keys) {
    std::size_t written = 0;
    while (written < keys.size()) {
      const ssize_t count = ::write(terminal_, keys.data() + written, keys.size() - written);
      if (count < 0) return;
      written += static_cast<std::size_t>(count);
    }
  }
  /// Types a line, and waits until it is answered and the next one may be typed.
  void say(const std::string& line) {
    type(line);
    // The answer's end is told by the prompt alone, so the line must first be there.
    EXPECT_TRUE(wait([&] { return screen_.line() != ">"; }));
    type(key::kEnter);
    wait_for_prompt();
  }
  /// Reads what the program prints until `seen` holds of the screen. False: it never did.
  bool wait(const std::function<bool()>& seen) {
    using Clock = std::chrono::steady_clock;
    const auto deadline = Clock::now() + std::chrono::seconds(60);  // sanitizers are slow
    while (!seen()) {
      if (ended_ || Clock::now() > deadline) return false;
      read_some();
    }
    return true;
  }
  void wait_for(const std::string& text) {
    EXPECT_TRUE(wait([&] { return screen_.text().find(text) != std::string::npos; }))
        << "no '" << text << "' in\n"
        << screen_.text();
  }
  void wait_for_prompt() {
    EXPECT_TRUE(wait([&] { return screen_.line() == ">" && screen_.column() == 2; }))
        << screen_.text();
  }
  void resize(unsigned short rows, unsigned short columns) {
    const winsize size{rows, columns, 0, 0};
    screen_.resize(rows, columns);
    ::ioctl(terminal_, TIOCSWINSZ, &size);  // the kernel sends SIGWINCH
  }
  Screen& screen() { return screen_; }

  /// Waits for its end; 128 + N after signal N.
  int exit_code() {
    EXPECT_TRUE(wait([&] { return ended_; }) || ended_) << screen_.text();
    int status = 0;
    ::waitpid(child_, &status, 0);
    child_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  void read_some() {
    pollfd ready{terminal_, POLLIN, 0};
    if (::poll(&ready, 1, 200) <= 0) return;
    char block[4096];
    const ssize_t count = ::read(terminal_, block, sizeof block);
    if (count <= 0) {
      ended_ = true;  // the other side has closed
      return;
    }
    screen_.write({block, static_cast<std::size_t>(count)});
  }

  Screen screen_;
  int terminal_ = -1;
  pid_t child_ = -1;
  bool ended_ = false;
};

}  // namespace fathom::test
