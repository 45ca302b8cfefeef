#include "cli/served_models.h"

#include <fmt/format.h>

#include <chrono>
#include <map>
#include <utility>

#include "base/content_digest.h"
#include "base/memory.h"
#include "base/version.h"
#include "cli/model_store.h"
#include "server/api_error.h"

namespace fathom {
namespace {

namespace fs = std::filesystem;

/// What /v1/models calls it: the name it was asked by, of a path the file's own.
std::string display_name(const std::string& model) {
  const fs::path path(model);
  std::error_code error;
  if (!fs::exists(path, error)) return model;
  return fs::is_directory(path, error) ? path.filename().string() : path.stem().string();
}

std::int64_t modified(const fs::path& path) {
  std::error_code error;
  const auto time = fs::last_write_time(path, error);
  if (error) return 0;
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::file_clock::to_sys(time).time_since_epoch())
      .count();
}

std::optional<server::Price> price_of(const ServedModelsOptions& options, const std::string& name) {
  if (!options.prices) return std::nullopt;
  const auto price = options.prices->of(name);
  require(price.has_value(), ErrorCode::InvalidArgument,
          "there is no price for '{}', and no \"default\" (--prices)", name);
  return price;
}

std::string fingerprint_of(const LoadedModel& loaded, const std::string& kv_type) {
  ContentDigest digest;
  for (const std::string& name : loaded.checkpoint->names()) digest.add(name);
  digest.add(static_cast<std::uint64_t>(loaded.checkpoint->modified_ns()));
  digest.add(std::string_view(kVersion));
  digest.add(to_string(loaded.precision));
  digest.add(kv_type);
  return "fp_" + digest.hex().substr(0, 12);
}

server::ServedModel load_bare(const ServedModelsOptions& options, const std::string& spec,
                              const std::string& name, const Context& context,
                              std::shared_ptr<ContextStore> store) {
  server::ServedModel model;
  model.name = name;
  ModelArguments arguments = options.arguments;
  arguments.model = spec;
  LoadedModel loaded = load_model(arguments, context, TellMemory::Total, options.parallel);
  model.created = modified(loaded.path);
  model.chat = ChatFormat::load(*loaded.checkpoint, loaded.tokenizer);
  model.sampling = default_sampling(*loaded.checkpoint).params;
  model.fingerprint = fingerprint_of(loaded, arguments.kv_type);
  model.engine = loaded.make_engine(arguments, options.parallel, std::move(store));
  return model;
}

server::ServedModel load(const ServedModelsOptions& options, const std::string& spec,
                         const std::string& name, const Context& context) {
  server::ServedModel model = load_bare(options, spec, name, context, options.store);
  model.price = price_of(options, name);
  model.filter = options.filter;
  model.judges = options.judges;
  return model;
}

server::ModelSource source(const ServedModelsOptions& options, const std::string& spec,
                           const std::string& name, const fs::path& path, const Context& context) {
  const auto bytes = [&options, &context, spec] {
    ModelArguments arguments = options.arguments;
    arguments.model = spec;
    return model_memory(arguments, context, options.parallel).total();
  };
  return {name, modified(path), bytes,
          [&options, &context, spec, name] { return load(options, spec, name, context); }};
}

/// As they are now: a model that is pulled while the server runs is found too.
std::vector<server::ModelSource> stored_models(const ServedModelsOptions& options,
                                               const Context& context) {
  const Store store = open_store(context);
  std::vector<server::ModelSource> all;
  for (const StoredModel& model : store.list()) {
    all.push_back(source(options, model.name, model.name, store.path_of(model), context));
  }
  return all;
}

}  // namespace

std::vector<fs::path> find_models(const ServedModelsOptions& options, const Context& context) {
  std::vector<fs::path> paths;
  for (const std::string& model : options.models) {
    paths.push_back(find_model(model, options.arguments.pull, context));
  }
  if (!options.models.empty()) return paths;
  const Store store = open_store(context);
  for (const StoredModel& model : store.list()) paths.push_back(store.path_of(model));
  require(!paths.empty() || options.may_be_empty, ErrorCode::NotFound,
          "there is no model to serve: name one, or fetch some ('fathom list --known')");
  return paths;
}

std::vector<fs::path> find_judges(const ServedModelsOptions& options, const Context& context) {
  std::vector<fs::path> paths;
  if (!options.filter) return paths;
  for (const server::JudgeRule& judge : options.filter->judges()) {
    paths.push_back(find_model(judge.model, options.arguments.pull, context));
  }
  return paths;
}

void load_judges(ServedModelsOptions& options, const Context& context) {
  if (!options.filter) return;
  std::map<std::string, std::shared_ptr<const server::ServedModel>> models;
  for (const server::JudgeRule& judge : options.filter->judges()) {
    auto& model = models[judge.model];
    if (!model) {
      model = std::make_shared<const server::ServedModel>(
          load_bare(options, judge.model, display_name(judge.model), context, /*store=*/{}));
    }
    try {
      options.judges.push_back(std::make_shared<const server::Judge>(judge, model));
    } catch (const server::ApiError& error) {
      fail(ErrorCode::InvalidArgument, "the judge '{}': {}", judge.rule->name, error.what());
    }
  }
}

std::shared_ptr<server::ModelPool> make_pool(const ServedModelsOptions& options,
                                             const Context& context) {
  require(options.name.empty() || options.models.size() == 1, ErrorCode::InvalidArgument,
          "--name names one model, but {} are served", options.models.size());
  server::ModelPoolOptions pool = options.pool;
  pool.available = [ignore = options.arguments.ignore_memory] {
    return ignore ? ~std::uint64_t{0} : memory_limit().available;
  };
  if (options.models.empty()) {
    const auto list = [&options, &context] { return stored_models(options, context); };
    for (const server::ModelSource& model : list()) price_of(options, model.name);
    return std::make_shared<server::ModelPool>(list, std::move(pool));
  }
  std::vector<server::ModelSource> all;
  for (const std::string& model : options.models) {
    const std::string name = options.name.empty() ? display_name(model) : options.name;
    for (const server::ModelSource& other : all) {
      require(other.name != name, ErrorCode::InvalidArgument, "two models are called '{}'", name);
    }
    price_of(options, name);
    all.push_back(
        source(options, model, name, find_model(model, /*pull=*/false, context), context));
  }
  return std::make_shared<server::ModelPool>([all] { return all; }, std::move(pool));
}

}  // namespace fathom
