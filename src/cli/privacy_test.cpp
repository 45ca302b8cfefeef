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

constexpr int kRequests = 10;

/// In a process of its own, whose exit code is how many of kRequests were not answered well.
pid_t start_client(std::uint16_t port) {
  const pid_t client = ::fork();
  if (client != 0) return client;
  const auto go = [&](const char* method, const char* path, const std::string& body = {}) {
    return ask(port, method, path, body) == 200 ? 0 : 1;
  };
  int failed = go("GET", "/health") + go("GET", "/v1/models") + go("GET", "/metrics");
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

// --- what must not be possible ----------------------------------------------------------------

struct Violation {
  std::string name;
  SystemCall call;
  std::string text;         // of an argument that points to one
  std::size_t text_at = 0;  // which
  /// Tried before the walls too, to show that it works there. Not what would leave something
  /// behind.
  bool try_before = true;
  int expected = EPERM;
};

std::vector<Violation> violations(const std::filesystem::path& outside) {
  const auto call = [](long number, std::array<std::uint64_t, 6> arguments) {
    return SystemCall{static_cast<std::uint64_t>(number), arguments};
  };
  const auto at = static_cast<std::uint64_t>(AT_FDCWD);
  constexpr std::uint64_t kPage = 4096;
  std::vector<Violation> all{
      {"a TCP socket", call(SYS_socket, {AF_INET, SOCK_STREAM, 0}), {}},
      {"a TCP socket over IPv6", call(SYS_socket, {AF_INET6, SOCK_STREAM, 0}), {}},
      {"a UDP socket, as names are looked up by", call(SYS_socket, {AF_INET, SOCK_DGRAM, 0}), {}},
      {"a Unix socket", call(SYS_socket, {AF_UNIX, SOCK_STREAM, 0}), {}},
      {"a netlink socket", call(SYS_socket, {AF_NETLINK, SOCK_RAW, 0}), {}},
      {"code in new memory",
       call(SYS_mmap, {0, kPage, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, ~0ull, 0}),
       {}},
      {"a signal to another process",
       call(SYS_kill, {static_cast<std::uint64_t>(::getpid()), 0}),
       {}},
      {"a file of somebody else", call(SYS_openat, {at, 0, O_RDONLY}), outside.string(), 1, true,
       EACCES},
      {"a new file elsewhere", call(SYS_openat, {at, 0, O_CREAT | O_WRONLY, 0600}),
       outside.string() + ".new", 1, true, EACCES},
  };
  const auto only_after = [&](const char* name, long number, std::array<std::uint64_t, 6> arguments,
                              const char* text = "") {
    all.push_back({name, call(number, arguments), text, 0, false, EPERM});
  };
  only_after("a connection", SYS_connect, {0, 0, sizeof(sockaddr_in)});
  only_after("an address to listen on", SYS_bind, {0, 0, sizeof(sockaddr_in)});
  only_after("a pair of sockets", SYS_socketpair, {AF_UNIX, SOCK_STREAM, 0, 0});
  only_after("a program", SYS_execve, {0, 0, 0}, "/bin/sh");
  only_after("a process by fork", SYS_fork, {});
  only_after("a process by vfork", SYS_vfork, {});
  only_after("a process by clone", SYS_clone, {SIGCHLD});
  only_after("a ring that makes calls past the filter", SYS_io_uring_setup, {8, 0});
  only_after("another process's memory", SYS_process_vm_readv,
             {static_cast<std::uint64_t>(::getpid()), 0, 0, 0, 0, 0});
  only_after("tracing", SYS_ptrace, {0, 0, 0, 0});
  only_after("a namespace", SYS_unshare, {CLONE_NEWUSER});
  return all;
}

// --- the whole ----------------------------------------------------------------------------------

class PrivacyTest {
 public:
  explicit PrivacyTest(const PrivacyTestOptions& options)
      : options_(options), outside_(options.scratch / "outside.txt") {
    std::filesystem::create_directory(options.scratch / "home");
    std::ofstream(outside_) << "secret";
    violations_ = violations(outside_);
    before_.resize(violations_.size());
    after_.resize(violations_.size());
  }

  Json run() {
    leave_the_network();
    int output[2];
    require(::pipe2(output, O_CLOEXEC | O_NONBLOCK) == 0, ErrorCode::Io, "no pipe can be made: {}",
            std::strerror(errno));
    std::vector<std::string> arguments{options_.program.string(),
                                       "serve",
                                       options_.model.string(),
                                       "--port",
                                       "0",
                                       "--json",
                                       "--parallel",
                                       "1",
                                       "--context",
                                       "512"};
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
    client_ = start_client(*port_);
  }

  void client_ended(int failed) {
    asked_ += kRequests;
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
    for (const pid_t thread : server_->threads()) {
      std::ifstream in(fmt::format("/proc/{}/task/{}/status", server_->process(), thread));
      std::string line;
      while (std::getline(in, line)) {
        if (line == "Seccomp:\t2") ++filtered_threads_;
      }
    }
    threads_ = server_->threads().size();
    std::ifstream limits(fmt::format("/proc/{}/limits", server_->process()));
    for (std::string line; std::getline(limits, line);) {
      if (line.starts_with("Max core file size")) {
        no_cores_ = line.find_first_not_of(" 0", 18) == line.find("bytes");
      }
    }
  }

  void begins(pid_t thread, const SystemCall& call) {
    const bool wall = call.number == SYS_landlock_restrict_self;
    const bool door = call.number == SYS_seccomp && call.arguments[0] == SECCOMP_SET_MODE_FILTER;
    if (wall || door) try_before(thread, wall);
    if (phase_ == Phase::Serving && closed_) {
      ++calls_[system_call_name(call.number)];
      if (call.number == SYS_openat || call.number == SYS_open) {
        opened_.insert(server_->text_at(thread, call.arguments[call.number == SYS_openat]));
      }
    }
    if (phase_ == Phase::Violating && violated_.insert(thread).second) {
      for (std::size_t i = 0; i < violations_.size(); ++i) {
        const Violation& v = violations_[i];
        after_[i].push_back(server_->call_instead(thread, v.call, v.text, v.text_at));
      }
    }
  }

  /// Files before the wall of files, the rest before the door. Descriptors that come of it are
  /// closed again.
  void try_before(pid_t thread, bool files) {
    for (std::size_t i = 0; i < violations_.size(); ++i) {
      const Violation& v = violations_[i];
      const bool file = v.call.number == SYS_openat;
      if (!v.try_before || file != files || before_[i]) continue;
      before_[i] = server_->call_instead(thread, v.call, v.text, v.text_at);
      const bool descriptor = file || v.call.number == SYS_socket;
      if (descriptor && *before_[i] >= 0) {
        const SystemCall close{SYS_close, {static_cast<std::uint64_t>(*before_[i])}};
        server_->call_instead(thread, close);
      }
      std::error_code ignored;
      std::filesystem::remove(outside_.string() + ".new", ignored);
    }
  }

  void ended(pid_t, const SystemCall& call, std::int64_t result) {
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
  std::vector<Violation> violations_;
  std::vector<std::optional<std::int64_t>> before_;
  std::vector<std::vector<std::int64_t>> after_;  // by thread
  std::set<pid_t> violated_;                      // threads
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

  Json list = Json::array();
  std::size_t controls = 0, worked = 0, attempts = 0, stopped = 0;
  for (std::size_t i = 0; i < violations_.size(); ++i) {
    const Violation& v = violations_[i];
    Json one{{"name", v.name}, {"call", system_call_name(v.call.number)}};
    if (v.try_before) {
      ++controls;
      worked += before_[i] && *before_[i] >= 0;
      one["before"] =
          before_[i]
              ? Json(*before_[i] >= 0 ? "done" : strerrorname_np(-static_cast<int>(*before_[i])))
              : Json("not tried");
    }
    Json results = Json::array();
    for (const std::int64_t result : after_[i]) {
      ++attempts;
      stopped += result == -v.expected;
      const char* error = result < 0 ? strerrorname_np(static_cast<int>(-result)) : "done";
      results.push_back(error == nullptr ? "?" : error);
    }
    one["after"] = std::move(results);
    list.push_back(std::move(one));
  }
  check("before the walls, the violations work", worked == controls,
        fmt::format("{} of {} kinds that leave nothing behind", worked, controls));
  check("deliberate violations are stopped", attempts > 0 && stopped == attempts,
        fmt::format("{} kinds, made in the name of {} threads of the running server: {} of {} "
                    "failed as they must",
                    violations_.size(), violated_.size(), stopped, attempts));
  return {{"ok", all},
          {"checks", std::move(checks)},
          {"system_calls", calls_},
          {"violations", std::move(list)}};
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
