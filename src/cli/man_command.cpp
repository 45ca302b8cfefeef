// `fathom man`: the manual page, in roff, written from the definitions of the command line.
#include <CLI/CLI.hpp>

#include "base/version.h"
#include "cli/command_tree.h"
#include "cli/commands.h"

namespace fathom {
namespace {

/// Text as roff takes it: backslashes, hyphens, and lines that would start with a control
/// character.
std::string roff(const std::string& text) {
  std::string escaped;
  bool line_start = true;
  for (const char c : text) {
    if (line_start && (c == '.' || c == '\'')) escaped += "\\&";
    if (c == '\\') {
      escaped += "\\\\";
    } else if (c == '-') {
      escaped += "\\-";
    } else {
      escaped += c;
    }
    line_start = c == '\n';
  }
  return escaped;
}

std::string option_entry(const OptionDoc& option) {
  std::string heading;
  for (const std::string& name : option.names) {
    heading += (heading.empty() ? "" : ", ") + ("\\fB" + roff(name) + "\\fR");
  }
  if (!option.positional && !option.value.empty()) heading += " \\fI" + roff(option.value) + "\\fR";
  std::string text = option.help;
  if (!option.choices.empty()) {
    std::string list;
    for (const std::string& choice : option.choices) list += (list.empty() ? "" : ", ") + choice;
    text += " (one of " + list + ")";
  }
  return ".TP\n" + heading + "\n" + roff(text) + ".\n";
}

std::string manual(const std::vector<CommandDoc>& commands) {
  std::string page = ".\\\" Written by 'fathom man' from the program's own definitions.\n";
  page += std::string(".TH FATHOM 1 \"\" \"fathom ") + kVersion + "\" \"User Commands\"\n";
  page += R"(.SH NAME
fathom \- run DeepSeek\-class language models on your own machine
.SH SYNOPSIS
)";
  for (const CommandDoc& command : commands) {
    page += "\\fBfathom " + roff(command.name) + "\\fR " + roff(command.usage()) + "\n.br\n";
  }
  page += R"(.SH DESCRIPTION
Fathom loads a language model from a file and talks with it in the terminal. Models are GGUF files,
Hugging Face folders, or names in the local store, which
.B fathom pull
fills. Nothing is sent anywhere: only
.B pull
uses the network.
.SH COMMANDS
)";
  for (const CommandDoc& command : commands) {
    page += ".SS \"fathom " + roff(command.name) + " " + roff(command.usage()) + "\"\n";
    page += roff(command.summary) + ".\n";
    for (const OptionDoc& option : command.options) page += option_entry(option);
    if (!command.details.empty()) page += ".PP\n.nf\n" + roff(command.details) + "\n.fi\n";
  }
  page += R"(.SH EXIT STATUS
.TP
.B 0
Success.
.TP
.B 1
The work could not be done; one line on standard error says why.
.TP
.B 2
The command line is wrong.
.TP
.B 130
Stopped by Ctrl\-C.
.PP
With
.BR \-\-json ,
results go to standard output as JSON; errors and progress go to standard error, one JSON object a
line.
.SH ENVIRONMENT
.TP
.B NO_COLOR
When set and not empty, nothing is coloured.
.TP
.B FATHOM_CPU
Forces the kernels of one instruction set: scalar, avx2, avx2\-vnni, avx512, avx512\-bf16 or amx.
)";
  return page;
}

}  // namespace

void add_man_command(CLI::App& app, Context& /*context*/) {
  CLI::App* command = app.add_subcommand("man", "Print the manual page, in roff");
  command->footer("fathom man | man -l -");
  command->callback([&app] {
    const std::string page = manual(command_tree(app));
    std::fwrite(page.data(), 1, page.size(), stdout);
  });
}

}  // namespace fathom
