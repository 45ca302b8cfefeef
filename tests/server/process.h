// What tests of limits look at: this process's memory, descriptors, and what becomes true soon.
#pragma once

#include <dirent.h>
#include <sys/resource.h>

#include <chrono>
#include <cstddef>
#include <fstream>
#include <functional>
#include <string>
#include <thread>

namespace fathom::test {

/// Waits (at most 10 s) until `condition` holds.
inline bool soon(const std::function<bool()>& condition) {
  // A minute: sanitized, on a machine that others use, what takes a second took eleven.
  for (int i = 0; i < 6000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

inline std::size_t open_files() {
  std::size_t count = 0;
  DIR* folder = ::opendir("/proc/self/fd");
  while (::readdir(folder) != nullptr) ++count;
  ::closedir(folder);
  return count;
}

/// For tests that hold both ends of many connections.
inline void allow_many_files() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

/// A figure of /proc/self/status in MiB: "VmRSS", what is resident; "VmHWM", the most that was.
inline double memory_mib(const std::string& name) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(name + ":")) return std::stod(line.substr(name.size() + 1)) / 1024;
  }
  return 0;
}

/// From here on VmHWM begins anew at what is resident.
inline void forget_peak_memory() { std::ofstream("/proc/self/clear_refs") << "5"; }

/// Sanitizers keep what is freed for a while, and their own notes of everything.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kMemoryIsMeasured = false;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
inline constexpr bool kMemoryIsMeasured = false;
#else
inline constexpr bool kMemoryIsMeasured = true;
#endif
#else
inline constexpr bool kMemoryIsMeasured = true;
#endif

}  // namespace fathom::test
