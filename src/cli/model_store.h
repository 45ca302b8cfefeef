// The store as subcommands use it: its folder, its messages, and Ctrl-C.
#pragma once

#include <atomic>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "cli/context.h"
#include "store/store.h"

namespace fathom {

/// While one lives, SIGINT and SIGTERM set a flag that long work watches; a second one ends the
/// program as usual. Also ignores SIGXFSZ, so that a file size limit is an error like a full disk.
class CancelOnSignal {
 public:
  CancelOnSignal();
  ~CancelOnSignal();
  CancelOnSignal(const CancelOnSignal&) = delete;
  CancelOnSignal& operator=(const CancelOnSignal&) = delete;

  static const std::atomic<bool>* flag();
  /// A sink that throws Error(Cancelled) once the flag is set: it ends work that reports progress
  /// and cleans up behind itself.
  static ProgressSink watching(ProgressSink sink);
};

/// Adds `--store DIR`, which must outlive the parsing.
void add_store_option(CLI::App& command, std::string& folder);

/// Of the store in `folder`, or in the usual place when that is empty. Models are opened once, by
/// the program's own loader, before they become visible.
StoreOptions store_options(const Context& context, const std::string& folder = {});
Store open_store(const Context& context, const std::string& folder = {});

/// Network settings from the environment and from pip's configuration.
NetworkOptions default_network(const Context& context, bool allow_insecure_http = false);

/// One model as `--json` prints it.
nlohmann::ordered_json model_json(const Store& store, const StoredModel& model);

/// "smollm2:135m  93.8 MiB  Apache-2.0  path" for people.
void print_model(const Store& store, const StoredModel& model);

}  // namespace fathom
