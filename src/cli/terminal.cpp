#include "cli/terminal.h"

#include <unistd.h>

namespace fathom {
bool stdout_is_terminal() { return ::isatty(STDOUT_FILENO) != 0; }
}  // namespace fathom
