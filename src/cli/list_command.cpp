// `fathom list`: the models of the store, or the short names that `pull` knows.
#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <memory>

#include "cli/commands.h"
#include "cli/model_store.h"

namespace fathom {
namespace {

using Row = std::array<std::string, 4>;

/// Columns as wide as their longest cell; the last one free.
void print_table(const std::vector<Row>& rows) {
  std::array<std::size_t, 4> width{};
  for (const Row& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) width[i] = std::max(width[i], row[i].size());
  }
  for (const Row& row : rows) {
    const std::string line = fmt::format("{:<{}}  {:>{}}  {:<{}}  {}\n", row[0], width[0], row[1],
                                         width[1], row[2], width[2], row[3]);
    std::fwrite(line.data(), 1, line.size(), stdout);
  }
}

void list_store(const Context& context, const Store& store) {
  const std::vector<StoredModel> models = store.list();
  if (context.json) {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const StoredModel& model : models) list.push_back(model_json(store, model));
    print_json({{"store", store.root().string()}, {"models", std::move(list)}});
    return;
  }
  if (models.empty()) {
    print_note(context, "no models yet; 'fathom list --known' shows some to pull");
    return;
  }
  std::vector<Row> rows{{"NAME", "SIZE", "LICENCE", "SOURCE"}};
  for (const StoredModel& model : models) {
    rows.push_back({model.name, format_bytes(model.size()),
                    model.licence.empty() ? "not stated" : model.licence,
                    model.spec + (model.linked.empty() ? "" : " (linked)")});
  }
  print_table(rows);
}

void list_known(const Context& context) {
  if (context.json) {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const CatalogueEntry& entry : catalogue()) {
      list.push_back({{"name", entry.name},
                      {"source", entry.spec},
                      {"licence", entry.licence},
                      {"description", entry.description},
                      {"gigabytes", entry.gigabytes}});
    }
    print_json({{"known", std::move(list)}});
    return;
  }
  std::vector<Row> rows{{"NAME", "ABOUT", "LICENCE", "MODEL"}};
  for (const CatalogueEntry& entry : catalogue()) {
    rows.push_back(
        {entry.name, fmt::format("{:.1f} GB", entry.gigabytes), entry.licence, entry.description});
  }
  print_table(rows);
}

}  // namespace

void add_list_command(CLI::App& app, Context& context) {
  struct Options {
    std::string store;
    bool known = false;
  };
  CLI::App* command = app.add_subcommand("list", "List the models on this machine");
  auto options = std::make_shared<Options>();
  command->add_flag("--known", options->known, "The short names that 'fathom pull' takes instead");
  add_store_option(*command, options->store);
  add_json_option(*command, context);
  command->callback([options, &context] {
    if (options->known) {
      list_known(context);
    } else {
      list_store(context, open_store(context, options->store));
    }
  });
}

}  // namespace fathom
