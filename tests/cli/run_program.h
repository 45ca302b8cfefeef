// Runs the built program as its users do, and tells what it printed.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace fathom::test {

struct Output {
  int exit_code = -1;  // 128 + N after signal N
  std::string out, err;

  nlohmann::json json() const {
    auto parsed = nlohmann::json::parse(out, nullptr, false);
    EXPECT_FALSE(parsed.is_discarded()) << "not JSON: " << out;
    return parsed;
  }
  nlohmann::json error() const {
    // Progress may stand before it; the error is the last line.
    const std::size_t end = err.find_last_not_of('\n');
    const std::size_t begin = err.rfind('\n', end) + 1;
    auto parsed = nlohmann::json::parse(err.substr(begin, end - begin + 1), nullptr, false);
    EXPECT_FALSE(parsed.is_discarded()) << "not JSON: " << err;
    return parsed["error"];
  }
  std::size_t error_lines() const {
    return static_cast<std::size_t>(std::count(err.begin(), err.end(), '\n'));
  }
};

/// A folder that is removed with everything in it.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "fathom-test-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

inline void write_text(const std::filesystem::path& file, const std::string& text) {
  std::ofstream(file, std::ios::binary) << text;
}

inline std::string program() { return FATHOM_BINARY_DIR "/bin/fathom"; }

/// Runs `arguments` with `input` on stdin, and a home folder of its own: nothing of the person who
/// runs the tests is read or written.
inline Output run(std::vector<std::string> arguments, const std::string& input = {},
                  const std::string& executable = program()) {
  static const TemporaryFolder home;
  int in[2], out[2], err[2];
  if (::pipe(in) != 0 || ::pipe(out) != 0 || ::pipe(err) != 0) std::abort();
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(in[0], 0);
    ::dup2(out[1], 1);
    ::dup2(err[1], 2);
    for (int* pair : {in, out, err}) {
      ::close(pair[0]);
      ::close(pair[1]);
    }
    ::setenv("HOME", home.path().c_str(), 1);
    for (const char* name : {"FATHOM_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "HF_ENDPOINT",
                             "FATHOM_ENCRYPTION_KEY"}) {
      ::unsetenv(name);
    }
    std::vector<char*> argv{const_cast<char*>(executable.c_str())};
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    ::execvp(argv[0], argv.data());
    ::_exit(127);
  }
  ::close(in[0]);
  ::close(out[1]);
  ::close(err[1]);
  std::signal(SIGPIPE, SIG_IGN);  // the program may not read its input

  Output output;
  std::size_t written = 0;
  ::fcntl(in[1], F_SETFL, O_NONBLOCK);
  pollfd files[3] = {{in[1], POLLOUT, 0}, {out[0], POLLIN, 0}, {err[0], POLLIN, 0}};
  while (files[1].fd >= 0 || files[2].fd >= 0) {
    if (files[0].fd >= 0 && written == input.size()) {
      ::close(in[1]);
      files[0].fd = -1;
    }
    ::poll(files, 3, -1);
    if (files[0].fd >= 0 && files[0].revents != 0) {
      const ssize_t count = ::write(in[1], input.data() + written, input.size() - written);
      written = count > 0 ? written + static_cast<std::size_t>(count) : input.size();
    }
    for (int i : {1, 2}) {
      if (files[i].fd < 0 || files[i].revents == 0) continue;
      char block[4096];
      const ssize_t count = ::read(files[i].fd, block, sizeof block);
      if (count <= 0) {
        ::close(files[i].fd);
        files[i].fd = -1;
      } else {
        (i == 1 ? output.out : output.err).append(block, static_cast<std::size_t>(count));
      }
    }
  }
  if (files[0].fd >= 0) ::close(in[1]);
  int status = 0;
  ::waitpid(child, &status, 0);
  output.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return output;
}

}  // namespace fathom::test
