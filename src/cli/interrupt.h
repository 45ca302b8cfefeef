// Ctrl-C while an answer runs: it stops the answer, not the program.
#pragma once

namespace fathom {

/// While one of these lives, SIGINT only raises a flag. The third without a look at the flag ends
/// the program: something is stuck.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

  /// Whether SIGINT has come since the last call.
  static bool take();
  /// The same, leaving the flag up.
  static bool pending();
};

}  // namespace fathom
