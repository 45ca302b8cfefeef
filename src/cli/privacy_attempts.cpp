#include "cli/privacy_attempts.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <utility>

#include <nlohmann/json.hpp>

namespace fathom {
namespace {

using Json = nlohmann::ordered_json;

constexpr auto kHere = static_cast<std::uint64_t>(AT_FDCWD);

std::uint64_t own_process() { return static_cast<std::uint64_t>(::getpid()); }

SystemCall call(long number, std::array<std::uint64_t, 6> arguments) {
  return {static_cast<std::uint64_t>(number), arguments};
}

void only_after(std::vector<Violation>& all, const char* name, long number,
                std::array<std::uint64_t, 6> arguments, const char* text = "") {
  all.push_back({name, call(number, arguments), text, 0, false, EPERM});
}

}  // namespace

std::vector<Violation> server_violations(const std::filesystem::path& outside) {
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
      {"a signal to another process", call(SYS_kill, {own_process(), 0}), {}},
      {"a file of somebody else", call(SYS_openat, {kHere, 0, O_RDONLY}), outside.string(), 1, true,
       EACCES},
      {"a new file elsewhere", call(SYS_openat, {kHere, 0, O_CREAT | O_WRONLY, 0600}),
       outside.string() + ".new", 1, true, EACCES},
  };
  only_after(all, "a connection", SYS_connect, {0, 0, sizeof(sockaddr_in)});
  only_after(all, "an address to listen on", SYS_bind, {0, 0, sizeof(sockaddr_in)});
  only_after(all, "a pair of sockets", SYS_socketpair, {AF_UNIX, SOCK_STREAM, 0, 0});
  only_after(all, "a program", SYS_execve, {0, 0, 0}, "/bin/sh");
  only_after(all, "a process by fork", SYS_fork, {});
  only_after(all, "a process by vfork", SYS_vfork, {});
  only_after(all, "a process by clone", SYS_clone, {SIGCHLD});
  only_after(all, "a ring that makes calls past the filter", SYS_io_uring_setup, {8, 0});
  only_after(all, "another process's memory", SYS_process_vm_readv, {own_process(), 0, 0, 0, 0, 0});
  only_after(all, "tracing", SYS_ptrace, {0, 0, 0, 0});
  only_after(all, "a namespace", SYS_unshare, {CLONE_NEWUSER});
  return all;
}

std::vector<Violation> fetcher_violations(const std::filesystem::path& outside,
                                          const std::filesystem::path& said) {
  std::vector<Violation> all;
  const auto file = [&](const char* name, const std::filesystem::path& path, std::uint64_t flags) {
    all.push_back(
        {name, call(SYS_openat, {kHere, 0, flags, 0600}), path.string(), 1, false, EACCES});
  };
  file("a file of somebody else", outside, O_RDONLY);
  file("a new file elsewhere", outside.string() + ".new", O_CREAT | O_WRONLY);
  file("what people have said", said, O_RDONLY);
  only_after(all, "a Unix socket", SYS_socket, {AF_UNIX, SOCK_STREAM, 0});
  only_after(all, "a packet socket", SYS_socket, {AF_PACKET, SOCK_RAW, 0});
  only_after(all, "a port to listen on", SYS_listen, {0, 1});
  only_after(all, "somebody's connection", SYS_accept4, {0, 0, 0, 0});
  only_after(all, "a program", SYS_execve, {0, 0, 0}, "/bin/sh");
  only_after(all, "a process by fork", SYS_fork, {});
  only_after(all, "a process by vfork", SYS_vfork, {});
  only_after(all, "a process by clone", SYS_clone, {SIGCHLD});
  only_after(all, "a signal to another process", SYS_kill, {own_process(), 0});
  only_after(all, "a ring that makes calls past the filter", SYS_io_uring_setup, {8, 0});
  only_after(all, "another process's memory", SYS_process_vm_readv, {own_process(), 0, 0, 0, 0, 0});
  only_after(all, "another process's descriptors", SYS_pidfd_open, {own_process(), 0});
  only_after(all, "tracing", SYS_ptrace, {0, 0, 0, 0});
  only_after(all, "a namespace", SYS_unshare, {CLONE_NEWUSER});
  return all;
}

Attempts::Attempts(std::vector<Violation> violations) : violations_(std::move(violations)) {
  before_.resize(violations_.size());
  after_.resize(violations_.size());
}

/// Descriptors that come of it are closed again, and files removed.
void Attempts::make_before(SyscallTracer& tracer, pid_t thread, bool files) {
  for (std::size_t i = 0; i < violations_.size(); ++i) {
    const Violation& v = violations_[i];
    const bool file = v.call.number == SYS_openat;
    if (!v.try_before || file != files || before_[i]) continue;
    before_[i] = tracer.call_instead(thread, v.call, v.text, v.text_at);
    const bool descriptor = file || v.call.number == SYS_socket;
    if (descriptor && *before_[i] >= 0) {
      tracer.call_instead(thread, {SYS_close, {static_cast<std::uint64_t>(*before_[i])}});
    }
    if (file && (v.call.arguments[2] & O_CREAT) != 0) {
      std::error_code ignored;
      std::filesystem::remove(v.text, ignored);
    }
  }
}

void Attempts::make(SyscallTracer& tracer, pid_t thread) {
  if (!threads_.insert(thread).second) return;
  for (std::size_t i = 0; i < violations_.size(); ++i) {
    const Violation& v = violations_[i];
    after_[i].push_back(tracer.call_instead(thread, v.call, v.text, v.text_at));
  }
}

Attempts::Sum Attempts::sum() const {
  Sum sum{.kinds = violations_.size(), .threads = threads_.size()};
  for (std::size_t i = 0; i < violations_.size(); ++i) {
    sum.tried_before += violations_[i].try_before;
    sum.worked_before += violations_[i].try_before && before_[i] && *before_[i] >= 0;
    for (const std::int64_t result : after_[i]) {
      ++sum.made;
      sum.stopped += result == -violations_[i].expected;
    }
  }
  return sum;
}

Json Attempts::json() const {
  const auto word = [](std::int64_t result) -> std::string {
    if (result >= 0) return "done";
    const char* error = strerrorname_np(static_cast<int>(-result));
    return error == nullptr ? "?" : error;
  };
  Json list = Json::array();
  for (std::size_t i = 0; i < violations_.size(); ++i) {
    const Violation& v = violations_[i];
    Json one{{"name", v.name}, {"call", system_call_name(v.call.number)}};
    if (v.try_before) one["before"] = before_[i] ? word(*before_[i]) : "not tried";
    Json results = Json::array();
    for (const std::int64_t result : after_[i]) results.push_back(word(result));
    one["after"] = std::move(results);
    list.push_back(std::move(one));
  }
  return list;
}

}  // namespace fathom
