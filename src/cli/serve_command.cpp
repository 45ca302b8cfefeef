// `fathom serve`: a model behind DeepSeek's and OpenAI's API.
#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>

#include "base/content_digest.h"
#include "base/json_guard.h"
#include "base/version.h"
#include "cli/books_file.h"
#include "cli/commands.h"
#include "cli/model_loader.h"
#include "cli/model_store.h"
#include "cli/served_files.h"
#include "server/listener.h"
#include "server/sandbox.h"

namespace fathom {
namespace {

struct Options {
  ModelArguments model;
  server::ListenerOptions listener;
  server::ApiOptions api;
  std::vector<std::string> aliases{"deepseek-chat", "deepseek-reasoner"};
  std::string name;
  std::string key_file;
  std::string books_file;
  std::string price_file;
  std::string filter_file;
  std::size_t parallel = 4;
  std::uint64_t disk_cache = 0;  // bytes
  bool without_tls = false;
  bool without_sandbox = false;
};

bool is_loopback(const std::string& address) {
  return address == "::1" || address.starts_with("127.");
}

/// A key a line; what follows '#' is a remark.
std::vector<std::string> read_keys(const std::string& file) {
  std::vector<std::string> keys;
  if (file.empty()) return keys;
  std::ifstream in(file);
  require(in.good(), ErrorCode::Io, "{}: cannot open the file of keys", file);
  for (std::string line; std::getline(in, line);) {
    line.resize(std::min(line.find('#'), line.size()));
    line.erase(line.find_last_not_of(" \t\r") + 1);
    line.erase(0, line.find_first_not_of(" \t"));
    if (!line.empty()) keys.push_back(line);
  }
  require(!keys.empty(), ErrorCode::InvalidArgument, "{}: there is no key in it", file);
  for (const std::string& key : keys) {
    require(key.size() >= 16, ErrorCode::InvalidArgument,
            "{}: a key of {} characters can be guessed; 16 are the least", file, key.size());
  }
  return keys;
}

/// What /v1/models calls it: the name it was asked by, of a path the file's own.
std::string display_name(const std::string& model) {
  const std::filesystem::path path(model);
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return model;
  return std::filesystem::is_directory(path, error) ? path.filename().string()
                                                    : path.stem().string();
}

std::int64_t modified(const std::filesystem::path& path) {
  std::error_code error;
  const auto time = std::filesystem::last_write_time(path, error);
  if (error) return 0;
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::file_clock::to_sys(time).time_since_epoch())
      .count();
}

std::filesystem::path disk_cache_folder(const Context& context) {
  return open_store(context).root() / "context-cache";
}

/// What all models of the server have in common, from files that later cannot be opened any more;
/// what is wrong with them is said before anything large is read.
struct Shared {
  std::optional<server::PriceTable> prices;
  std::shared_ptr<const server::Filter> filter;
  std::shared_ptr<ContextStore> store;
};

Shared read_shared(const Options& options, const Context& context) {
  Shared shared;
  if (!options.price_file.empty()) {
    shared.prices = server::PriceTable::parse(read_text_file(options.price_file, 1 << 20),
                                              options.price_file);
  }
  if (!options.filter_file.empty()) {
    shared.filter = std::make_shared<const server::Filter>(
        server::Filter::parse(read_text_file(options.filter_file, 1 << 20), options.filter_file));
  }
  if (options.disk_cache > 0) {
    ContextStoreOptions cache;
    cache.folder = disk_cache_folder(context);
    cache.capacity_bytes = options.disk_cache;
    shared.store = std::make_shared<ContextStore>(cache);
  }
  return shared;
}

server::ServedModel load(const Options& options, const Shared& shared, const Context& context) {
  server::ServedModel model;
  model.filter = shared.filter;
  LoadedModel loaded = load_model(options.model, context, TellMemory::Total, options.parallel);
  model.name = options.name.empty() ? display_name(options.model.model) : options.name;
  model.aliases = options.aliases;
  if (shared.prices) {
    model.price = shared.prices->of(model.name);
    require(model.price.has_value(), ErrorCode::InvalidArgument,
            "{}: there is no price for '{}', and no \"default\"", options.price_file, model.name);
  }
  model.created = modified(loaded.path);
  model.chat = ChatFormat::load(*loaded.checkpoint, loaded.tokenizer);
  model.sampling = default_sampling(*loaded.checkpoint).params;
  ContentDigest digest;
  for (const std::string& name : loaded.checkpoint->names()) digest.add(name);
  digest.add(static_cast<std::uint64_t>(loaded.checkpoint->modified_ns()));
  digest.add(std::string_view(kVersion));
  digest.add(to_string(loaded.precision));
  digest.add(options.model.kv_type);
  model.fingerprint = "fp_" + digest.hex().substr(0, 12);
  model.engine = loaded.make_engine(options.model, options.parallel, shared.store);
  return model;
}

/// Before a byte of a model is read, and before there are threads.
void put_up_file_wall(const Options& options, const Context& context) {
  // A model that must be fetched first is fetched here: later nothing can be.
  const std::filesystem::path model = find_model(options.model.model, options.model.pull, context);
  if (options.without_sandbox) return;
  if (!server::can_restrict_files()) {
    print_note(context,
               "this kernel has no Landlock: which files the server may open is not restricted");
    return;
  }
  server::FileAccess access;
  access.read.push_back(open_store(context).root());
  add_model_files(access, model);
  if (options.api.books) {
    access.write.push_back(std::filesystem::absolute(books_path(options.books_file)).parent_path());
  }
  if (options.disk_cache > 0) access.write.push_back(disk_cache_folder(context));
  server::restrict_files(access);
}

void close_door() {
  try {
    server::close_door();
  } catch (const Error& error) {
    fail(error.code(), "{}; --without-sandbox serves regardless", error.what());
  }
}

void serve(Options& options, const Context& context) {
  server::forbid_core_dumps();
  // Books that nobody began are not begun here, unless they are asked for by name.
  const std::filesystem::path books = books_path(options.books_file);
  if (!options.books_file.empty() || std::filesystem::exists(books)) {
    options.api.books = std::make_shared<server::Books>(books);
  }
  const bool has_keys =
      !options.key_file.empty() || (options.api.books && options.api.books->has_keys());
  require(is_loopback(options.listener.address) || has_keys, ErrorCode::InvalidArgument,
          "{} can be reached from other machines: make a key ('fathom keys create NAME'), or give "
          "some (--keys FILE)",
          options.listener.address);
  require(
      is_loopback(options.listener.address) || options.without_tls, ErrorCode::InvalidArgument,
      "{} can be reached from other machines, and what is said would go there unencrypted: put a "
      "proxy with TLS before 127.0.0.1, or say --without-tls",
      options.listener.address);
  options.api.keys = read_keys(options.key_file);
  const Shared shared = read_shared(options, context);
  put_up_file_wall(options, context);
  server::Api api(load(options, shared, context), options.api);
  options.listener.stop_on_signals = true;
  server::Listener listener(api, options.listener);
  if (!options.without_sandbox) close_door();
  const bool v6 = options.listener.address.find(':') != std::string::npos;
  const std::string url = fmt::format("http://{}{}{}:{}", v6 ? "[" : "", options.listener.address,
                                      v6 ? "]" : "", listener.port());
  if (context.json) {
    print_json({{"url", url}, {"model", api.model().name}});
  } else {
    fmt::print(
        "{} serves {} at {}/v1 (Ctrl-C ends it)\n\n"
        "  curl {}/v1/chat/completions -H 'Content-Type: application/json'{} \\\n"
        "    -d '{{\"messages\": [{{\"role\": \"user\", \"content\": \"Hello\"}}]}}'\n\n",
        "fathom", api.model().name, url, url,
        !has_keys ? "" : " -H 'Authorization: Bearer YOUR-KEY'");
  }
  std::fflush(stdout);
  listener.run();
  print_note(context, "ended");
}

}  // namespace

void add_serve_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("serve", "Serve a model over DeepSeek's and OpenAI's API");
  auto options = std::make_shared<Options>();
  options->model.add_to(*command);
  const char* group = "Server";
  command->add_option("--host", options->listener.address, "The address to listen on")
      ->type_name("ADDRESS")
      ->capture_default_str()
      ->group(group);
  command->add_option("--port", options->listener.port, "The port; 0 takes any that is free")
      ->type_name("N")
      ->capture_default_str()
      ->group(group);
  command
      ->add_option("--parallel", options->parallel,
                   "Requests at once that each find room for a whole context")
      ->type_name("N")
      ->check(CLI::Range(1, 256))
      ->capture_default_str()
      ->group(group);
  command->add_option("--keys", options->key_file, "A file with a key a line; one is then needed")
      ->type_name("FILE")
      ->group(group);
  command
      ->add_option("--disk-cache", options->disk_cache,
                   "Keep what conversations left in the context cache on disk, in so much of it "
                   "(8GiB): they go on quickly after a restart. It holds what was said")
      ->type_name("SIZE")
      ->transform(CLI::AsSizeValue(false))
      ->group(group);
  add_books_option(*command, options->books_file)->group(group);
  command
      ->add_option("--prices", options->price_file,
                   "A JSON file of prices: answers then tell their cost (docs/prices.json)")
      ->type_name("FILE")
      ->group(group);
  command
      ->add_option("--filter", options->filter_file,
                   "A JSON file of rules that what is asked and answered must not match")
      ->type_name("FILE")
      ->group(group);
  command
      ->add_option("--name", options->name,
                   "What the model is called; the file's name if not given")
      ->type_name("NAME")
      ->group(group);
  command
      ->add_option(
          "--alias", options->aliases,
          "Further names that requests may use (deepseek-chat and deepseek-reasoner if none "
          "is given)")
      ->type_name("NAME")
      ->group(group);
  command
      ->add_option("--host-name", options->api.hosts,
                   "A name of this machine that requests may use, beside localhost and addresses")
      ->type_name("NAME")
      ->group(group);
  command
      ->add_option("--origin", options->api.origins,
                   "Web pages that may ask: https://chat.example.org")
      ->type_name("URL")
      ->group(group);
  command
      ->add_flag("--strict-reasoning", options->api.rules.refuse_reasoning_content,
                 "Refuse thoughts that are sent back, as R1's API did, instead of dropping them")
      ->group(group);
  command
      ->add_flag("--without-tls", options->without_tls,
                 "Let other machines ask although nothing is encrypted")
      ->group(group);
  command
      ->add_flag("--without-sandbox", options->without_sandbox,
                 "Let the process open files and connect like any other: to look for faults only")
      ->group(group);
  add_json_option(*command, context);
  command->footer(
      "fathom serve deepseek-r1:1.5b\n"
      "fathom serve model.gguf --port 9000 --keys keys.txt");
  command->callback([options, &context] { serve(*options, context); });
}

}  // namespace fathom
