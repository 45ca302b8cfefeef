// Calls that a walled process must not be able to make, made in the name of its threads.
#pragma once

#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "cli/syscall_tracer.h"

namespace fathom {

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

/// Of the server. `outside`: a file that it has no business with.
std::vector<Violation> server_violations(const std::filesystem::path& outside);

/// Of the process that fetches models for it, which may make sockets, and threads. `said`: where
/// the server keeps what people have said.
std::vector<Violation> fetcher_violations(const std::filesystem::path& outside,
                                          const std::filesystem::path& said);

/// One process's. Its calls to SyscallTracer must be within an observer's `begins`.
class Attempts {
 public:
  explicit Attempts(std::vector<Violation> violations);

  /// Those that can be tried before the walls are up: of files, or the others. Once.
  void make_before(SyscallTracer& tracer, pid_t thread, bool files);
  /// All of them, once for each thread.
  void make(SyscallTracer& tracer, pid_t thread);

  struct Sum {
    std::size_t kinds = 0, threads = 0;
    std::size_t tried_before = 0, worked_before = 0;
    std::size_t made = 0, stopped = 0;
  };
  Sum sum() const;
  /// [{"name", "call", "before", "after": [ERRNO...]}]
  nlohmann::ordered_json json() const;

 private:
  std::vector<Violation> violations_;
  std::vector<std::optional<std::int64_t>> before_;
  std::vector<std::vector<std::int64_t>> after_;  // by thread
  std::set<pid_t> threads_;
};

}  // namespace fathom
