// `fathom import`: adds a model that is on this machine to the store.
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <memory>

#include "cli/commands.h"
#include "cli/model_store.h"

namespace fathom {

void add_import_command(CLI::App& app, Context& context) {
  struct Options {
    std::string path;
    std::string name;
    std::string store;
    bool link = false;
  };
  CLI::App* command = app.add_subcommand("import", "Add a model file or folder to the store");
  auto options = std::make_shared<Options>();
  command
      ->add_option("PATH", options->path,
                   "A GGUF or safetensors file, or a Hugging Face folder with config.json")
      ->type_name("")
      ->required();
  command->add_option("--name", options->name, "What to call it, instead of a name made from PATH")
      ->type_name("NAME");
  command->add_flag("--link", options->link,
                    "Leave the files where they are; they must stay there unchanged");
  add_store_option(*command, options->store);
  add_json_option(*command, context);
  command->callback([options, &context] {
    const CancelOnSignal cancel;
    Store store = open_store(context, options->store);
    const StoredModel model = store.import(
        options->path, options->link ? ImportMode::Link : ImportMode::Copy, options->name);
    if (context.json) {
      print_json(model_json(store, model));
    } else {
      print_model(store, model);
    }
  });
}

}  // namespace fathom
