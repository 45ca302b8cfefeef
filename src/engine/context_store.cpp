#include "engine/context_store.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <list>
#include <map>
#include <mutex>
#include <thread>

#include "base/content_digest.h"
#include "base/error.h"
#include "base/sha256.h"

namespace fathom {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kPageTokens = 64;
constexpr std::string_view kSuffix = ".page";
constexpr std::string_view kUnfinished = ".page.new";

using Magic = std::array<char, 8>;
constexpr Magic kPlain{'F', 'A', 'T', 'H', 'O', 'M', 'K', 'V'};
constexpr Magic kSealed{'F', 'A', 'T', 'H', 'O', 'M', 'K', 'S'};

struct Header {
  Magic magic = kPlain;
  std::uint32_t version = 2;
  std::uint32_t tokens = kPageTokens;
  std::uint64_t page_bytes = 0;
  PageName name{};
  char digest[32] =
      {};  // of the name, the tokens and the page, in hexadecimal digits; not if sealed
};
static_assert(sizeof(Header) == 88, "it is written as it lies in memory");

std::size_t file_bytes(std::size_t page_bytes, bool sealed) {
  return sizeof(Header) + kPageTokens * sizeof(TokenId) + page_bytes +
         (sealed ? SecretKey::overhead() : 0);
}

/// A name is 8 bytes of its scope, and 24 that only its tokens have.
constexpr std::size_t kScopeBytes = sizeof(std::uint64_t);

void set_scope(PageName& name, std::uint64_t scope) {
  std::memcpy(name.data(), &scope, kScopeBytes);
}
bool is_of(const PageName& name, std::uint64_t scope) {
  return std::memcmp(name.data(), &scope, kScopeBytes) == 0;
}

/// What the disk knows a scope by.
std::uint64_t scope_on_disk(std::uint64_t scope, const std::optional<SecretKey>& key) {
  if (!key) return scope;
  const PageName name = key->derive("scopes").name(std::as_bytes(std::span(&scope, 1)));
  std::memcpy(&scope, name.data(), kScopeBytes);
  return scope;
}

PageName from_hex(std::string_view hex) {
  const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  PageName name{};
  for (std::size_t i = 0; i < name.size(); ++i) {
    name[i] = static_cast<std::byte>(digit(hex[2 * i]) * 16 + digit(hex[2 * i + 1]));
  }
  return name;
}

std::string to_hex(const PageName& name) {
  std::string hex;
  for (const std::byte byte : name) hex += fmt::format("{:02x}", static_cast<unsigned>(byte));
  return hex;
}

/// The page that a file with this suffix holds, if it is one.
std::optional<PageName> page_of(const fs::directory_entry& entry,
                                std::string_view suffix = kSuffix) {
  const std::string file = entry.path().filename().string();
  const std::string_view stem = std::string_view(file).substr(0, file.find('.'));
  std::error_code error;
  const bool ours = file == std::string(stem) + std::string(suffix) && stem.size() == 64 &&
                    stem.find_first_not_of("0123456789abcdef") == std::string_view::npos &&
                    entry.is_regular_file(error) && !entry.is_symlink(error);
  return ours ? std::optional(from_hex(stem)) : std::nullopt;
}

std::string digest_of(const PageName& name, std::span<const TokenId> tokens,
                      std::span<const std::byte> page) {
  ContentDigest digest;
  digest.add(std::span<const std::byte>(name));
  digest.add(std::as_bytes(tokens));
  digest.add(page);
  return digest.hex();
}

enum class Read { Whole, Gone, Wrong };

/// The whole of the file in `parts`, whose sizes it must have.
Read read_file(const fs::path& path, std::initializer_list<std::span<std::byte>> parts) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return errno == ENOENT ? Read::Gone : Read::Wrong;
  bool good = true;
  for (std::span<std::byte> part : parts) {
    while (good && !part.empty()) {
      const ssize_t got = ::read(fd, part.data(), part.size());
      if (got < 0 && errno == EINTR) continue;
      good = got > 0;
      if (good) part = part.subspan(static_cast<std::size_t>(got));
    }
  }
  char more;
  good = good && ::read(fd, &more, 1) == 0;
  // What was used is last to go, also after a restart.
  if (good) ::futimens(fd, nullptr);
  ::close(fd);
  return good ? Read::Whole : Read::Wrong;
}

bool write_file(const fs::path& path, std::initializer_list<std::span<const std::byte>> parts) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return false;
  bool good = true;
  for (std::span<const std::byte> part : parts) {
    while (good && !part.empty()) {
      const ssize_t put = ::write(fd, part.data(), part.size());
      if (put < 0 && errno == EINTR) continue;
      good = put > 0;
      if (good) part = part.subspan(static_cast<std::size_t>(put));
    }
  }
  return (::close(fd) == 0) && good;
}

}  // namespace

// --- names --------------------------------------------------------------------------------------

PageNames::PageNames(std::string_view fingerprint, std::uint64_t scope) : scope_(scope) {
  const std::string text = fmt::format("fathom context\n{}\n{:016x}", fingerprint, scope);
  root_ = from_hex(sha256_hex(std::as_bytes(std::span(text))));
}

std::span<const PageName> PageNames::of(std::span<const TokenId> tokens) {
  const std::size_t pages = tokens.size() / kPageTokens;
  while (names_.size() < pages) {
    Sha256 hash;
    hash.update(names_.empty() ? root_ : names_.back());
    hash.update(std::as_bytes(tokens.subspan(names_.size() * kPageTokens, kPageTokens)));
    names_.push_back(from_hex(hash.hex_digest()));
    set_scope(names_.back(), scope_);
  }
  return {names_.data(), pages};
}

// --- the store ----------------------------------------------------------------------------------

struct ContextStore::Impl {
  struct Waiting {
    PageName name;
    std::vector<TokenId> tokens;
    std::vector<std::byte> page;
    bool forgotten = false;  // while it was being written
  };
  struct Kept {
    std::uint64_t bytes = 0;
    std::list<PageName>::iterator used;
  };

  explicit Impl(ContextStoreOptions of)
      : options(std::move(of)), names(derived("page names")), seals(derived("pages")) {
    std::error_code error;
    fs::create_directories(options.folder, error);
    require(fs::is_directory(options.folder, error), ErrorCode::Io,
            "{}: the folder of the context cache cannot be made", options.folder.string());
    fs::permissions(options.folder, fs::perms::owner_all, error);
    scan();
    thread = std::thread([this] { write_all(); });
  }

  ~Impl() {
    {
      const std::lock_guard lock(mutex);
      stopping = true;
    }
    changed.notify_all();
    thread.join();
  }

  std::optional<SecretKey> derived(std::string_view purpose) const {
    return options.key ? std::optional(options.key->derive(purpose)) : std::nullopt;
  }

  fs::path path_of(const PageName& name) const {
    return options.folder / (to_hex(name) + std::string(kSuffix));
  }

  /// The name on disk.
  PageName stored(const PageName& name) const {
    if (!names) return name;
    PageName made = names->name(name);
    std::uint64_t scope = 0;
    std::memcpy(&scope, name.data(), kScopeBytes);
    set_scope(made, scope_on_disk(scope, options.key));
    return made;
  }

  /// Whether the file was written without a key.
  static bool is_plain(const fs::path& path) {
    Magic magic{};
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    const bool read = fd >= 0 && ::read(fd, magic.data(), magic.size()) == ssize_t{magic.size()};
    if (fd >= 0) ::close(fd);
    return read && magic == kPlain;
  }

  /// Oldest first, so that they end up least recently used.
  void scan() {
    struct Found {
      fs::file_time_type time;
      PageName name;
      std::uint64_t bytes;
    };
    std::vector<Found> all;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(options.folder, error)) {
      std::error_code ignored;
      if (entry.path().string().ends_with(kUnfinished)) {  // of a process that was killed
        fs::remove(entry.path(), ignored);
        continue;
      }
      const std::optional<PageName> name = page_of(entry);
      if (!name) continue;
      if (options.key && is_plain(entry.path())) {
        stats.plain_deleted += fs::remove(entry.path(), ignored) ? 1 : 0;
        continue;
      }
      all.push_back({entry.last_write_time(ignored), *name, entry.file_size(ignored)});
    }
    require(!error, ErrorCode::Io, "{}: the context cache cannot be looked through: {}",
            options.folder.string(), error.message());
    if (stats.plain_deleted > 0) {
      spdlog::info("{}: {} pages that were not encrypted are deleted", options.folder.string(),
                   stats.plain_deleted);
    }
    std::ranges::sort(all, {},
                      [](const Found& found) { return std::pair(found.time, found.name); });
    for (const Found& found : all) insert(found.name, found.bytes);
    make_room(0);
  }

  // With the mutex held, or before there is a second thread:

  void insert(const PageName& name, std::uint64_t bytes) {
    used.push_front(name);
    kept[name] = {bytes, used.begin()};
    stats.bytes += bytes;
    stats.pages = kept.size();
  }
  void forget(PageName name) {  // a copy: a reference into the list would go with it
    const auto found = kept.find(name);
    if (found == kept.end()) return;
    stats.bytes -= found->second.bytes;
    used.erase(found->second.used);
    kept.erase(found);
    stats.pages = kept.size();
    std::error_code ignored;
    fs::remove(path_of(name), ignored);
  }
  void make_room(std::uint64_t bytes) {
    while (!used.empty() && stats.bytes + bytes > options.capacity_bytes) forget(used.back());
  }
  const Waiting* waiting_page(const PageName& name) const {
    const auto found = std::ranges::find_if(
        queue, [&](const Waiting& waiting) { return waiting.name == name && !waiting.forgotten; });
    return found == queue.end() ? nullptr : &*found;
  }

  // --- the thread that writes

  void write_all() {
    std::unique_lock lock(mutex);
    while (true) {
      changed.wait(lock, [&] { return stopping || !queue.empty(); });
      if (queue.empty()) return;
      const Waiting& next = queue.front();  // stays there, to be found, until it is on disk
      const std::uint64_t bytes = file_bytes(next.page.size(), options.key.has_value());
      make_room(bytes);
      const bool fits = !next.forgotten && stats.bytes + bytes <= options.capacity_bytes;
      lock.unlock();
      const bool written = fits && write(next);
      lock.lock();
      if (written) {
        insert(next.name, bytes);
        ++stats.written;
        if (next.forgotten) forget(next.name);
      } else if (!next.forgotten) {
        ++stats.left_out;
      }
      queued_bytes -= next.page.size();
      queue.pop_front();
      changed.notify_all();
    }
  }

  bool write(const Waiting& page) {
    Header header;
    header.page_bytes = page.page.size();
    header.name = page.name;
    const fs::path path = path_of(page.name);
    const fs::path unfinished = options.folder / (to_hex(page.name) + std::string(kUnfinished));
    const auto header_bytes = std::as_bytes(std::span(&header, 1));
    const auto tokens = std::as_bytes(std::span(page.tokens));
    bool written = false;
    if (seals) {
      header.magic = kSealed;
      std::vector<std::byte> text(tokens.begin(), tokens.end());
      text.insert(text.end(), page.page.begin(), page.page.end());
      written = write_file(unfinished, {header_bytes, seals->seal(text, header_bytes)});
    } else {
      const std::string digest = digest_of(page.name, page.tokens, page.page);
      std::memcpy(header.digest, digest.data(), sizeof header.digest);
      written = write_file(unfinished, {header_bytes, tokens, page.page});
    }
    written = written && ::rename(unfinished.c_str(), path.c_str()) == 0;
    if (written) return true;
    if (!std::exchange(failure_told, true)) {
      spdlog::warn("{}: pages of the context cache cannot be written: {}", options.folder.string(),
                   std::strerror(errno));
    }
    ::unlink(unfinished.c_str());
    return false;
  }

  /// Reads the page and its tokens as write() wrote them.
  Read read(const PageName& name, std::span<const TokenId> tokens,
            std::span<std::byte> page) const {
    Header header;
    const auto header_bytes = std::as_writable_bytes(std::span(&header, 1));
    std::vector<TokenId> said(tokens.size());
    const auto said_bytes = std::as_writable_bytes(std::span(said));
    std::vector<std::byte> sealed(seals ? said_bytes.size() + page.size() + SecretKey::overhead()
                                        : 0);
    const Read got = seals ? read_file(path_of(name), {header_bytes, sealed})
                           : read_file(path_of(name), {header_bytes, said_bytes, page});
    if (got != Read::Whole) return got;
    const bool expected = header.magic == (seals ? kSealed : kPlain) &&
                          header.version == Header().version && header.tokens == tokens.size() &&
                          header.page_bytes == page.size() && header.name == name;
    if (!expected) return Read::Wrong;
    if (seals) {
      const auto text = seals->open(sealed, header_bytes);
      if (!text) return Read::Wrong;
      std::memcpy(said_bytes.data(), text->data(), said_bytes.size());
      std::memcpy(page.data(), text->data() + said_bytes.size(), page.size());
    } else if (digest_of(name, said, page) !=
               std::string_view(header.digest, sizeof header.digest)) {
      return Read::Wrong;
    }
    return std::ranges::equal(said, tokens) ? Read::Whole : Read::Wrong;
  }

  const ContextStoreOptions options;
  const std::optional<SecretKey> names, seals;  // of options.key, for its two purposes
  bool failure_told = false;                    // once is enough; the metrics count

  mutable std::mutex mutex;  // guards what follows
  std::condition_variable changed;
  std::map<PageName, Kept> kept;
  std::list<PageName> used;  // most recently first
  std::deque<Waiting> queue;
  std::size_t queued_bytes = 0;
  ContextStoreStats stats;
  bool stopping = false;

  std::thread thread;
};

ContextStore::ContextStore(ContextStoreOptions options)
    : impl_(std::make_unique<Impl>(std::move(options))) {}
ContextStore::~ContextStore() = default;

bool ContextStore::has(const PageName& name) const {
  const PageName stored = impl_->stored(name);
  const std::lock_guard lock(impl_->mutex);
  return impl_->kept.contains(stored) || impl_->waiting_page(stored) != nullptr;
}

bool ContextStore::load(const PageName& name, std::span<const TokenId> tokens,
                        std::span<std::byte> page) {
  const PageName stored = impl_->stored(name);
  {
    const std::lock_guard lock(impl_->mutex);
    const Impl::Waiting* waiting = impl_->waiting_page(stored);
    if (waiting != nullptr && waiting->page.size() == page.size()) {
      std::ranges::copy(waiting->page, page.begin());
      ++impl_->stats.found;
      return true;
    }
    if (!impl_->kept.contains(stored)) return false;
  }
  const Read read = impl_->read(stored, tokens, page);
  const std::lock_guard lock(impl_->mutex);
  if (read != Read::Whole) {
    if (read == Read::Wrong) ++impl_->stats.damaged;
    impl_->forget(stored);
    return false;
  }
  ++impl_->stats.found;
  const auto found = impl_->kept.find(stored);
  if (found != impl_->kept.end()) {
    impl_->used.splice(impl_->used.begin(), impl_->used, found->second.used);
  }
  return true;
}

void ContextStore::save(const PageName& name, std::span<const TokenId> tokens,
                        std::vector<std::byte> page, bool wait) {
  const std::size_t bytes = page.size();
  const PageName stored = impl_->stored(name);
  std::unique_lock lock(impl_->mutex);
  if (impl_->kept.contains(stored) || impl_->waiting_page(stored) != nullptr) return;
  const auto fits = [&] {
    return impl_->queue.empty() || impl_->queued_bytes + bytes <= impl_->options.queue_bytes;
  };
  if (wait) impl_->changed.wait(lock, fits);
  if (!fits()) {
    ++impl_->stats.left_out;
    return;
  }
  impl_->queue.push_back({stored, {tokens.begin(), tokens.end()}, std::move(page)});
  impl_->queued_bytes += bytes;
  impl_->changed.notify_all();
}

std::size_t ContextStore::forget(std::optional<std::uint64_t> scope) {
  if (scope) scope = scope_on_disk(*scope, impl_->options.key);
  const auto goes = [&](const PageName& name) { return !scope || is_of(name, *scope); };
  std::unique_lock lock(impl_->mutex);
  std::vector<PageName> names;
  for (const auto& [name, kept] : impl_->kept) {
    if (goes(name)) names.push_back(name);
  }
  for (const PageName& name : names) impl_->forget(name);
  std::size_t count = names.size();
  // The first may be on its way to the disk already.
  for (Impl::Waiting& waiting : impl_->queue) {
    if (!goes(waiting.name) || waiting.forgotten) continue;
    waiting.forgotten = true;
    ++count;
  }
  impl_->changed.wait(
      lock, [&] { return std::ranges::none_of(impl_->queue, &Impl::Waiting::forgotten); });
  return count;
}

std::size_t forget_pages(const fs::path& folder, std::optional<std::uint64_t> scope,
                         const std::optional<SecretKey>& key) {
  if (scope) scope = scope_on_disk(*scope, key);
  std::size_t count = 0;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    // What a killed server had not finished holds words like what it had.
    std::optional<PageName> name = page_of(entry);
    if (!name) name = page_of(entry, kUnfinished);
    if (!name || (scope && !is_of(*name, *scope))) continue;
    std::error_code failed;
    count += fs::remove(entry.path(), failed) ? 1 : 0;
    require(!failed, ErrorCode::Io, "{}: cannot be deleted: {}", entry.path().string(),
            failed.message());
  }
  require(!error || error == std::errc::no_such_file_or_directory, ErrorCode::Io,
          "{}: cannot be looked through: {}", folder.string(), error.message());
  return count;
}

void ContextStore::flush() {
  std::unique_lock lock(impl_->mutex);
  impl_->changed.wait(lock, [&] { return impl_->queue.empty(); });
}

ContextStoreStats ContextStore::stats() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->stats;
}

}  // namespace fathom
