// `fathom train`: hands over to the trainer, a program of its own, since libtorch is large and only
// it needs it.
#include <unistd.h>

#include <CLI/CLI.hpp>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "cli/commands.h"

namespace fathom {
namespace {

void hand_over(std::vector<std::string> words) {
  std::error_code error;
  const auto here = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  const std::string program = (here / "fathom-train").string();
  require(std::filesystem::exists(program), ErrorCode::NotFound,
          "the trainer is not here ({}): it is built where PyTorch's libtorch is installed "
          "(scripts/setup, then `make test` or `make build`)",
          program);
  words.insert(words.begin(), program);
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  // libtorch's OpenMP threads spin for each other, which beside another busy process costs most of
  // the speed: after a few microseconds they sleep. Read when its library is loaded, thus here.
  ::setenv("GOMP_SPINCOUNT", "2000", /*overwrite=*/0);
  ::execv(program.c_str(), arguments.data());
  fail(ErrorCode::Io, "cannot start {}: {}", program, std::strerror(errno));
}

}  // namespace

void add_train_command(CLI::App& app, Context& /*context*/) {
  CLI::App* command = app.add_subcommand("train", "Train a model: 'fathom train --help' says how");
  command->prefix_command();
  command->set_help_flag();  // the trainer's own
  command->footer("fathom train pretrain MODEL --data corpus.tokens --run FOLDER --tokens 10M");
  command->callback([command] { hand_over(command->remaining()); });
}

}  // namespace fathom
