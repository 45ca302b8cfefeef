#include "cli/model_store.h"

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <csignal>
#include <cstdio>
#include <utility>

#include "cli/network_options.h"
#include "formats/checkpoint.h"

namespace fathom {
namespace {

std::atomic<bool> g_cancelled{false};
struct sigaction g_previous_interrupt{};
struct sigaction g_previous_terminate{};

void on_signal(int) { g_cancelled = true; }

}  // namespace

CancelOnSignal::CancelOnSignal() {
  g_cancelled = false;
  struct sigaction action{};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESETHAND;  // the second one ends the program
  ::sigaction(SIGINT, &action, &g_previous_interrupt);
  ::sigaction(SIGTERM, &action, &g_previous_terminate);
  ::signal(SIGXFSZ, SIG_IGN);
}

CancelOnSignal::~CancelOnSignal() {
  ::sigaction(SIGINT, &g_previous_interrupt, nullptr);
  ::sigaction(SIGTERM, &g_previous_terminate, nullptr);
}

const std::atomic<bool>* CancelOnSignal::flag() { return &g_cancelled; }

ProgressSink CancelOnSignal::watching(ProgressSink sink) {
  return [sink = std::move(sink)](const ProgressUpdate& update) {
    // The last report comes from a destructor, and there is nothing left to stop.
    if (g_cancelled && !update.finished) fail(ErrorCode::Cancelled, "interrupted");
    sink(update);
  };
}

void add_store_option(CLI::App& command, std::string& folder) {
  command
      .add_option("--store", folder,
                  "Where models are kept, instead of $FATHOM_HOME or ~/.local/share/fathom")
      ->type_name("DIR");
}

StoreOptions store_options(const Context& context, const std::string& folder) {
  StoreOptions options;
  options.root = store_folder(folder, process_environment());
  std::error_code no_proc;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", no_proc);
  options.bundled = program.parent_path().parent_path() / "share/fathom/models";
  options.validator = [](const std::filesystem::path& path) { open_checkpoint(path); };
  options.progress = context.progress();
  options.notice = [&context](const std::string& text) { print_note(context, text); };
  options.cancelled = CancelOnSignal::flag();
  return options;
}

Store open_store(const Context& context, const std::string& folder) {
  return Store(store_options(context, folder));
}

NetworkOptions default_network(const Context& context, bool allow_insecure_http) {
  NetworkOptions network = read_network_options(
      process_environment(), [&context](const std::string& text) { print_note(context, text); });
  network.allow_insecure_http = allow_insecure_http;
  return network;
}

nlohmann::ordered_json model_json(const Store& store, const StoredModel& model) {
  nlohmann::ordered_json files = nlohmann::ordered_json::array();
  for (const StoredFile& file : model.files) {
    files.push_back({{"path", file.path}, {"size", file.size}, {"sha256", file.sha256}});
  }
  return {{"name", model.name},       {"path", store.path_of(model).string()},
          {"size", model.size()},     {"licence", model.licence},
          {"source", model.spec},     {"origin", model.origin},
          {"added", model.added},     {"linked", !model.linked.empty()},
          {"files", std::move(files)}};
}

void print_model(const Store& store, const StoredModel& model) {
  const std::string line = fmt::format("{}  {}  {}\n{}\n", model.name, format_bytes(model.size()),
                                       model.licence.empty() ? "licence not stated" : model.licence,
                                       store.path_of(model).string());
  std::fwrite(line.data(), 1, line.size(), stdout);
}

}  // namespace fathom
