#include "server/books.h"

#include <fcntl.h>
#include <sodium.h>
#include <sqlite3.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstring>

#include "base/error.h"
#include "server/api_error.h"

namespace fathom::server {
namespace {

constexpr std::int64_t kMinute = 60;
constexpr std::int64_t kDay = 24 * 60 * 60;
constexpr std::size_t kShown = 11;  // characters of a key that are kept: "sk-" and 8

using Digest = std::array<unsigned char, crypto_generichash_BYTES>;

Digest digest_of(std::string_view key) {
  Digest digest{};
  crypto_generichash(digest.data(), digest.size(),
                     reinterpret_cast<const unsigned char*>(key.data()), key.size(), nullptr, 0);
  return digest;
}

std::int64_t seconds_now() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

constexpr const char* kSchema = R"sql(
CREATE TABLE IF NOT EXISTS keys (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  digest BLOB NOT NULL UNIQUE,
  beginning TEXT NOT NULL,
  created INTEGER NOT NULL,
  revoked INTEGER NOT NULL DEFAULT 0,
  spent_nano INTEGER NOT NULL DEFAULT 0,
  requests_per_minute INTEGER,
  tokens_per_day INTEGER,
  spend_nano INTEGER
) STRICT;
CREATE TABLE IF NOT EXISTS usage (
  key INTEGER NOT NULL,
  at INTEGER NOT NULL,
  model TEXT NOT NULL,
  cache_hit INTEGER NOT NULL,
  cache_miss INTEGER NOT NULL,
  completion INTEGER NOT NULL,
  reasoning INTEGER NOT NULL,
  cost_nano INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS usage_by_key ON usage (key, at);
)sql";

}  // namespace

std::uint64_t cache_scope_of(std::string_view key) {
  const Digest digest = digest_of(key);
  std::uint64_t scope = 0;
  std::memcpy(&scope, digest.data(), sizeof scope);
  return scope;
}

/// A prepared statement; columns and parameters are counted from 0.
struct Books::Statement {
  Statement(const Books& books, const char* sql) : of(books) {
    if (sqlite3_prepare_v2(of.db_, sql, -1, &raw, nullptr) != SQLITE_OK) of.fail_sql(sql);
  }
  ~Statement() { sqlite3_finalize(raw); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  Statement& bind(int i, std::int64_t x) {
    sqlite3_bind_int64(raw, i + 1, x);
    return *this;
  }
  Statement& bind(int i, const std::optional<std::int64_t>& x) {
    if (x) return bind(i, *x);
    sqlite3_bind_null(raw, i + 1);
    return *this;
  }
  Statement& bind(int i, const std::string& x) {
    sqlite3_bind_text(raw, i + 1, x.data(), static_cast<int>(x.size()), SQLITE_TRANSIENT);
    return *this;
  }
  Statement& bind(int i, const Digest& x) {
    sqlite3_bind_blob(raw, i + 1, x.data(), static_cast<int>(x.size()), SQLITE_TRANSIENT);
    return *this;
  }
  /// False after the last row.
  bool step() {
    const int result = sqlite3_step(raw);
    if (result == SQLITE_ROW) return true;
    if (result != SQLITE_DONE) of.fail_sql("a statement");
    return false;
  }
  std::int64_t integer(int i) const { return sqlite3_column_int64(raw, i); }
  std::optional<std::int64_t> optional(int i) const {
    if (sqlite3_column_type(raw, i) == SQLITE_NULL) return std::nullopt;
    return integer(i);
  }
  std::string text(int i) const {
    const auto* bytes = reinterpret_cast<const char*>(sqlite3_column_text(raw, i));
    return bytes == nullptr
               ? std::string()
               : std::string(bytes, static_cast<std::size_t>(sqlite3_column_bytes(raw, i)));
  }
  /// Of a column of digests.
  std::uint64_t scope(int i) const {
    std::uint64_t scope = 0;
    if (sqlite3_column_bytes(raw, i) >= static_cast<int>(sizeof scope)) {
      std::memcpy(&scope, sqlite3_column_blob(raw, i), sizeof scope);
    }
    return scope;
  }
  /// Of SELECT kKeyColumns.
  Key key() const {
    return {integer(0),
            text(1),
            text(2),
            integer(3),
            integer(4),
            integer(5),
            {optional(6), optional(7), optional(8)},
            scope(9)};
  }

  const Books& of;
  sqlite3_stmt* raw = nullptr;
};

#define FATHOM_KEY_COLUMNS                                                                   \
  "id, name, beginning, created, revoked, spent_nano, requests_per_minute, tokens_per_day, " \
  "spend_nano, digest"

void Books::fail_sql(const char* what) const {
  const int code = sqlite3_errcode(db_);
  const bool damaged = code == SQLITE_CORRUPT || code == SQLITE_NOTADB;
  fail(damaged ? ErrorCode::Corrupt : ErrorCode::Io, "{}: {} ({})", file_, sqlite3_errmsg(db_),
       damaged ? "it is no file of keys and usage, or damaged" : what);
}

void Books::run(const char* sql) const {
  if (sqlite3_exec(db_, sql, nullptr, nullptr, nullptr) != SQLITE_OK) fail_sql(sql);
}

Books::Books(const std::filesystem::path& file) : file_(file.string()) {
  require(sodium_init() >= 0, ErrorCode::Internal, "libsodium cannot start");
  std::error_code error;
  if (std::filesystem::create_directories(file.parent_path(), error)) {
    std::filesystem::permissions(file.parent_path(), std::filesystem::perms::owner_all, error);
  }
  // Before SQLite makes it: nobody else is to read it at any time.
  const int made = ::open(file_.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  require(made >= 0, ErrorCode::Io, "{}: cannot be opened for writing", file_);
  ::close(made);
  const int opened =
      sqlite3_open_v2(file_.c_str(), &db_, SQLITE_OPEN_READWRITE | SQLITE_OPEN_FULLMUTEX, nullptr);
  try {
    if (opened != SQLITE_OK) fail_sql("opening it");
    sqlite3_busy_timeout(db_, 5000);
    // Readers do not wait for a writer, and a process that is killed loses nothing that was
    // written.
    run("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;");
    Statement version(*this, "PRAGMA user_version");
    version.step();
    require(version.integer(0) <= 1, ErrorCode::Unsupported,
            "{}: it was written by a later version of Fathom", file_);
    run("BEGIN IMMEDIATE;");
    run(kSchema);
    run("PRAGMA user_version = 1; COMMIT;");
  } catch (...) {
    sqlite3_close(db_);
    throw;
  }
}

Books::~Books() { sqlite3_close(db_); }

std::string Books::create_key(const std::string& name, const KeyLimits& limits) {
  require(!name.empty() && name.size() <= 100, ErrorCode::InvalidArgument,
          "a key's name must have 1 to 100 bytes, not {}", name.size());
  std::array<unsigned char, 32> random{};
  randombytes_buf(random.data(), random.size());
  std::array<char, sodium_base64_ENCODED_LEN(32, sodium_base64_VARIANT_URLSAFE_NO_PADDING)> text{};
  sodium_bin2base64(text.data(), text.size(), random.data(), random.size(),
                    sodium_base64_VARIANT_URLSAFE_NO_PADDING);
  const std::string key = "sk-" + std::string(text.data());
  const std::lock_guard lock(mutex_);
  {
    Statement taken(*this, "SELECT 1 FROM keys WHERE name = ?");
    require(!taken.bind(0, name).step(), ErrorCode::InvalidArgument, "a key is called '{}' already",
            name);
  }
  Statement insert(*this,
                   "INSERT INTO keys (name, digest, beginning, created, requests_per_minute, "
                   "tokens_per_day, spend_nano) VALUES (?, ?, ?, ?, ?, ?, ?)");
  insert.bind(0, name)
      .bind(1, digest_of(key))
      .bind(2, key.substr(0, kShown))
      .bind(3, seconds_now())
      .bind(4, limits.requests_per_minute)
      .bind(5, limits.tokens_per_day)
      .bind(6, limits.spend_nano)
      .step();
  return key;
}

void Books::revoke_key(const std::string& name) {
  const std::lock_guard lock(mutex_);
  Statement update(*this, "UPDATE keys SET revoked = ? WHERE name = ? AND revoked = 0");
  update.bind(0, seconds_now()).bind(1, name).step();
  require(sqlite3_changes(db_) == 1, ErrorCode::NotFound, "no good key is called '{}'", name);
}

std::vector<Key> Books::keys() const {
  const std::lock_guard lock(mutex_);
  std::vector<Key> all;
  Statement select(*this, "SELECT " FATHOM_KEY_COLUMNS " FROM keys ORDER BY id");
  while (select.step()) all.push_back(select.key());
  return all;
}

bool Books::has_keys() const {
  const std::lock_guard lock(mutex_);
  return Statement(*this, "SELECT 1 FROM keys LIMIT 1").step();
}

std::optional<Key> Books::find(std::string_view shown) const {
  if (shown.empty()) return std::nullopt;
  const std::lock_guard lock(mutex_);
  // What is compared is a digest: its bytes' order tells nothing of a key's.
  Statement select(*this,
                   "SELECT " FATHOM_KEY_COLUMNS " FROM keys WHERE digest = ? AND revoked = 0");
  if (!select.bind(0, digest_of(shown)).step()) return std::nullopt;
  return select.key();
}

std::int64_t Books::tokens_since(std::int64_t key, std::int64_t since) const {
  Statement sum(*this,
                "SELECT coalesce(sum(cache_hit + cache_miss + completion), 0) FROM usage "
                "WHERE key = ? AND at > ?");
  sum.bind(0, key).bind(1, since).step();
  return sum.integer(0);
}

void Books::admit(const Key& key, std::int64_t now) {
  const std::lock_guard lock(mutex_);
  const KeyLimits& limits = key.limits;
  if (limits.spend_nano && key.spent_nano >= *limits.spend_nano) {
    throw ApiError(402, fmt::format("the key '{}' has spent what it may spend", key.name));
  }
  if (limits.tokens_per_day && tokens_since(key.id, now - kDay) >= *limits.tokens_per_day) {
    throw ApiError(429,
                   fmt::format("the key '{}' has used its {} tokens of the last 24 hours", key.name,
                               *limits.tokens_per_day),
                   {}, "tokens_per_day");
  }
  if (!limits.requests_per_minute) return;
  std::deque<std::int64_t>& begun = begun_[key.id];
  while (!begun.empty() && begun.front() <= now - kMinute) begun.pop_front();
  if (static_cast<std::int64_t>(begun.size()) >= *limits.requests_per_minute) {
    throw ApiError(429,
                   fmt::format("the key '{}' may begin {} requests a minute", key.name,
                               *limits.requests_per_minute),
                   {}, "requests_per_minute");
  }
  begun.push_back(now);
}

void Books::record(std::int64_t key, const Charge& charge, std::int64_t now) {
  const std::lock_guard lock(mutex_);
  run("BEGIN IMMEDIATE;");
  try {
    Statement insert(*this, "INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?)");
    insert.bind(0, key)
        .bind(1, now)
        .bind(2, charge.model)
        .bind(3, static_cast<std::int64_t>(charge.cache_hit))
        .bind(4, static_cast<std::int64_t>(charge.cache_miss))
        .bind(5, static_cast<std::int64_t>(charge.completion))
        .bind(6, static_cast<std::int64_t>(charge.reasoning))
        .bind(7, charge.cost_nano)
        .step();
    Statement spend(*this, "UPDATE keys SET spent_nano = spent_nano + ? WHERE id = ?");
    spend.bind(0, charge.cost_nano).bind(1, key).step();
    run("COMMIT;");
  } catch (...) {
    sqlite3_exec(db_, "ROLLBACK;", nullptr, nullptr, nullptr);
    throw;
  }
}

std::vector<UsageLine> Books::usage(std::int64_t since, const std::string& key) const {
  const std::lock_guard lock(mutex_);
  Statement select(*this,
                   "SELECT coalesce(keys.name, ''), usage.model, count(*), sum(cache_hit), "
                   "sum(cache_miss), sum(completion), sum(cost_nano) FROM usage "
                   "LEFT JOIN keys ON keys.id = usage.key WHERE at >= ? AND "
                   "(? = '' OR keys.name = ?) GROUP BY usage.key, usage.model ORDER BY 1, 2");
  select.bind(0, since).bind(1, key).bind(2, key);
  std::vector<UsageLine> lines;
  while (select.step()) {
    lines.push_back({select.text(0), select.text(1), select.integer(2), select.integer(3),
                     select.integer(4), select.integer(5), select.integer(6)});
  }
  return lines;
}

}  // namespace fathom::server
