// Keys and what was used with them, in one SQLite file.
//
// A key is shown once, when it is made: the file holds its BLAKE2b digest. Of a request the books
// keep whose it was, when, which model, and how many tokens: nothing of what was said.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

struct sqlite3;

namespace fathom::server {

/// Whose pages of the context cache a key finds: it is the beginning of the key's digest.
std::uint64_t cache_scope_of(std::string_view key);

struct KeyLimits {
  std::optional<std::int64_t> requests_per_minute;
  std::optional<std::int64_t> tokens_per_day;  // prompt and answer, of the last 24 hours
  std::optional<std::int64_t> spend_nano;      // in all, in billionths of a dollar
};

struct Key {
  std::int64_t id = 0;
  std::string name;
  std::string beginning;     // of the key itself, to tell keys apart by
  std::int64_t created = 0;  // seconds since 1970
  std::int64_t revoked = 0;  // 0: it is good
  std::int64_t spent_nano = 0;
  KeyLimits limits;
  std::uint64_t cache_scope = 0;  // cache_scope_of() the key
};

/// One request's account.
struct Charge {
  std::string model;
  std::size_t cache_hit = 0, cache_miss = 0, completion = 0, reasoning = 0;  // tokens
  std::int64_t cost_nano = 0;
};

/// What one key used of one model.
struct UsageLine {
  std::string key;  // "" for requests without one
  std::string model;
  std::int64_t requests = 0, cache_hit = 0, cache_miss = 0, completion = 0, cost_nano = 0;
};

/// Thread-safe, and several processes may have the same file open.
class Books {
 public:
  /// Opens the file, or makes it (0600). Throws Error(Io | Corrupt) naming it.
  explicit Books(const std::filesystem::path& file);
  ~Books();
  Books(const Books&) = delete;
  Books& operator=(const Books&) = delete;

  /// The new key: "sk-" and 43 characters. Throws Error(InvalidArgument) for a name that is empty,
  /// long or taken.
  std::string create_key(const std::string& name, const KeyLimits& limits);
  /// Throws Error(NotFound).
  void revoke_key(const std::string& name);
  std::vector<Key> keys() const;
  /// Whether requests need a key: one was made, good or revoked.
  bool has_keys() const;
  /// The good key that is `shown`.
  std::optional<Key> find(std::string_view shown) const;

  /// Counts a request that begins at `now` (seconds since 1970). Throws ApiError(429) past a rate,
  /// ApiError(402) when what it may spend is spent.
  void admit(const Key& key, std::int64_t now);
  /// key: 0 for a request without one. On return it is in the file.
  void record(std::int64_t key, const Charge& charge, std::int64_t now);

  /// Since `since`, by key and model; of one key if `key` is not empty.
  std::vector<UsageLine> usage(std::int64_t since, const std::string& key = {}) const;

 private:
  struct Statement;
  void run(const char* sql) const;
  [[noreturn]] void fail_sql(const char* what) const;
  std::int64_t tokens_since(std::int64_t key, std::int64_t since) const;

  std::string file_;
  sqlite3* db_ = nullptr;
  mutable std::mutex mutex_;
  std::map<std::int64_t, std::deque<std::int64_t>> begun_;  // by key: requests of the last minute
};

}  // namespace fathom::server
