#include "train/program_reward.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "base/error.h"

namespace fathom::train {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kMostSaid = 4096;  // of a line, and kept of the standard error

/// A descriptor that closes itself.
class Fd {
 public:
  explicit Fd(int fd = -1) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

std::string text_of(std::string_view bytes) {
  // Whatever it said: what is no UTF-8 must not spoil the message.
  return nlohmann::json(std::string(bytes))
      .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

class Program {
 public:
  Program(std::string path, ProgramOptions options)
      : path_(std::move(path)), options_(std::move(options)) {}
  ~Program() { stop(); }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  double judge(const Attempt& attempt) {
    if (process_ < 0) start();
    const nlohmann::ordered_json json{{"prompt", attempt.prompt},
                                      {"text", attempt.text},
                                      {"expected", attempt.expected},
                                      {"finished", attempt.finished}};
    const std::string question =
        json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
    const std::string said = ask(question, attempt);
    double value = 0;
    const auto [end, error] = std::from_chars(said.data(), said.data() + said.size(), value);
    if (error != std::errc() || end != said.data() + said.size() || !std::isfinite(value)) {
      give_up(attempt, "said " + text_of(said) + ", expected a number on a line of its own");
    }
    return value;
  }

 private:
  void start() {
    int talk[2], complain[2];
    require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, talk) == 0, ErrorCode::Io,
            "no socket for a reward program: {}", std::strerror(errno));
    Fd ours(talk[0]), theirs(talk[1]);
    require(::pipe2(complain, O_CLOEXEC) == 0, ErrorCode::Io, "no pipe for a reward program: {}",
            std::strerror(errno));
    Fd errors(complain[0]), their_errors(complain[1]);
    for (const Fd* fd : {&ours, &errors}) ::fcntl(fd->get(), F_SETFL, O_NONBLOCK);

    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawnattr_init(&attributes);
    ::posix_spawn_file_actions_adddup2(&actions, theirs.get(), 0);
    ::posix_spawn_file_actions_adddup2(&actions, theirs.get(), 1);
    ::posix_spawn_file_actions_adddup2(&actions, their_errors.get(), 2);
    // A group of its own, so that what it starts goes with it, and Ctrl-C is not for it.
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK);
    ::posix_spawnattr_setpgroup(&attributes, 0);
    std::vector<std::string> words = options_.launcher;
    words.push_back(path_);
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    char home[] = "HOME=/", path[] = "PATH=/usr/local/bin:/usr/bin:/bin", lang[] = "LANG=C.UTF-8";
    char python[] = "PYTHONDONTWRITEBYTECODE=1", unbuffered[] = "PYTHONUNBUFFERED=1";
    char* environment[] = {home, path, lang, python, unbuffered, nullptr};
    pid_t process = -1;
    const int failed =
        ::posix_spawn(&process, arguments[0], &actions, &attributes, arguments.data(), environment);
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
    require(failed == 0, ErrorCode::InvalidArgument, "the reward program {} cannot be started: {}",
            path_, std::strerror(failed));
    process_ = process;
    talk_ = std::move(ours);
    errors_ = std::move(errors);
    complaint_.clear();
  }

  void stop() {
    if (process_ < 0) return;
    ::kill(-process_, SIGKILL);
    ::waitpid(process_, nullptr, 0);
    process_ = -1;
    talk_ = Fd();
    errors_ = Fd();
  }

  [[noreturn]] void give_up(const Attempt& attempt, const std::string& what) {
    hear_errors();
    stop();
    fail(ErrorCode::InvalidArgument,
         "the reward program {} {}; it was asked about answer {} ({:.200}){}", path_, what,
         attempt.number, text_of(attempt.text),
         complaint_.empty() ? "" : "; its standard error ends with " + text_of(complaint_));
  }

  /// Keeps the end of what it says on its standard error.
  void hear_errors() {
    char bytes[kMostSaid];
    for (ssize_t n; (n = ::read(errors_.get(), bytes, sizeof bytes)) > 0;) {
      complaint_.append(bytes, static_cast<std::size_t>(n));
      if (complaint_.size() > kMostSaid) complaint_.erase(0, complaint_.size() - kMostSaid);
    }
  }

  /// The line that it answers with.
  std::string ask(const std::string& question, const Attempt& attempt) {
    const auto until = Clock::now() + options_.patience;
    std::size_t sent = 0;
    std::string said;
    // What came after the last answer's line belongs to no answer.
    char more[kMostSaid];
    if (const ssize_t n = ::recv(talk_.get(), more, sizeof more, MSG_DONTWAIT); n > 0) {
      give_up(attempt, "said more than one line for the answer before: " +
                           text_of(std::string_view(more, static_cast<std::size_t>(n))));
    }
    for (;;) {
      const auto left =
          std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now()).count();
      if (left <= 0) {
        give_up(attempt, std::string("gave no number within ") +
                             std::to_string(options_.patience.count()) + " ms");
      }
      pollfd waits[] = {
          {talk_.get(), static_cast<short>(sent < question.size() ? POLLIN | POLLOUT : POLLIN), 0},
          {errors_.get(), POLLIN, 0}};
      ::poll(waits, 2, static_cast<int>(left));
      hear_errors();
      if (sent < question.size() && (waits[0].revents & POLLOUT) != 0) {
        const ssize_t n = ::send(talk_.get(), question.data() + sent, question.size() - sent,
                                 MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0) sent += static_cast<std::size_t>(n);
        if (n < 0 && errno != EAGAIN && errno != EINTR) give_up(attempt, ending());
      }
      if ((waits[0].revents & (POLLIN | POLLHUP)) == 0) continue;
      char bytes[kMostSaid];
      const ssize_t n = ::recv(talk_.get(), bytes, sizeof bytes, MSG_DONTWAIT);
      if (n == 0 || (n < 0 && errno == ECONNRESET)) give_up(attempt, ending());
      if (n > 0) said.append(bytes, static_cast<std::size_t>(n));
      const std::size_t line = said.find('\n');
      if (line != std::string::npos) {
        if (line + 1 < said.size()) {
          give_up(attempt, "said more than one line: " + text_of(said));
        }
        said.resize(line);
        while (!said.empty() && (said.back() == '\r' || said.back() == ' ')) said.pop_back();
        return said;
      }
      if (said.size() > kMostSaid) give_up(attempt, "said " + text_of(said.substr(0, 80)) + "...");
    }
  }

  /// How it came to its end.
  std::string ending() {
    int status = 0;
    // It has closed its output: it ends now, or is made to.
    for (int i = 0; i < 50 && ::waitpid(process_, &status, WNOHANG) == 0; ++i) ::usleep(10'000);
    if (WIFSIGNALED(status)) {
      return std::string("was ended by a signal: ") + ::strsignal(WTERMSIG(status));
    }
    return "ended with status " + std::to_string(WEXITSTATUS(status)) + " before it answered";
  }

  const std::string path_;
  const ProgramOptions options_;
  pid_t process_ = -1;
  Fd talk_, errors_;
  std::string complaint_;
};

}  // namespace

Reward program_reward(const std::string& program, const ProgramOptions& options, double weight) {
  const auto running = std::make_shared<Program>(program, options);
  return {"program", weight, [running](const Attempt& attempt) { return running->judge(attempt); }};
}

}  // namespace fathom::train
