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

/// A file that poll() finds readable once anything was told by a signal: one that arrives just
/// before a program waits for keys must not go unnoticed until the next key. One for the process,
/// never closed.
int signal_wakeup();
/// From a signal handler: makes signal_wakeup() readable.
void wake_from_signal();
/// Makes it wait for the next signal. What the signal told is looked at after this, not before.
void settle_wakeup();

}  // namespace fathom
