// The command line as data, read from its CLI11 definitions: the manual page and the shell
// completions are written from it, so they cannot fall behind the program.
#pragma once

#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace fathom {

struct OptionDoc {
  std::vector<std::string> names;    // "-n", "--max-tokens"; a positional's one name, e.g. "MODEL"
  std::string value;                 // what it takes, e.g. "N"; empty for a flag
  std::vector<std::string> choices;  // where only these are taken
  std::string help;
  bool positional = false;
  bool required = false;
  bool repeats = false;
};

struct CommandDoc {
  std::string name;
  std::string summary;
  std::string details;  // the footer of its help
  std::vector<OptionDoc> options;

  /// "[options] MODEL [PROMPT...]"
  std::string usage() const;
};

/// The visible subcommands, in the order of the help.
std::vector<CommandDoc> command_tree(const CLI::App& app);

}  // namespace fathom
