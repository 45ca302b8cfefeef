// How much memory an action needs, measured in a process of its own.
#pragma once

#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace fathom::testing {

/// Sanitizers keep memory of their own: under them nothing is measured.
#ifdef __has_feature  // clang's way to say it; g++ defines the other two
inline constexpr bool kClangSanitizer =
    __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
inline constexpr bool kClangSanitizer = false;
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kMeasuresMemory = false;
#else
inline constexpr bool kMeasuresMemory = !kClangSanitizer;
#endif

/// The most memory, in MiB, that a process of its own had resident while it ran `action`; 0 where
/// nothing is measured (`action` then runs in this process).
template <typename Action>
int peak_mib_of(Action&& action) {
  if (!kMeasuresMemory) {
    action();
    return 0;
  }
  ::malloc_trim(0);  // the child starts with what this process holds
  const bool failed_before = ::testing::Test::HasFailure();
  const pid_t child = ::fork();
  if (child == 0) {
    action();
    ::_exit(!failed_before && ::testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  struct rusage usage{};
  EXPECT_EQ(::wait4(child, &status, 0, &usage), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  return static_cast<int>(usage.ru_maxrss / 1024);
}

}  // namespace fathom::testing
