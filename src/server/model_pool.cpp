#include "server/model_pool.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "base/progress.h"
#include "server/api_error.h"

namespace fathom::server {
namespace {

using Clock = std::chrono::steady_clock;

std::vector<ModelSource> always(const ServedModel& model) {
  return {{model.name, model.created, {}, {}}};
}

}  // namespace

ModelPool::ModelPool(Lister lister, ModelPoolOptions options)
    : lister_(std::move(lister)), options_(std::move(options)) {
  if (options_.unload_after.count() > 0) reaper_ = std::thread([this] { unload_idle(); });
}

ModelPool::ModelPool(ServedModel model)
    : ModelPool([sources = always(model)] { return sources; }, {.aliases = model.aliases}) {
  const std::string name = model.name;
  loaded_[name] = {std::make_shared<const ServedModel>(std::move(model)), 0, Clock::now()};
}

ModelPool::~ModelPool() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  stop_.notify_all();
  if (reaper_.joinable()) reaper_.join();
}

ModelSource ModelPool::source_of(const std::optional<std::string>& name) const {
  const std::vector<ModelSource> all = lister_();
  const bool first = !name || std::ranges::find(options_.aliases, *name) != options_.aliases.end();
  const auto found = std::ranges::find_if(
      all, [&](const ModelSource& source) { return name && source.name == *name; });
  if (found != all.end()) return *found;
  if (first && !all.empty()) return all.front();
  std::string names;
  for (const ModelSource& source : all) names += (names.empty() ? "'" : ", '") + source.name + "'";
  throw ApiError(404,
                 fmt::format("Model Not Exist: '{}'; this server has {}", name.value_or(""),
                             names.empty() ? "none" : names),
                 "model", "model_not_found");
}

ModelPool::Held ModelPool::find_loaded(const std::string& name) {
  const std::lock_guard lock(mutex_);
  const auto found = loaded_.find(name);
  if (found == loaded_.end()) return nullptr;
  found->second.used = Clock::now();
  return found->second.model;
}

ModelPool::Held ModelPool::find(const std::optional<std::string>& name) {
  if (name) {  // by its own name, without a look at the list
    if (Held held = find_loaded(*name)) return held;
  }
  return find_loaded(source_of(name).name);
}

ModelPool::Held ModelPool::load(const std::optional<std::string>& name) {
  const std::lock_guard one(loading_);
  const ModelSource source = source_of(name);
  if (Held held = find_loaded(source.name)) return held;
  const std::uint64_t bytes = source.bytes();
  make_room(source.name, bytes);
  auto model = std::make_shared<ServedModel>(source.load());
  model->name = source.name;
  const std::lock_guard lock(mutex_);
  loaded_[source.name] = {model, bytes, Clock::now()};
  return model;
}

bool ModelPool::is_free(const Loaded& loaded) {
  if (loaded.model.use_count() > 1) return false;
  const SchedulerStats stats = loaded.model->engine->stats();
  return stats.active == 0 && stats.waiting == 0;
}

ModelPool::Held ModelPool::remove(std::map<std::string, Loaded>::iterator loaded) {
  Held model = std::move(loaded->second.model);
  loaded_.erase(loaded);
  const SchedulerStats stats = model->engine->stats();
  gone_counts_.add(stats.counts);
  store_ = stats.store;
  return model;
}

void ModelPool::make_room(const std::string& name, std::uint64_t bytes) {
  const Clock::time_point until = Clock::now() + options_.patience;
  while (true) {
    Held goes;  // out of memory when this ends, without the mutex
    std::unique_lock lock(mutex_);
    std::uint64_t used = 0;
    for (const auto& [other, loaded] : loaded_) used += loaded.bytes;
    const bool fits =
        (options_.memory == 0 || used + bytes <= options_.memory) && bytes <= options_.available();
    if (fits) return;
    require(options_.memory == 0 || bytes <= options_.memory, ErrorCode::ResourceLimit,
            "'{}' needs {}, but this server's models may take {} (--memory)", name,
            format_bytes(bytes), format_bytes(options_.memory));
    auto oldest = loaded_.end();
    for (auto it = loaded_.begin(); it != loaded_.end(); ++it) {
      if (!is_free(it->second)) continue;
      if (oldest == loaded_.end() || it->second.used < oldest->second.used) oldest = it;
    }
    if (oldest != loaded_.end()) {
      spdlog::info("'{}' is unloaded: '{}' needs its memory", oldest->first, name);
      goes = remove(oldest);
      continue;
    }
    // With nothing left to unload the loader tells what is wanted and what there is.
    if (loaded_.empty()) return;
    if (Clock::now() < until) {
      lock.unlock();
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      continue;
    }
    throw ApiError(503, fmt::format("there is no memory for '{}' while other models answer", name));
  }
}

void ModelPool::unload_idle() {
  const auto look = std::clamp(options_.unload_after / 4, std::chrono::milliseconds(1),
                               std::chrono::milliseconds(10'000));
  std::unique_lock lock(mutex_);
  while (!stop_.wait_for(lock, look, [this] { return stopping_; })) {
    std::vector<Held> gone;
    for (auto it = loaded_.begin(); it != loaded_.end();) {
      Loaded& loaded = it->second;
      if (!is_free(loaded)) loaded.used = Clock::now();
      if (Clock::now() - loaded.used < options_.unload_after) {
        ++it;
        continue;
      }
      spdlog::info("'{}' is unloaded: nobody has asked for it", it->first);
      gone.push_back(remove(it++));
    }
    lock.unlock();
    gone.clear();
    lock.lock();
  }
}

std::vector<ModelSource> ModelPool::list() const { return lister_(); }

SchedulerStats ModelPool::stats() const {
  const std::lock_guard lock(mutex_);
  SchedulerStats sum;
  sum.counts = gone_counts_;
  sum.store = store_;
  for (const auto& [name, loaded] : loaded_) {
    const SchedulerStats stats = loaded.model->engine->stats();
    sum.waiting += stats.waiting;
    sum.active += stats.active;
    sum.idle_sequences += stats.idle_sequences;
    sum.cache_bytes += stats.cache_bytes;
    sum.cache_free_tokens += stats.cache_free_tokens;
    sum.counts.add(stats.counts);
    sum.store = stats.store;
  }
  return sum;
}

std::vector<ModelPool::Held> ModelPool::loaded() const {
  const std::lock_guard lock(mutex_);
  std::vector<Held> all;
  for (const auto& [name, loaded] : loaded_) all.push_back(loaded.model);
  return all;
}

}  // namespace fathom::server
