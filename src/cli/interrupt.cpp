#include "cli/interrupt.h"

#include <atomic>
#include <csignal>

#include <unistd.h>

namespace fathom {
namespace {

std::atomic<int> g_interrupts{0};
struct sigaction g_previous{};

void on_interrupt(int) {
  if (g_interrupts.fetch_add(1) >= 2) ::_exit(130);
}

}  // namespace

InterruptGuard::InterruptGuard() {
  g_interrupts = 0;
  struct sigaction action{};
  action.sa_handler = on_interrupt;
  // No SA_RESTART: a read from the terminal must return.
  ::sigaction(SIGINT, &action, &g_previous);
}

InterruptGuard::~InterruptGuard() { ::sigaction(SIGINT, &g_previous, nullptr); }

bool InterruptGuard::take() { return g_interrupts.exchange(0) > 0; }
bool InterruptGuard::pending() { return g_interrupts > 0; }

}  // namespace fathom
