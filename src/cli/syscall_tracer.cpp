#include "cli/syscall_tracer.h"

#include <fcntl.h>
#include <seccomp.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>

#include "base/error.h"

namespace fathom {
namespace {

constexpr int kSyscallStop = SIGTRAP | 0x80;  // with PTRACE_O_TRACESYSGOOD
constexpr std::size_t kLongestPath = 4096;
constexpr std::uint64_t kRedZone = 128;  // bytes below the stack pointer that are in use

user_regs_struct registers_of(pid_t thread) {
  user_regs_struct registers{};
  require(::ptrace(PTRACE_GETREGS, thread, nullptr, &registers) == 0, ErrorCode::Internal,
          "the registers of a traced thread cannot be read: {}", std::strerror(errno));
  return registers;
}

SystemCall call_of(const user_regs_struct& r) {
  return {r.orig_rax, {r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9}};
}

void set_registers(pid_t thread, const user_regs_struct& registers) {
  require(::ptrace(PTRACE_SETREGS, thread, nullptr, &registers) == 0, ErrorCode::Internal,
          "the registers of a traced thread cannot be set: {}", std::strerror(errno));
}

/// At a stop for a call: whether it begins; else it has ended.
bool at_beginning(pid_t thread) {
  __ptrace_syscall_info info{};
  const long size = ::ptrace(PTRACE_GET_SYSCALL_INFO, thread, sizeof info, &info);
  require(size > 0, ErrorCode::Unsupported,
          "this kernel does not tell of traced system calls (Linux 5.3 and later do): {}",
          std::strerror(errno));
  return info.op == PTRACE_SYSCALL_INFO_ENTRY;
}

void go_on(pid_t thread, int signal = 0) {
  // A thread that was killed meanwhile is no failure: its end will be told.
  ::ptrace(PTRACE_SYSCALL, thread, nullptr, static_cast<long>(signal));
}

/// The process that a thread belongs to; the thread itself if that cannot be told any more.
pid_t process_of(pid_t thread) {
  std::ifstream in(fmt::format("/proc/{}/status", thread));
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("Tgid:")) return std::atoi(line.c_str() + 5);
  }
  return thread;
}

}  // namespace

std::string system_call_name(std::uint64_t number) {
  const std::unique_ptr<char, void (*)(void*)> name(
      seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, static_cast<int>(number)), &std::free);
  return name ? name.get() : fmt::format("syscall {}", number);
}

SyscallTracer::SyscallTracer(const std::vector<std::string>& arguments,
                             const std::vector<std::pair<std::string, std::string>>& environment,
                             int output) {
  process_ = ::fork();
  require(process_ >= 0, ErrorCode::Io, "no process can be made: {}", std::strerror(errno));
  if (process_ == 0) {
    if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(126);
    ::dup2(output, STDOUT_FILENO);
    for (const auto& [name, value] : environment) ::setenv(name.c_str(), value.c_str(), 1);
    std::vector<char*> words;
    for (const std::string& word : arguments) words.push_back(const_cast<char*>(word.c_str()));
    words.push_back(nullptr);
    ::execv(words[0], words.data());  // stops with SIGTRAP, being traced
    ::_exit(127);
  }
  int status = 0;
  const bool stopped = ::waitpid(process_, &status, __WALL) == process_ && WIFSTOPPED(status);
  require(stopped, ErrorCode::Unsupported,
          "programs may not be traced here, so that nothing can be shown (a container without "
          "ptrace, or a kernel that forbids it)");
  constexpr long kOptions = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK |
                            PTRACE_O_TRACEVFORK | PTRACE_O_EXITKILL;
  require(::ptrace(PTRACE_SETOPTIONS, process_, nullptr, kOptions) == 0, ErrorCode::Unsupported,
          "this kernel does not trace system calls: {}", std::strerror(errno));
  threads_[process_] = process_;
  go_on(process_);
}

SyscallTracer::~SyscallTracer() {
  if (process_ <= 0 || over_) return;
  ::kill(process_, SIGKILL);
  for (int status = 0; ::waitpid(process_, &status, __WALL) > 0;) {
    if (WIFEXITED(status) || WIFSIGNALED(status)) break;
  }
}

bool SyscallTracer::is_own(pid_t thread) const {
  const auto found = threads_.find(thread);
  return found != threads_.end() && found->second == process_;
}

bool SyscallTracer::handle(pid_t pid, int status, const Observer& observer) {
  const bool ended = WIFEXITED(status) || WIFSIGNALED(status);
  if (!threads_.contains(pid)) {
    // The first that is heard of a new thread is that it has stopped; a child that is not traced
    // does not stop.
    if (!WIFSTOPPED(status)) return false;
    threads_[pid] = process_of(pid);
    go_on(pid);
    return true;
  }
  if (ended) {
    threads_.erase(pid);
    if (pid == process_) {
      over_ = true;
      exit_status_ = status;
    }
    return true;
  }
  const int signal = WSTOPSIG(status);
  if (signal != kSyscallStop) {
    const bool of_ptrace = signal == SIGTRAP || (status >> 16) != 0;
    go_on(pid, of_ptrace ? 0 : signal);
    return true;
  }
  const user_regs_struct registers = registers_of(pid);
  if (!at_beginning(pid)) {
    if (observer.ended) {
      observer.ended(pid, call_of(registers), static_cast<std::int64_t>(registers.rax));
    }
  } else if (repeats_.erase(pid) == 0 && observer.begins) {
    observer.begins(pid, call_of(registers));
  }
  go_on(pid);
  return true;
}

std::int64_t SyscallTracer::call_instead(pid_t thread, SystemCall call, const std::string& text,
                                         std::size_t text_at) {
  // A second one in a row begins where the first one has left the thread: just before its own call.
  if (repeats_.contains(thread)) {
    go_on(thread);
    int status = 0;
    while (::waitpid(thread, &status, __WALL) == thread && WIFSTOPPED(status) &&
           WSTOPSIG(status) != kSyscallStop) {
      go_on(thread);
    }
  }
  const user_regs_struct saved = registers_of(thread);
  if (!text.empty()) {
    const std::uint64_t place = (saved.rsp - kRedZone - kLongestPath) & ~std::uint64_t{15};
    iovec from{const_cast<char*>(text.c_str()), text.size() + 1};
    iovec to{reinterpret_cast<void*>(place), text.size() + 1};
    require(
        ::process_vm_writev(thread, &from, 1, &to, 1, 0) == static_cast<ssize_t>(text.size() + 1),
        ErrorCode::Internal, "the memory of a traced thread cannot be written: {}",
        std::strerror(errno));
    call.arguments.at(text_at) = place;
  }
  user_regs_struct changed = saved;
  changed.orig_rax = call.number;
  changed.rdi = call.arguments[0];
  changed.rsi = call.arguments[1];
  changed.rdx = call.arguments[2];
  changed.r10 = call.arguments[3];
  changed.r8 = call.arguments[4];
  changed.r9 = call.arguments[5];
  set_registers(thread, changed);
  go_on(thread);
  int status = 0;
  while (true) {
    require(::waitpid(thread, &status, __WALL) == thread && WIFSTOPPED(status), ErrorCode::Internal,
            "a traced thread ended in a call made in its name ({})", system_call_name(call.number));
    if (WSTOPSIG(status) == kSyscallStop) break;
    go_on(thread);
  }
  const auto result = static_cast<std::int64_t>(registers_of(thread).rax);
  start_again(thread, saved);
  return result;
}

/// Back to before the two bytes of the `syscall` instruction.
void SyscallTracer::start_again(pid_t thread, const user_regs_struct& saved) {
  user_regs_struct again = saved;
  again.rip -= 2;
  again.rax = saved.orig_rax;
  again.orig_rax = ~0ull;  // no call to be restarted
  set_registers(thread, again);
  repeats_.insert(thread);
}

std::string SyscallTracer::text_at(pid_t thread, std::uint64_t address) const {
  std::string text;
  // In small steps: the page after the text's end may not be there.
  while (text.size() < kLongestPath) {
    char part[64];
    const std::size_t size = sizeof part - (address + text.size()) % sizeof part;
    iovec to{part, size};
    iovec from{reinterpret_cast<void*>(address + text.size()), size};
    if (::process_vm_readv(thread, &to, 1, &from, 1, 0) != static_cast<ssize_t>(size)) return {};
    const auto* end = static_cast<const char*>(std::memchr(part, 0, size));
    if (end != nullptr) return text.append(part, static_cast<std::size_t>(end - part));
    text.append(part, size);
  }
  return text;
}

std::uint64_t SyscallTracer::number_at(pid_t thread, std::uint64_t address) const {
  std::uint64_t number = 0;
  iovec to{&number, sizeof number};
  iovec from{reinterpret_cast<void*>(address), sizeof number};
  const bool read = ::process_vm_readv(thread, &to, 1, &from, 1, 0) == sizeof number;
  return read ? number : 0;
}

}  // namespace fathom
