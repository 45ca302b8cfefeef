// The MODEL argument: a path, a model in the store, or one that can be fetched.
#include <fmt/format.h>

#include <cstdio>
#include <iostream>
#include <string>

#include "cli/model_loader.h"
#include "cli/model_store.h"
#include "cli/terminal.h"
#include "store/model_spec.h"

namespace fathom {
namespace {

/// Asks at the terminal; no answer is no.
bool person_agrees(const ModelSpec& spec) {
  std::string size;
  for (const CatalogueEntry& entry : catalogue()) {
    if (spec.text == entry.spec || spec.name == entry.name) {
      size = fmt::format(" ({:.1f} GB, {})", entry.gigabytes, entry.licence);
    }
  }
  std::fputs(fmt::format("{} is not on this machine. Fetch it from {}{}? [y/N] ", spec.name,
                         spec.text, size)
                 .c_str(),
             stderr);
  std::string reply;
  std::getline(std::cin, reply);
  return reply == "y" || reply == "Y" || reply == "yes";
}

}  // namespace

std::filesystem::path find_model(const std::string& model, bool pull, const Context& context) {
  Store store = open_store(context);
  try {
    return store.find(model);
  } catch (const Error& missing) {
    if (missing.code() != ErrorCode::NotFound) throw;
    const bool ask = !context.json && stdin_is_terminal() && stderr_is_terminal();
    if (!pull && !ask) throw;
    ModelSpec spec;
    try {
      spec = parse_model_spec(model);
    } catch (const Error&) {
      throw missing;  // nothing that could be fetched
    }
    if (std::holds_alternative<PathSpec>(spec.source)) throw;
    if (!pull && !person_agrees(spec)) throw;
  }
  const CancelOnSignal cancel;
  return store.path_of(store.pull(model, default_network(context)));
}

}  // namespace fathom
