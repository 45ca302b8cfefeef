// `fathom verify`: reads models again, byte by byte, and compares their digests.
#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <memory>

#include "cli/commands.h"
#include "cli/model_store.h"

namespace fathom {

void add_verify_command(CLI::App& app, Context& context) {
  struct Options {
    std::vector<std::string> models;
    std::string store;
  };
  CLI::App* command = app.add_subcommand("verify", "Check that stored models are undamaged");
  auto options = std::make_shared<Options>();
  command->add_option("MODEL", options->models, "Names of models; all of them if none is given")
      ->type_name("");
  add_store_option(*command, options->store);
  add_json_option(*command, context);
  command->callback([options, &context] {
    const CancelOnSignal cancel;
    const Store store = open_store(context, options->store);
    std::vector<std::string> names = options->models;
    if (names.empty()) {
      for (const StoredModel& model : store.list()) names.push_back(model.name);
    }
    nlohmann::ordered_json results = nlohmann::ordered_json::array();
    for (const std::string& name : names) {
      std::string problem;
      try {
        store.verify(name);
      } catch (const Error& error) {
        if (error.code() == ErrorCode::Cancelled) throw;
        problem = error.what();
        context.exit_code = ExitCode::Failure;
        print_note(context, problem);
      }
      results.push_back({{"name", name}, {"sound", problem.empty()}, {"problem", problem}});
    }
    if (context.json) {
      print_json({{"models", std::move(results)}});
    } else if (context.exit_code == ExitCode::Success) {
      print_note(context, fmt::format("{} checked, all sound", names.size()));
    }
  });
}

}  // namespace fathom
