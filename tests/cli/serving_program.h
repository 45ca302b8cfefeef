// `fathom serve` in a process of its own, as its users run it.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "cli/run_program.h"

namespace fathom::test {

class ServingProgram {
 public:
  using Environment = std::vector<std::pair<std::string, std::string>>;

  /// Returns once it listens, on a free port, or has ended: port() is 0 then. `arguments`: after
  /// "serve".
  ServingProgram(std::vector<std::string> arguments, const std::filesystem::path& home,
                 const Environment& environment = {}) {
    int out[2], err[2];
    if (::pipe(out) != 0 || ::pipe(err) != 0) std::abort();
    child_ = ::fork();
    if (child_ == 0) {
      ::dup2(out[1], 1);
      ::dup2(err[1], 2);
      for (const int file : {out[0], out[1], err[0], err[1]}) ::close(file);
      ::setenv("FATHOM_HOME", home.c_str(), 1);
      for (const auto& [name, value] : environment) ::setenv(name.c_str(), value.c_str(), 1);
      arguments.insert(arguments.begin(), {program(), "serve"});
      arguments.insert(arguments.end(), {"--port", "0", "--json"});
      std::vector<char*> words;
      for (std::string& word : arguments) words.push_back(word.data());
      words.push_back(nullptr);
      ::execv(words[0], words.data());
      ::_exit(127);
    }
    ::close(out[1]);
    ::close(err[1]);
    out_ = out[0];
    err_ = err[0];
    std::string said;
    char byte = 0;
    while (said.find('}') == said.npos && ::read(out_, &byte, 1) == 1) said += byte;
    const auto json = nlohmann::json::parse(said, nullptr, false);
    if (json.is_discarded()) return;
    const std::string url = json.at("url");
    port_ = static_cast<std::uint16_t>(std::stoi(url.substr(url.rfind(':') + 1)));
  }
  ~ServingProgram() {
    ::kill(child_, SIGKILL);
    ::close(out_);
    ::close(err_);
    ::waitpid(child_, nullptr, 0);
  }
  ServingProgram(const ServingProgram&) = delete;
  ServingProgram& operator=(const ServingProgram&) = delete;

  std::uint16_t port() const { return port_; }
  pid_t process() const { return child_; }
  /// How it ended, which is waited for, and what it said of it.
  std::pair<int, std::string> end() {
    std::string said;
    char block[4096];
    for (ssize_t count; (count = ::read(err_, block, sizeof block)) > 0;) {
      said.append(block, static_cast<std::size_t>(count));
    }
    siginfo_t info{};
    ::waitid(P_PID, static_cast<id_t>(child_), &info, WEXITED | WNOWAIT);
    return {info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status, said};
  }

 private:
  pid_t child_ = -1;
  int out_ = -1, err_ = -1;
  std::uint16_t port_ = 0;
};

}  // namespace fathom::test
