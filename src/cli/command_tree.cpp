#include "cli/command_tree.h"

#include <CLI/CLI.hpp>

namespace fathom {
namespace {

/// CLI11 describes an option's value as "TEXT:{f32,bf16}": the part in braces, split at commas.
std::vector<std::string> choices_of(const std::string& type_name) {
  const std::size_t open = type_name.find('{');
  const std::size_t close = type_name.find('}', open == std::string::npos ? 0 : open);
  if (open == std::string::npos || close == std::string::npos) return {};
  return CLI::detail::split(type_name.substr(open + 1, close - open - 1), ',');
}

OptionDoc read_option(const CLI::Option& option) {
  OptionDoc doc;
  doc.positional = !option.nonpositional();
  if (doc.positional) {
    doc.names = {option.get_name(true)};
  } else {
    for (const std::string& name : option.get_snames()) doc.names.push_back("-" + name);
    for (const std::string& name : option.get_lnames()) doc.names.push_back("--" + name);
  }
  if (option.get_type_size() != 0) {
    const std::string type_name = option.get_type_name();
    doc.choices = choices_of(type_name);
    doc.value = type_name.substr(0, type_name.find(':'));
  }
  doc.help = option.get_description();
  doc.required = option.get_required();
  doc.repeats = option.get_expected_max() > 1;
  return doc;
}

}  // namespace

std::string CommandDoc::usage() const {
  std::string text = "[options]";
  for (const OptionDoc& option : options) {
    if (!option.positional) continue;
    const std::string word = option.names.front() + (option.repeats ? "..." : "");
    text += option.required ? " " + word : " [" + word + "]";
  }
  return text;
}

std::vector<CommandDoc> command_tree(const CLI::App& app) {
  std::vector<CommandDoc> commands;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (command->get_group().empty()) continue;  // hidden
    CommandDoc doc{command->get_name(), command->get_description(), command->get_footer(), {}};
    for (const CLI::Option* option : command->get_options()) {
      if (!option->get_group().empty()) doc.options.push_back(read_option(*option));
    }
    commands.push_back(std::move(doc));
  }
  return commands;
}

}  // namespace fathom
