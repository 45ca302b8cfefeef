// Every system call of a program and its threads, seen from outside (ptrace), and calls made in its
// name: what `strace` does, and a little that it does not.
#pragma once

#include <sys/types.h>
#include <sys/user.h>

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace fathom {

struct SystemCall {
  std::uint64_t number = 0;
  std::array<std::uint64_t, 6> arguments{};
};

/// "openat"; "syscall 999" for one that libseccomp has no name for.
std::string system_call_name(std::uint64_t number);

/// One program. The thread that made it must be the one that calls it. Threads and children that
/// the program starts are traced too; when the tracer goes, they all end.
class SyscallTracer {
 public:
  /// `result` is negative for an error: -EPERM.
  struct Observer {
    std::function<void(pid_t thread, const SystemCall& call)> begins;
    std::function<void(pid_t thread, const SystemCall& call, std::int64_t result)> ended;
  };

  /// Starts `arguments[0]` with its stdout going to `output`. Throws Error(Unsupported) if programs
  /// may not be traced here.
  SyscallTracer(const std::vector<std::string>& arguments,
                const std::vector<std::pair<std::string, std::string>>& environment, int output);
  ~SyscallTracer();
  SyscallTracer(const SyscallTracer&) = delete;
  SyscallTracer& operator=(const SyscallTracer&) = delete;

  pid_t process() const { return process_; }
  /// All threads that are traced now, with the process that each belongs to.
  const std::map<pid_t, pid_t>& threads() const { return threads_; }
  bool is_own(pid_t thread) const;  // of process(), not of a child
  /// Takes what waitpid(-1, ..., __WALL) returned. False if it was about no thread of the program.
  bool handle(pid_t pid, int status, const Observer& observer);
  bool over() const { return over_; }
  int exit_status() const { return exit_status_; }  // as waitpid tells it, once over

  // Only within Observer::begins:

  /// Makes the thread, which is about to make a call of its own, make this one instead and first;
  /// `text`, if not empty, is put where argument number `text_at` will point to. Returns the
  /// result. The thread's own call follows.
  std::int64_t call_instead(pid_t thread, SystemCall call, const std::string& text = {},
                            std::size_t text_at = 0);
  /// The text that an argument points to; "" if it cannot be read.
  std::string text_at(pid_t thread, std::uint64_t address) const;
  /// The eight bytes that an argument points to, as a number; 0 if they cannot be read.
  std::uint64_t number_at(pid_t thread, std::uint64_t address) const;

 private:
  void start_again(pid_t thread, const user_regs_struct& saved);

  pid_t process_ = -1;
  std::map<pid_t, pid_t> threads_;
  std::set<pid_t> repeats_;  // the call that they begin next has been told of
  bool over_ = false;
  int exit_status_ = 0;
};

}  // namespace fathom
