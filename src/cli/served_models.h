// From the MODELs of `fathom serve` to a pool that loads them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/model_loader.h"
#include "engine/context_store.h"
#include "server/filter.h"
#include "server/judge.h"
#include "server/model_pool.h"
#include "server/prices.h"

namespace fathom {

struct ServedModelsOptions {
  std::vector<std::string> models;  // none: all of the store
  bool may_be_empty = false;        // the store: models will come
  ModelArguments arguments;         // for each of them
  std::string name;                 // of the one model
  std::size_t parallel = 4;
  server::ModelPoolOptions pool;
  std::optional<server::PriceTable> prices;
  std::shared_ptr<const server::Filter> filter;
  std::vector<std::shared_ptr<const server::Judge>> judges;  // by load_judges()
  std::shared_ptr<ContextStore> store;
};

/// Where each model lies. Fetches what is not here, if `options` says so: once the server's door is
/// closed nothing can be fetched. Throws Error(NotFound), also if there is none at all and some
/// must be.
std::vector<std::filesystem::path> find_models(const ServedModelsOptions& options,
                                               const Context& context);

/// Where the models of the filter's judges lie; fetched like the others.
std::vector<std::filesystem::path> find_judges(const ServedModelsOptions& options,
                                               const Context& context);

/// Loads the judges' models, which stay for as long as there is somebody to judge, and lets every
/// model of the pool have them. Throws Error(InvalidArgument) for one that cannot judge.
void load_judges(ServedModelsOptions& options, const Context& context);

/// Both outlive the pool. Throws Error(InvalidArgument) for a model without a price, if there are
/// prices.
std::shared_ptr<server::ModelPool> make_pool(const ServedModelsOptions& options,
                                             const Context& context);

}  // namespace fathom
