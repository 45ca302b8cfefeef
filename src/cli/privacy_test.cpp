#include "cli/privacy_test.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <map>
#include <optional>
#include <set>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "cli/privacy_attempts.h"
#include "cli/syscall_tracer.h"

namespace fathom {
namespace {

using Json = nlohmann::ordered_json;

constexpr unsigned kPatience = 300;  // seconds for all of it; tracing makes a server slow

// --- a network with no way out ----------------------------------------------------------------

void write_file(const char* path, const std::string& text) {
  std::ofstream out(path);
  out << text;
  out.flush();
  require(out.good(), ErrorCode::Unsupported, "{} cannot be written, so that no namespace is made",
          path);
}

/// A namespace whose only interface is a loopback. A person who is not root gets it by way of a
/// namespace of users.
void leave_the_network() {
  const uid_t uid = ::geteuid();
  const gid_t gid = ::getegid();
  if (::unshare(CLONE_NEWNET) != 0) {
    require(::unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0, ErrorCode::Unsupported,
            "this machine lets no network namespace be made ({}), so that nothing can be shown",
            std::strerror(errno));
    write_file("/proc/self/setgroups", "deny");
    write_file("/proc/self/uid_map", fmt::format("{} {} 1", uid, uid));
    write_file("/proc/self/gid_map", fmt::format("{} {} 1", gid, gid));
  }
  const int control = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  ifreq request{};
  std::strncpy(request.ifr_name, "lo", sizeof request.ifr_name - 1);
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  const bool up = control >= 0 && ::ioctl(control, SIOCSIFFLAGS, &request) == 0;
  ::close(control);
  require(up, ErrorCode::Unsupported, "the namespace's loopback cannot be started: {}",
          std::strerror(errno));
}

// --- a client ---------------------------------------------------------------------------------

/// The status of the answer, 0 if there was none; the whole answer is read.
int ask(std::uint16_t port, const std::string& method, const std::string& path,
        const std::string& body) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const std::string text = fmt::format(
      "{} {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
      "Content-Length: {}\r\n\r\n{}",
      method, path, body.size(), body);
  std::string answer;
  if (::connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0 &&
      ::send(fd, text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size())) {
    char part[4096];
    for (ssize_t got; (got = ::recv(fd, part, sizeof part, 0)) > 0;) {
      answer.append(part, static_cast<std::size_t>(got));
    }
  }
  ::close(fd);
  const std::size_t space = answer.find(' ');
  return space == std::string::npos ? 0 : std::atoi(answer.c_str() + space + 1);
}

/// In a process of its own, whose exit code is how many of its requests were not answered well.
/// `pull`: it asks for a model to be fetched, too.
pid_t start_client(std::uint16_t port, bool pull) {
  const pid_t client = ::fork();
  if (client != 0) return client;
  const auto go = [&](const char* method, const char* path, const std::string& body = {}) {
    return ask(port, method, path, body) == 200 ? 0 : 1;
  };
  // First: there is time then to see what comes of it.
  int failed = pull ? go("POST", "/v1/pulls", R"({"model": "hf:nobody/nothing"})") : 0;
  failed += go("GET", "/health") + go("GET", "/v1/models") + go("GET", "/metrics");
  failed += go("POST", "/tokenize", R"({"content": "What is said here stays here."})");
  for (int i = 0; i < 3; ++i) {
    const std::string prompt = fmt::format("a canary, number {}", i);
    failed += go("POST", "/v1/completions",
                 Json{{"prompt", prompt}, {"max_tokens", 8}, {"seed", i}}.dump());
    failed += go("POST", "/v1/completions",
                 Json{{"prompt", prompt}, {"max_tokens", 8}, {"stream", true}}.dump());
  }
  ::_exit(failed);
}

int requests_of_client(bool pull) { return pull ? 11 : 10; }

// --- the whole ----------------------------------------------------------------------------------

class PrivacyTest {
 public:
  explicit PrivacyTest(const PrivacyTestOptions& options)
      : options_(options),
        outside_(options.scratch / "outside.txt"),
        of_server_(server_violations(outside_)),
        of_fetcher_(fetcher_violations(outside_, options.scratch / "home" / "context-cache")) {
    std::filesystem::create_directories(options.scratch / "home");
    std::ofstream(outside_) << "secret";
  }

  Json run() {
    leave_the_network();
    int output[2];
    require(::pipe2(output, O_CLOEXEC | O_NONBLOCK) == 0, ErrorCode::Io, "no pipe can be made: {}",
            std::strerror(errno));
    std::vector<std::string> arguments{options_.program.string(),
                                       "serve",
                                       "--port",
                                       "0",
                                       "--json",
                                       "--parallel",
                                       "1",
                                       "--context",
                                       "512"};
    if (options_.fetches) {
      // Any models at all: nothing but its walls is to hold that process back.
      arguments.insert(arguments.end(), {"--allow-pull", "*", "--disk-cache", "1MiB"});
    } else {
      arguments.push_back(options_.model.string());
    }
    arguments.insert(arguments.end(), options_.arguments.begin(), options_.arguments.end());
    SyscallTracer server(arguments, {{"FATHOM_HOME", (options_.scratch / "home").string()}},
                         output[1]);
    ::close(output[1]);
    server_ = &server;
    ::alarm(kPatience);
    while (!server.over()) {
      int status = 0;
      const pid_t pid = ::waitpid(-1, &status, __WALL);
      require(pid > 0, ErrorCode::Internal, "waiting for the server failed: {}",
              std::strerror(errno));
      server.handle(pid, status,
                    {[this](pid_t thread, const SystemCall& call) { begins(thread, call); },
                     [this](pid_t thread, const SystemCall& call, std::int64_t result) {
                       ended(thread, call, result);
                     }});
      if (!port_) read_port(output[0]);
      if (port_ && phase_ == Phase::Starting) start_phase(Phase::Serving);
      if (pid == client_ && WIFEXITED(status)) client_ended(WEXITSTATUS(status));
    }
    ::alarm(0);
    ::close(output[0]);
    return report();
  }

 private:
  enum class Phase { Starting, Serving, Violating, Ending };

  void read_port(int output) {
    char part[1024];
    const ssize_t got = ::read(output, part, sizeof part);
    if (got > 0) said_.append(part, static_cast<std::size_t>(got));
    const Json said = Json::parse(said_, nullptr, false);
    if (said.is_discarded()) return;
    const std::string url = said.at("url");
    port_ = static_cast<std::uint16_t>(std::stoi(url.substr(url.rfind(':') + 1)));
  }

  void start_phase(Phase phase) {
    phase_ = phase;
    client_ = start_client(*port_, options_.fetches);
  }

  void client_ended(int failed) {
    asked_ += requests_of_client(options_.fetches);
    unanswered_ += failed;
    if (phase_ == Phase::Serving) {
      read_thread_states();
      // Through an open door a violation would do what it says.
      if (closed_) return start_phase(Phase::Violating);
    }
    phase_ = Phase::Ending;
    ::kill(server_->process(), SIGTERM);
  }

  /// The kernel's own word on each thread.
  void read_thread_states() {
    for (const auto& [thread, process] : server_->threads()) {
      std::ifstream in(fmt::format("/proc/{}/task/{}/status", process, thread));
      const bool own = process == server_->process();
      ++(own ? threads_ : fetcher_threads_);
      std::string line;
      while (std::getline(in, line)) {
        if (line == "Seccomp:\t2") ++(own ? filtered_threads_ : filtered_fetcher_threads_);
      }
    }
    std::ifstream limits(fmt::format("/proc/{}/limits", server_->process()));
    for (std::string line; std::getline(limits, line);) {
      if (line.starts_with("Max core file size")) {
        no_cores_ = line.find_first_not_of(" 0", 18) == line.find("bytes");
      }
    }
  }

  void begins(pid_t thread, const SystemCall& call) {
    if (!server_->is_own(thread)) {
      if (phase_ == Phase::Violating) of_fetcher_.make(*server_, thread);
      return;
    }
    const bool wall = call.number == SYS_landlock_restrict_self;
    const bool door = call.number == SYS_seccomp && call.arguments[0] == SECCOMP_SET_MODE_FILTER;
    // Files before the wall of files, the rest before the door.
    if (wall || door) of_server_.make_before(*server_, thread, wall);
    if (phase_ == Phase::Serving && closed_) {
      // The C library asks for a thread by clone3 first, which the door answers with "no such
      // call".
      const bool thread_by_clone3 =
          call.number == SYS_clone3 &&
          (server_->number_at(thread, call.arguments[0]) & CLONE_THREAD) != 0;
      ++calls_[thread_by_clone3 ? "clone3, a thread" : system_call_name(call.number)];
      if (call.number == SYS_openat || call.number == SYS_open) {
        opened_.insert(server_->text_at(thread, call.arguments[call.number == SYS_openat]));
      }
    }
    if (phase_ == Phase::Violating) of_server_.make(*server_, thread);
  }

  void ended(pid_t thread, const SystemCall& call, std::int64_t result) {
    if (!server_->is_own(thread)) {
      fetcher_sockets_ += phase_ == Phase::Serving && call.number == SYS_socket && result >= 0;
      return;
    }
    if (call.number == SYS_landlock_restrict_self && result == 0) walled_ = true;
    if (call.number == SYS_seccomp && call.arguments[0] == SECCOMP_SET_MODE_FILTER && result == 0) {
      closed_ = true;
    }
    if (phase_ == Phase::Serving && closed_ && (result == -EPERM || result == -EACCES)) {
      refused_.insert(system_call_name(call.number));
    }
  }

  Json report() const;

  PrivacyTestOptions options_;
  std::filesystem::path outside_;
  SyscallTracer* server_ = nullptr;
  Phase phase_ = Phase::Starting;
  std::string said_;
  std::optional<std::uint16_t> port_;
  pid_t client_ = -1;
  int asked_ = 0, unanswered_ = 0;

  bool walled_ = false, closed_ = false, no_cores_ = false;
  std::size_t threads_ = 0, filtered_threads_ = 0;
  std::map<std::string, std::size_t> calls_;  // made while it served, once the door was closed
  std::set<std::string> refused_;             // of them
  std::set<std::string> opened_;              // files
  Attempts of_server_;

  // Of the process that fetches models, if there is one:
  Attempts of_fetcher_;
  std::size_t fetcher_threads_ = 0, filtered_fetcher_threads_ = 0;
  std::size_t fetcher_sockets_ = 0;  // that it made
};

std::string joined(const std::set<std::string>& words) {
  return words.empty() ? "none" : fmt::format("{}", fmt::join(words, ", "));
}

Json PrivacyTest::report() const {
  Json checks = Json::array();
  bool all = true;
  const auto check = [&](const char* name, bool ok, const std::string& detail) {
    checks.push_back({{"name", name}, {"ok", ok}, {"detail", detail}});
    all = all && ok;
  };
  const int status = server_->exit_status();
  const bool good_end = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  check("it serves without a network", port_ && unanswered_ == 0 && good_end,
        port_ ? fmt::format("in a namespace with nothing but a loopback, {} requests: {} were not "
                            "answered as they should be; then it ended {}",
                            asked_, unanswered_, good_end ? "as told" : "badly")
              : "it did not start");
  check("the door is closed in every thread", closed_ && filtered_threads_ == threads_,
        fmt::format("seccomp: {} of {} threads", filtered_threads_, threads_));
  check("files outside its own are walled off", walled_,
        walled_ ? "Landlock, before the model was read" : "this kernel has no Landlock");
  check("no core dumps", no_cores_, "their size is limited to 0");

  std::size_t total = 0;
  for (const auto& [name, count] : calls_) total += count;
  static const std::set<std::string> kTalk{"socket", "connect", "bind",  "execve",
                                           "fork",   "vfork",   "clone3"};
  std::set<std::string> tried;
  for (const std::string& name : kTalk) {
    if (calls_.contains(name)) tried.insert(name);
  }
  check("it does not even try", tried.empty() && refused_.empty() && total > 0,
        fmt::format("{} system calls of {} kinds while it served; sockets made, connections, "
                    "programs: {}; refused by the kernel: {}; files opened: {}",
                    total, calls_.size(), joined(tried), joined(refused_), joined(opened_)));

  const Attempts::Sum sum = of_server_.sum();
  check(
      "before the walls, the violations work", sum.worked_before == sum.tried_before,
      fmt::format("{} of {} kinds that leave nothing behind", sum.worked_before, sum.tried_before));
  check("deliberate violations are stopped", sum.made > 0 && sum.stopped == sum.made,
        fmt::format("{} kinds, made in the name of {} threads of the running server: {} of {} "
                    "failed as they must",
                    sum.kinds, sum.threads, sum.stopped, sum.made));
  if (options_.fetches) {
    const Attempts::Sum fetcher = of_fetcher_.sum();
    check("another process fetches", fetcher_threads_ > 0 && fetcher_sockets_ > 0,
          fmt::format("asked for a model, it made {} sockets; the server made {}", fetcher_sockets_,
                      calls_.contains("socket") ? calls_.at("socket") : 0));
    check("that process can only fetch",
          fetcher.made > 0 && fetcher.stopped == fetcher.made &&
              filtered_fetcher_threads_ == fetcher_threads_,
          fmt::format("{} kinds of violation, made in the name of {} of its threads: {} of {} "
                      "failed as they must",
                      fetcher.kinds, fetcher.threads, fetcher.stopped, fetcher.made));
  }
  return {{"ok", all},
          {"checks", std::move(checks)},
          {"system_calls", calls_},
          {"violations", of_server_.json()},
          {"violations_of_the_fetching_process",
           options_.fetches ? of_fetcher_.json() : Json::array()}};
}

}  // namespace

Json run_privacy_test(const PrivacyTestOptions& options) {
  int result[2];
  require(::pipe2(result, O_CLOEXEC) == 0, ErrorCode::Io, "no pipe can be made: {}",
          std::strerror(errno));
  // In a process of its own, which leaves the network and takes the server with it when it ends.
  const pid_t tester = ::fork();
  require(tester >= 0, ErrorCode::Io, "no process can be made: {}", std::strerror(errno));
  if (tester == 0) {
    Json said;
    try {
      said = PrivacyTest(options).run();
    } catch (const Error& error) {
      said = {{"error", error.what()}, {"unsupported", error.code() == ErrorCode::Unsupported}};
    } catch (const std::exception& error) {
      said = {{"error", error.what()}, {"unsupported", false}};
    }
    const std::string text = said.dump();
    const bool written =
        ::write(result[1], text.data(), text.size()) == static_cast<ssize_t>(text.size());
    ::_exit(written ? 0 : 1);
  }
  ::close(result[1]);
  std::string text;
  char part[4096];
  for (ssize_t got; (got = ::read(result[0], part, sizeof part)) > 0;) {
    text.append(part, static_cast<std::size_t>(got));
  }
  ::close(result[0]);
  int status = 0;
  ::waitpid(tester, &status, 0);
  Json said = Json::parse(text, nullptr, false);
  require(!said.is_discarded(), ErrorCode::Internal,
          "the watching process ended without a word ({})",
          WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "no signal");
  if (said.contains("error")) {
    throw Error(said.at("unsupported") == true ? ErrorCode::Unsupported : ErrorCode::Internal,
                said.at("error").get<std::string>());
  }
  return said;
}

}  // namespace fathom
