// `fathom completion bash|zsh`: a script that teaches the shell Fathom's commands and options.
#include <CLI/CLI.hpp>

#include <memory>

#include "cli/command_tree.h"
#include "cli/commands.h"

namespace fathom {
namespace {

std::string join(const std::vector<std::string>& words, const char* separator) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : separator) + word;
  return text;
}

bool takes_model(const CommandDoc& command) {
  for (const OptionDoc& option : command.options) {
    if (option.positional && option.names.front() == "MODEL") return true;
  }
  return false;
}

bool is_path(const OptionDoc& option) {
  return option.value == "FILE" || option.value == "PATH" || option.value == "DIR";
}

// Names of stored models, one a line; silent when the store is empty or unreadable.
constexpr const char* kListModels =
    R"sh(fathom list --json 2>/dev/null | grep -o '"name": *"[^"]*"' | sed 's/.*"\([^"]*\)"$/\1/')sh";

constexpr const char* kBashHead = R"sh(# bash completion for fathom: source it, or save it as
# ~/.local/share/bash-completion/completions/fathom

_fathom_models() {
  LIST_MODELS
}

_fathom() {
  local cur prev command word index
  # Bash splits words at ':', which model names hold ("smollm2:135m"): undo it from the line.
  local line="${COMP_LINE:0:COMP_POINT}"
  cur="${line##*[[:space:]]}"
  prev="${line%"$cur"}"
  prev="${prev%"${prev##*[![:space:]]}"}"
  prev="${prev##*[[:space:]]}"
  command="${COMP_WORDS[1]}"
  COMPREPLY=()
  if [ "$COMP_CWORD" -le 1 ]; then
    COMPREPLY=($(compgen -W "COMMANDS --help --version" -- "$cur"))
    return
  fi
)sh";

constexpr const char* kBashTail = R"sh(
  # What stands before the last ':' is already on the line.
  case "$cur" in
    *:*) for index in "${!COMPREPLY[@]}"; do COMPREPLY[index]="${COMPREPLY[index]#"${cur%:*}:"}"; done ;;
  esac
}
complete -o default -F _fathom fathom
)sh";

std::string replaced(std::string text, const std::string& what, const std::string& with) {
  const std::size_t at = text.find(what);
  if (at != std::string::npos) text.replace(at, what.size(), with);
  return text;
}

std::string bash_script(const std::vector<CommandDoc>& commands) {
  std::vector<std::string> names;
  for (const CommandDoc& command : commands) names.push_back(command.name);
  std::string script = replaced(kBashHead, "LIST_MODELS", kListModels);
  script = replaced(script, "COMMANDS", join(names, " "));

  script += "  case \"$command,$prev\" in\n";
  for (const CommandDoc& command : commands) {
    for (const OptionDoc& option : command.options) {
      if (option.positional || option.value.empty() || is_path(option)) continue;
      std::vector<std::string> patterns;
      for (const std::string& name : option.names) patterns.push_back(command.name + "," + name);
      script += "    " + join(patterns, "|") + ") ";
      script += option.choices.empty() ? "return ;;\n"
                                       : "COMPREPLY=($(compgen -W \"" + join(option.choices, " ") +
                                             "\" -- \"$cur\")); return ;;\n";
    }
  }
  script += "  esac\n  case \"$command\" in\n";
  for (const CommandDoc& command : commands) {
    std::vector<std::string> options;
    std::vector<std::string> words;
    for (const OptionDoc& option : command.options) {
      if (option.positional) {
        words.insert(words.end(), option.choices.begin(), option.choices.end());
      } else {
        options.insert(options.end(), option.names.begin(), option.names.end());
      }
    }
    script += "    " + command.name +
              ")\n      case \"$cur\" in\n        -*) COMPREPLY=($(compgen -W \"" +
              join(options, " ") + "\" -- \"$cur\")) ;;\n";
    if (takes_model(command)) {
      script += "        *) COMPREPLY=($(compgen -W \"$(_fathom_models)\" -- \"$cur\")) ;;\n";
    } else if (!words.empty()) {
      script +=
          "        *) COMPREPLY=($(compgen -W \"" + join(words, " ") + "\" -- \"$cur\")) ;;\n";
    }
    script += "      esac ;;\n";
  }
  return script + "  esac\n" + kBashTail;
}

/// Text inside '...[text]' of a zsh _arguments specification.
std::string zsh_escaped(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '\'') {
      escaped += "'\\''";
    } else {
      if (c == '[' || c == ']' || c == ':' || c == '\\') escaped += '\\';
      escaped += c;
    }
  }
  return escaped;
}

std::string zsh_action(const OptionDoc& option) {
  if (!option.choices.empty()) return "(" + join(option.choices, " ") + ")";
  if (option.positional && option.names.front() == "MODEL") return "_fathom_models";
  return is_path(option) || option.positional ? "_files" : " ";
}

std::string zsh_script(const std::vector<CommandDoc>& commands) {
  // The formatter takes this shell text for code, raw string or not.
  // clang-format off
  std::string script = std::string(R"zsh(#compdef fathom
# zsh completion for fathom: save it as _fathom in a folder of $fpath, or source it.

_fathom_models() {
  local -a models
  models=(${(f)"$()zsh") + kListModels + R"zsh()"})
  compadd -a models
  _files
}

_fathom() {
  local context state line
  typeset -A opt_args
  local -a commands
  commands=(
)zsh";
  // clang-format on
  for (const CommandDoc& command : commands) {
    script += "    '" + command.name + ":" + zsh_escaped(command.summary) + "'\n";
  }
  script += R"sh(  )
  _arguments -C '(- *)--help[print help]' '(- *)--version[print the version]' \
    '1:command:->command' '*::argument:->argument'
  case $state in
    command) _describe command commands ;;
    argument)
      case $words[1] in
)sh";
  for (const CommandDoc& command : commands) {
    script += "        " + command.name + ")\n          _arguments";
    for (const OptionDoc& option : command.options) {
      if (option.positional) {
        script += std::string(" \\\n            '") + (option.repeats ? "*" : "") + ":" +
                  zsh_escaped(option.names.front()) + ":" + zsh_action(option) + "'";
        continue;
      }
      for (const std::string& name : option.names) {
        script += " \\\n            '" + name + "[" + zsh_escaped(option.help) + "]";
        if (!option.value.empty()) {
          script += ":" + zsh_escaped(option.value) + ":" + zsh_action(option);
        }
        script += "'";
      }
    }
    script += " ;;\n";
  }
  return script + R"sh(      esac ;;
  esac
}

if [ "$funcstack[1]" = _fathom ]; then _fathom "$@"; else compdef _fathom fathom; fi
)sh";
}

}  // namespace

void add_completion_command(CLI::App& app, Context& /*context*/) {
  CLI::App* command = app.add_subcommand("completion", "Print a completion script for a shell");
  auto shell = std::make_shared<std::string>();
  command->add_option("SHELL", *shell, "The shell to print it for")
      ->type_name("")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh"}));
  command->footer(
      "bash:  fathom completion bash > ~/.local/share/bash-completion/completions/fathom\n"
      "zsh:   fathom completion zsh > _fathom, in a folder that $fpath names");
  command->callback([&app, shell] {
    const auto commands = command_tree(app);
    const std::string script = *shell == "bash" ? bash_script(commands) : zsh_script(commands);
    std::fwrite(script.data(), 1, script.size(), stdout);
  });
}

}  // namespace fathom
