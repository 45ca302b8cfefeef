#include "cli/bus_error.h"

#include <unistd.h>

#include <csignal>
#include <string_view>

#include "cli/context.h"

namespace fathom {
namespace {

// Only what may be called in a signal handler: no formatting, no allocation.
void on_bus_error(int) {
  constexpr std::string_view kMessage =
      "fathom: a file in use has become shorter, or its disk failed: replace a model by renaming "
      "a new file over it, never by writing into it\n";
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, kMessage.data(), kMessage.size());
  ::_exit(static_cast<int>(ExitCode::Failure));
}

}  // namespace

void explain_bus_errors() {
  struct sigaction action{};
  action.sa_handler = on_bus_error;
  ::sigaction(SIGBUS, &action, nullptr);
}

}  // namespace fathom
