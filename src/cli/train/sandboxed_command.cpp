// `fathom train sandboxed`: becomes a program that can read and compute, and do nothing else. What
// a reward's program runs behind; it is not shown among the commands.
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>
#include <CLI/CLI.hpp>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "cli/train/commands.h"
#include "server/sandbox.h"

namespace fathom {
namespace {

void limit(__rlimit_resource_t what, rlim_t most) {
  const rlimit both{most, most};
  ::setrlimit(what, &both);
}

[[noreturn]] void become(const std::vector<std::string>& words) {
  limit(RLIMIT_AS, rlim_t{4} << 30);
  limit(RLIMIT_CORE, 0);
  limit(RLIMIT_FSIZE, 0);
  limit(RLIMIT_NOFILE, 64);
  // All may be read and run, nothing written: not even a file that is there can be removed.
  server::restrict_files({{}, {}, {"/"}});
  server::forbid_network();
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  ::execv(arguments[0], arguments.data());
  fail(ErrorCode::InvalidArgument, "{} cannot be run: {}", words[0], std::strerror(errno));
}

}  // namespace

void add_sandboxed_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("sandboxed", "Run a program that may only compute");
  command->group("");
  auto words = std::make_shared<std::vector<std::string>>();
  command->add_option("PROGRAM", *words, "The program and its arguments")->required();
  command->positionals_at_end();
  command->callback([words] { become(*words); });
}

}  // namespace fathom
