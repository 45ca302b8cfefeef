// The models that a server answers with: which there are, which are in memory, and who must go when
// another one is wanted.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "server/served_model.h"

namespace fathom::server {

/// A model that can be loaded.
struct ModelSource {
  std::string name;          // as /v1/models lists it
  std::int64_t created = 0;  // seconds since 1970
  /// Memory that it will take. Throws Error.
  std::function<std::uint64_t()> bytes;
  /// Throws Error.
  std::function<ServedModel()> load;
};

struct ModelPoolOptions {
  /// Names that requests may use for the first model of the list, as they do by naming none.
  std::vector<std::string> aliases;
  /// The most that all loaded models may take together; 0: what the machine has.
  std::uint64_t memory = 0;
  /// What can still be taken now.
  std::function<std::uint64_t()> available = [] { return ~std::uint64_t{0}; };
  /// Models that nobody has asked for so long are unloaded; 0: they stay until room is needed.
  std::chrono::milliseconds unload_after{0};
  /// How long a model that needs the room of others waits for them to be let go: whoever has just
  /// read an answer may ask another model before the first one's request is cleared away here.
  std::chrono::milliseconds patience{500};
};

/// Thread-safe. Whoever holds a model keeps it in memory.
class ModelPool {
 public:
  using Held = std::shared_ptr<const ServedModel>;
  /// Asked anew each time, so that models that were pulled meanwhile are found.
  using Lister = std::function<std::vector<ModelSource>()>;

  ModelPool(Lister lister, ModelPoolOptions options);
  /// One model, always there.
  explicit ModelPool(ServedModel model);
  ~ModelPool();
  ModelPool(const ModelPool&) = delete;
  ModelPool& operator=(const ModelPool&) = delete;

  /// The model of that name, or the first one; null if it must be loaded first. Throws
  /// ApiError(404) for a name that is none.
  Held find(const std::optional<std::string>& name);
  /// Loads it, unless it is there: may take minutes. The least recently used ones that nobody uses
  /// go first if there is no room. Throws ApiError(404 | 503), Error.
  Held load(const std::optional<std::string>& name);
  /// All that can be asked for, loaded or not.
  std::vector<ModelSource> list() const;
  std::vector<Held> loaded() const;
  /// Of all that are loaded together; counts include models that have been unloaded.
  SchedulerStats stats() const;

 private:
  struct Loaded {
    Held model;
    std::uint64_t bytes = 0;
    std::chrono::steady_clock::time_point used;
  };

  ModelSource source_of(const std::optional<std::string>& name) const;
  Held find_loaded(const std::string& name);
  /// Unloads until `bytes` fit, as far as that is possible.
  void make_room(const std::string& name, std::uint64_t bytes);
  /// Nobody holds it, and its engine has nothing to do. With mutex_ held.
  static bool is_free(const Loaded& loaded);
  void unload_idle();
  /// Takes it off the list, and keeps what it has counted. The caller lets it go without mutex_.
  Held remove(std::map<std::string, Loaded>::iterator loaded);

  const Lister lister_;
  const ModelPoolOptions options_;
  std::mutex loading_;  // one at a time: each takes all the machine has

  mutable std::mutex mutex_;  // guards what follows
  std::map<std::string, Loaded> loaded_;
  SchedulerCounts gone_counts_;  // of those that were unloaded
  ContextStoreStats store_;      // all share one; as the last one left it
  std::condition_variable stop_;
  bool stopping_ = false;

  std::thread reaper_;  // with unload_after
};

}  // namespace fathom::server
