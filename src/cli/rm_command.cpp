// `fathom rm`: removes models, and what interrupted downloads left.
#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <memory>

#include "cli/commands.h"
#include "cli/model_store.h"

namespace fathom {

void add_rm_command(CLI::App& app, Context& context) {
  struct Options {
    std::vector<std::string> models;
    std::string store;
    bool partial = false;
  };
  CLI::App* command = app.add_subcommand("rm", "Remove models from the store");
  auto options = std::make_shared<Options>();
  command->add_option("MODEL", options->models, "Names of models, as 'fathom list' shows them")
      ->type_name("");
  command->add_flag("--partial", options->partial, "Remove what interrupted downloads left");
  add_store_option(*command, options->store);
  add_json_option(*command, context);
  command->callback([options, &context] {
    require(!options->models.empty() || options->partial, ErrorCode::InvalidArgument,
            "name a model to remove (see 'fathom list'), or give --partial");
    Store store = open_store(context, options->store);
    std::uint64_t freed = 0;
    for (const std::string& model : options->models) freed += store.remove(model);
    if (options->partial) freed += store.clear_partial();
    if (context.json) {
      print_json({{"removed", options->models}, {"bytes_freed", freed}});
    } else {
      print_note(context, fmt::format("{} freed", format_bytes(freed)));
    }
  });
}

}  // namespace fathom
