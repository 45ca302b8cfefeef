// `fathom serve`: a model behind DeepSeek's and OpenAI's API.
#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>

#include "base/json_guard.h"
#include "cli/books_file.h"
#include "cli/commands.h"
#include "cli/kept_words.h"
#include "cli/model_store.h"
#include "cli/pull_process.h"
#include "cli/served_files.h"
#include "cli/served_models.h"
#include "server/listener.h"
#include "server/sandbox.h"

namespace fathom {
namespace {

struct Options {
  ServedModelsOptions models;
  server::ListenerOptions listener;
  server::ApiOptions api;
  std::string key_file;
  std::string books_file;
  std::string price_file;
  std::string filter_file;
  std::vector<std::string> pulls;  // models that users may have fetched
  int pull_socket = -1;            // to the process that fetches them
  std::uint64_t disk_cache = 0;    // bytes
  std::string encryption_key_file;
  std::optional<SecretKey> encryption_key;
  double unload_minutes = 0;
  std::string certificate_file, tls_key_file;
  bool without_tls = false;
  bool without_sandbox = false;
};

bool is_loopback(const std::string& address) {
  return address == "::1" || address.starts_with("127.");
}

/// What --allow-pull says, "known" spelled out.
server::PullRules pull_rules(const std::vector<std::string>& said) {
  std::vector<std::string> allowed;
  for (const std::string& model : said) {
    if (model != "known") {
      allowed.push_back(model);
      continue;
    }
    for (const CatalogueEntry& entry : catalogue()) allowed.emplace_back(entry.name);
  }
  return server::PullRules(std::move(allowed));
}

/// Before anything is read that the fetching process need not know.
void start_fetching(Options& options, const Context& context) {
  if (options.pulls.empty()) return;
  require(options.models.models.empty(), ErrorCode::InvalidArgument,
          "--allow-pull is for a server of all that the store has: name no MODEL");
  options.models.may_be_empty = true;
  const server::PullRules rules = pull_rules(options.pulls);
  options.pull_socket = start_pull_process(rules, !options.without_sandbox, context);
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

/// Files that later cannot be opened any more; what is wrong with them is said before anything
/// large is read.
void read_files(Options& options) {
  options.api.keys = read_keys(options.key_file);
  options.encryption_key = read_encryption_key(options.encryption_key_file);
  if (!options.price_file.empty()) {
    options.models.prices =
        server::PriceTable::parse(read_text_file(options.price_file, 1 << 20), options.price_file);
  }
  if (!options.certificate_file.empty()) {
    options.listener.tls = {read_text_file(options.certificate_file, 1 << 20),
                            read_text_file(options.tls_key_file, 1 << 20), options.certificate_file,
                            options.tls_key_file};
  }
  if (!options.filter_file.empty()) {
    options.models.filter = std::make_shared<const server::Filter>(
        server::Filter::parse(read_text_file(options.filter_file, 1 << 20), options.filter_file));
  }
}

/// Before a byte of a model is read, and before there are threads.
void put_up_file_wall(const Options& options, const Context& context) {
  // Those that must be fetched first are fetched here: later nothing can be.
  const std::vector<std::filesystem::path> models = find_models(options.models, context);
  const std::vector<std::filesystem::path> judges = find_judges(options.models, context);
  if (options.without_sandbox) return;
  if (!server::can_restrict_files()) {
    print_note(context,
               "this kernel has no Landlock: which files the server may open is not restricted");
    return;
  }
  server::FileAccess access;
  access.read.push_back(open_store(context).root());
  for (const auto* all : {&models, &judges}) {
    for (const auto& model : *all) add_model_files(access, model);
  }
  if (options.api.books) {
    // The files alone, which SQLite has made and keeps open: their folder may be anything.
    const std::string file = std::filesystem::absolute(books_path(options.books_file)).string();
    for (const char* part : {"", "-wal", "-shm"}) access.write.emplace_back(file + part);
  }
  if (options.disk_cache > 0) {
    // What is not there cannot be allowed.
    std::error_code error;
    std::filesystem::create_directories(disk_cache_folder(context), error);
    access.write.push_back(disk_cache_folder(context));
  }
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
  start_fetching(options, context);
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
  const bool tls = !options.certificate_file.empty();
  require(tls == !options.tls_key_file.empty(), ErrorCode::InvalidArgument,
          "--tls-certificate and --tls-key belong together");
  require(
      is_loopback(options.listener.address) || tls || options.without_tls,
      ErrorCode::InvalidArgument,
      "{} can be reached from other machines, and what is said would go there unencrypted: give "
      "--tls-certificate and --tls-key, put a proxy with TLS before 127.0.0.1, or say "
      "--without-tls",
      options.listener.address);
  read_files(options);
  put_up_file_wall(options, context);
  if (options.disk_cache > 0) {
    ContextStoreOptions cache{disk_cache_folder(context), options.disk_cache};
    cache.key = options.encryption_key;
    options.models.store = std::make_shared<ContextStore>(cache);  // has a thread: behind the wall
    options.api.context_store = options.models.store;
  }
  options.models.pool.unload_after =
      std::chrono::milliseconds(static_cast<std::int64_t>(options.unload_minutes * 60'000));
  load_judges(options.models, context);
  const auto pool = make_pool(options.models, context);
  // Of several models, the first request for one loads it.
  if (options.models.models.size() == 1) pool->load({});
  if (options.pull_socket >= 0) {
    // Has a thread: behind the wall, before the door.
    options.api.pulls =
        std::make_shared<server::PullDesk>(options.pull_socket, pull_rules(options.pulls));
  }
  server::Api api(pool, options.api);
  options.listener.stop_on_signals = true;
  server::Listener listener(api, options.listener);
  if (!options.without_sandbox) close_door();
  const bool v6 = options.listener.address.find(':') != std::string::npos;
  const std::string url = fmt::format("{}://{}{}{}:{}", tls ? "https" : "http", v6 ? "[" : "",
                                      options.listener.address, v6 ? "]" : "", listener.port());
  const std::vector<server::ModelSource> all = pool->list();
  const std::string what = all.empty()       ? "no model yet"
                           : all.size() == 1 ? all.front().name
                                             : fmt::format("{} models", all.size());
  if (context.json) {
    print_json({{"url", url}, {"model", all.empty() ? "" : all.front().name}});
  } else {
    // Where there is no model yet, the first thing to do is to have one fetched.
    const std::string body =
        all.empty()
            ? fmt::format("{{\"model\": \"{}\"}}", pull_rules(options.pulls).allowed().front())
            : fmt::format(
                  "{{{}\"messages\": [{{\"role\": \"user\", \"content\": "
                  "\"Hello\"}}]}}",
                  all.size() == 1 ? "" : fmt::format("\"model\": \"{}\", ", all.front().name));
    fmt::print(
        "fathom serves {} at {}/v1 (Ctrl-C ends it)\n\n"
        "  curl {}/v1/{} -H 'Content-Type: application/json'{} \\\n"
        "    -d '{}'\n\n",
        what, url, url, all.empty() ? "pulls" : "chat/completions",
        !has_keys ? "" : " -H 'Authorization: Bearer YOUR-KEY'", body);
  }
  std::fflush(stdout);
  listener.run();
  print_note(context, "ended");
}

}  // namespace

void add_serve_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("serve", "Serve a model over DeepSeek's and OpenAI's API");
  auto options = std::make_shared<Options>();
  command
      ->add_option("MODEL", options->models.models,
                   "Names in the store, GGUF files, Hugging Face folders; all of the store if none "
                   "is given. Several are loaded when a request names them")
      ->type_name("");
  options->models.arguments.add_options_to(*command);
  options->models.arguments.add_speculation_to(*command);
  options->models.pool.aliases = {"deepseek-chat", "deepseek-reasoner"};
  const char* group = "Server";
  command
      ->add_option("--memory", options->models.pool.memory,
                   "The most that loaded models may take together (16GiB): the least recently used "
                   "go first. What the machine has, if not given")
      ->type_name("SIZE")
      ->transform(CLI::AsSizeValue(false).description(""))
      ->group(group);
  command
      ->add_option("--unload-after", options->unload_minutes,
                   "Unload models that nobody has asked for so long; 0: they stay until another "
                   "needs their room")
      ->type_name("MINUTES")
      ->check(CLI::Range(0.0, 1e6).description(""))
      ->group(group);
  command->add_option("--host", options->listener.address, "The address to listen on")
      ->type_name("ADDRESS")
      ->capture_default_str()
      ->group(group);
  command->add_option("--port", options->listener.port, "The port; 0 takes any that is free")
      ->type_name("N")
      ->capture_default_str()
      ->group(group);
  command
      ->add_option("--parallel", options->models.parallel,
                   "Requests at once that each find room for a whole context")
      ->type_name("N")
      ->check(CLI::Range(1, 256).description(""))
      ->capture_default_str()
      ->group(group);
  command->add_option("--keys", options->key_file, "A file with a key a line; one is then needed")
      ->type_name("FILE")
      ->group(group);
  command
      ->add_option("--allow-pull", options->pulls,
                   "A model that users may have fetched ('*' stands for anything; 'known': all of "
                   "'fathom list --known'), by a process of its own; may be given again. No user "
                   "may, if not given")
      ->type_name("MODEL")
      ->allow_extra_args(false)  // a MODEL after it is none to be fetched
      ->group(group);
  command
      ->add_option("--disk-cache", options->disk_cache,
                   "Keep what conversations left in the context cache on disk, in so much of it "
                   "(8GiB): they go on quickly after a restart. It holds what was said")
      ->type_name("SIZE")
      ->transform(CLI::AsSizeValue(false).description(""))
      ->group(group);
  add_encryption_key_option(*command, options->encryption_key_file)->group(group);
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
      ->add_option("--name", options->models.name,
                   "What the model is called; the file's name if not given")
      ->type_name("NAME")
      ->group(group);
  command
      ->add_option(
          "--alias", options->models.pool.aliases,
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
      ->add_option("--tls-certificate", options->certificate_file,
                   "Answer under TLS alone, with this certificate and its chain (PEM)")
      ->type_name("FILE")
      ->group(group);
  command->add_option("--tls-key", options->tls_key_file, "The certificate's key (PEM)")
      ->type_name("FILE")
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
      "fathom serve                       every model of the store\n"
      "fathom serve --allow-pull known    and those that users have fetched\n"
      "fathom serve model.gguf --port 9000 --keys keys.txt");
  command->callback([options, &context] { serve(*options, context); });
}

}  // namespace fathom
