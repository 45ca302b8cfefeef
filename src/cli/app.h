// The program as a whole: its subcommands, and how a run of it ends.
#pragma once

#include "cli/context.h"

namespace fathom {

/// Declares every subcommand on `app`. Their callbacks refer to `context`, which must outlive it.
void build_app(CLI::App& app, Context& context);

/// A program made of subcommands.
struct Program {
  const char* name;  // as a user calls it: "fathom", "fathom train"
  void (*build)(CLI::App& app, Context& context);
};

/// Parses the command line, runs the subcommand, prints at most one error; returns the exit code.
int run_program(const Program& program, int argc, const char* const* argv);
/// The same for `fathom` itself.
int run_app(int argc, const char* const* argv);

}  // namespace fathom
