// The one process of `fathom serve` that may connect to others, where an operator lets users fetch
// models (--allow-pull).
//
// It is told names of models over a socket (server/pull_desk.h), and of nothing that is said: it is
// started before keys, books and models are read. Walls of its own: it opens no file but the
// store's models, certificates and what names are looked up by; it can be connected to by nobody,
// runs no program, makes no process and reaches no Unix socket. It ends with the server.
#pragma once

#include "cli/context.h"
#include "server/pull_rules.h"

namespace fathom {

/// Returns the server's end of the socket. Call it while the process has one thread, before there
/// is anything to hide. Makes the store's folders, which the server is to be let into. `walls`:
/// false for --without-sandbox. Throws Error(Io).
int start_pull_process(const server::PullRules& rules, bool walls, const Context& context);

}  // namespace fathom
