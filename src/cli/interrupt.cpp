#include "cli/interrupt.h"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>

#include <sys/eventfd.h>
#include <unistd.h>

namespace fathom {
namespace {

std::atomic<int> g_interrupts{0};
struct sigaction g_previous{};

void on_interrupt(int) {
  if (g_interrupts.fetch_add(1) >= 2) ::_exit(130);
  wake_from_signal();
}

}  // namespace

InterruptGuard::InterruptGuard() {
  g_interrupts = 0;
  signal_wakeup();  // made before a handler may need it
  struct sigaction action{};
  action.sa_handler = on_interrupt;
  // No SA_RESTART: a read from the terminal must return.
  ::sigaction(SIGINT, &action, &g_previous);
}

InterruptGuard::~InterruptGuard() { ::sigaction(SIGINT, &g_previous, nullptr); }

int signal_wakeup() {
  static const int file = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  return file;
}

void wake_from_signal() {
  const int saved = errno;
  const std::uint64_t one = 1;
  // Full is as good as written: it is readable.
  [[maybe_unused]] const ssize_t written = ::write(signal_wakeup(), &one, sizeof one);
  errno = saved;
}

void settle_wakeup() {
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = ::read(signal_wakeup(), &count, sizeof count);
}

bool InterruptGuard::take() { return g_interrupts.exchange(0) > 0; }
bool InterruptGuard::pending() { return g_interrupts > 0; }

}  // namespace fathom
