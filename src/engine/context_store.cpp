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

struct Header {
  char magic[8] = {'F', 'A', 'T', 'H', 'O', 'M', 'K', 'V'};
  std::uint32_t version = 1;
  std::uint32_t tokens = kPageTokens;
  std::uint64_t page_bytes = 0;
  PageName name{};
  char digest[32] = {};  // of the name, the tokens and the page, in hexadecimal digits
};
static_assert(sizeof(Header) == 88, "it is written as it lies in memory");

std::size_t file_bytes(std::size_t page_bytes) {
  return sizeof(Header) + kPageTokens * sizeof(TokenId) + page_bytes;
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

std::string digest_of(const PageName& name, std::span<const TokenId> tokens,
                      std::span<const std::byte> page) {
  ContentDigest digest;
  digest.add(std::span<const std::byte>(name));
  digest.add(std::as_bytes(tokens));
  digest.add(page);
  return digest.hex();
}

/// The whole of the file in `parts`, whose sizes it must have.
bool read_file(const fs::path& path, std::initializer_list<std::span<std::byte>> parts) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return false;
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
  return good;
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

PageNames::PageNames(std::string_view fingerprint, std::uint64_t scope) {
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
  }
  return {names_.data(), pages};
}

// --- the store ----------------------------------------------------------------------------------

struct ContextStore::Impl {
  struct Waiting {
    PageName name;
    std::vector<TokenId> tokens;
    std::vector<std::byte> page;
  };
  struct Kept {
    std::uint64_t bytes = 0;
    std::list<PageName>::iterator used;
  };

  explicit Impl(ContextStoreOptions of) : options(std::move(of)) {
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

  fs::path path_of(const PageName& name) const {
    return options.folder / (to_hex(name) + std::string(kSuffix));
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
      const std::string file = entry.path().filename().string();
      if (file.ends_with(kUnfinished)) {  // of a process that was killed
        fs::remove(entry.path(), error);
        continue;
      }
      const std::string_view stem = std::string_view(file).substr(0, file.find('.'));
      const bool ours = file.ends_with(kSuffix) && stem.size() == 64 &&
                        stem.find_first_not_of("0123456789abcdef") == std::string_view::npos &&
                        entry.is_regular_file(error) && !entry.is_symlink(error);
      if (ours)
        all.push_back({entry.last_write_time(error), from_hex(stem), entry.file_size(error)});
    }
    require(!error, ErrorCode::Io, "{}: the context cache cannot be looked through: {}",
            options.folder.string(), error.message());
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
    const auto found = std::ranges::find(queue, name, &Waiting::name);
    return found == queue.end() ? nullptr : &*found;
  }

  // --- the thread that writes

  void write_all() {
    std::unique_lock lock(mutex);
    while (true) {
      changed.wait(lock, [&] { return stopping || !queue.empty(); });
      if (queue.empty()) return;
      const Waiting& next = queue.front();  // stays there, to be found, until it is on disk
      const std::uint64_t bytes = file_bytes(next.page.size());
      make_room(bytes);
      const bool fits = stats.bytes + bytes <= options.capacity_bytes;
      lock.unlock();
      const bool written = fits && write(next);
      lock.lock();
      if (written) {
        insert(next.name, bytes);
        ++stats.written;
      } else {
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
    const std::string digest = digest_of(page.name, page.tokens, page.page);
    std::memcpy(header.digest, digest.data(), sizeof header.digest);
    const fs::path path = path_of(page.name);
    const fs::path unfinished = options.folder / (to_hex(page.name) + std::string(kUnfinished));
    const bool written =
        write_file(unfinished, {std::as_bytes(std::span(&header, 1)),
                                std::as_bytes(std::span(page.tokens)), page.page}) &&
        ::rename(unfinished.c_str(), path.c_str()) == 0;
    if (written) return true;
    if (!std::exchange(failure_told, true)) {
      spdlog::warn("{}: pages of the context cache cannot be written: {}", options.folder.string(),
                   std::strerror(errno));
    }
    ::unlink(unfinished.c_str());
    return false;
  }

  const ContextStoreOptions options;
  bool failure_told = false;  // once is enough; the metrics count

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
  const std::lock_guard lock(impl_->mutex);
  return impl_->kept.contains(name) || impl_->waiting_page(name) != nullptr;
}

bool ContextStore::load(const PageName& name, std::span<const TokenId> tokens,
                        std::span<std::byte> page) {
  {
    const std::lock_guard lock(impl_->mutex);
    const Impl::Waiting* waiting = impl_->waiting_page(name);
    if (waiting != nullptr && waiting->page.size() == page.size()) {
      std::ranges::copy(waiting->page, page.begin());
      ++impl_->stats.found;
      return true;
    }
    if (!impl_->kept.contains(name)) return false;
  }
  Header header;
  std::vector<TokenId> said(tokens.size());
  const bool whole =
      read_file(impl_->path_of(name), {std::as_writable_bytes(std::span(&header, 1)),
                                       std::as_writable_bytes(std::span(said)), page});
  const Header right;
  const bool good =
      whole && std::memcmp(header.magic, right.magic, sizeof right.magic) == 0 &&
      header.version == right.version && header.tokens == tokens.size() &&
      header.page_bytes == page.size() && header.name == name && std::ranges::equal(said, tokens) &&
      digest_of(name, said, page) == std::string_view(header.digest, sizeof header.digest);
  const std::lock_guard lock(impl_->mutex);
  if (!good) {
    ++impl_->stats.damaged;
    impl_->forget(name);
    return false;
  }
  ++impl_->stats.found;
  const auto found = impl_->kept.find(name);
  if (found != impl_->kept.end()) {
    impl_->used.splice(impl_->used.begin(), impl_->used, found->second.used);
  }
  return true;
}

void ContextStore::save(const PageName& name, std::span<const TokenId> tokens,
                        std::vector<std::byte> page, bool wait) {
  const std::size_t bytes = page.size();
  std::unique_lock lock(impl_->mutex);
  if (impl_->kept.contains(name) || impl_->waiting_page(name) != nullptr) return;
  const auto fits = [&] {
    return impl_->queue.empty() || impl_->queued_bytes + bytes <= impl_->options.queue_bytes;
  };
  if (wait) impl_->changed.wait(lock, fits);
  if (!fits()) {
    ++impl_->stats.left_out;
    return;
  }
  impl_->queue.push_back({name, {tokens.begin(), tokens.end()}, std::move(page)});
  impl_->queued_bytes += bytes;
  impl_->changed.notify_all();
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
