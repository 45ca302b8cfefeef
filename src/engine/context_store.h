// The part of the context cache that lies on disk: full pages of keys and values, each named by all
// the tokens up to its end, so that a prompt finds what an earlier one, or an earlier server, read.
//
// A page is only ever used where it belongs: its name is a SHA-256 over the model's fingerprint,
// the scope (one key's requests), and every token before and in it; its file holds the tokens once
// more and a digest of everything. What does not fit together is deleted and counted, and computed
// anew.
//
//   folder/<64 hex digits>.page   header, tokens, the page as the device lays it out. Mode 0600.
//
// The name's first 16 digits tell the scope, so that one key's pages can be found and deleted. With
// a SecretKey what follows the header is sealed, and the name is one that only the key's owner can
// make: who has the disk learns neither what was said, nor whether a text that he guesses was.
//
// Least recently used pages go when the folder is full. Files appear whole (written elsewhere,
// renamed); they are not synced: after a power cut some may fail their check.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/secret_key.h"

namespace fathom {

using PageName = std::array<std::byte, 32>;

/// Names of the full pages of a sequence, made as its tokens come.
class PageNames {
 public:
  /// `fingerprint` changes with everything that changes what a page holds: the model's contents,
  /// the types and the layout of the cache, the engine's version.
  PageNames(std::string_view fingerprint, std::uint64_t scope);
  /// Of the first tokens.size() / 64 pages. The tokens must go on from those of the call before.
  std::span<const PageName> of(std::span<const TokenId> tokens);

 private:
  /// Begins every name.
  std::uint64_t scope_;
  PageName root_;
  std::vector<PageName> names_;
};

/// Deletes the pages in `folder`, or those of one scope, whoever wrote them; how many there were.
/// `key`: what they are sealed with, if they are. A server that runs finds them gone.
std::size_t forget_pages(const std::filesystem::path& folder,
                         std::optional<std::uint64_t> scope = {},
                         const std::optional<SecretKey>& key = {});

struct ContextStoreOptions {
  std::filesystem::path folder;  // made if it is not there, for this user alone
  std::uint64_t capacity_bytes = std::uint64_t{4} << 30;
  /// Pages that wait to be written. When there is no more room for one it is left out, so that
  /// nobody waits for the disk.
  std::size_t queue_bytes = std::size_t{128} << 20;
  /// Pages are sealed. Those that are not are deleted at the start; those of another key are never
  /// found, and go like others that nobody uses.
  std::optional<SecretKey> key = {};
};

struct ContextStoreStats {
  std::uint64_t bytes = 0, pages = 0;  // on disk now
  std::uint64_t found = 0;             // pages that were read back, since the start,
  std::uint64_t written = 0;           // and written,
  std::uint64_t left_out = 0;          // not written: the queue was full, or the disk failed,
  std::uint64_t damaged = 0;           // found, but not as they must be
  std::uint64_t plain_deleted = 0;     // at the start, since pages are sealed now
};

/// Thread-safe. Shared by the engines of all models.
class ContextStore {
 public:
  /// Looks through the folder. Throws Error(Io).
  explicit ContextStore(ContextStoreOptions options);
  /// Writes what waits.
  ~ContextStore();
  ContextStore(const ContextStore&) = delete;
  ContextStore& operator=(const ContextStore&) = delete;

  bool has(const PageName& name) const;
  /// Fills `page` with the page called `name` that ends in `tokens` (64). False if it is not there,
  /// or not as it must be.
  bool load(const PageName& name, std::span<const TokenId> tokens, std::span<std::byte> page);
  /// Hands the page over to be written, if it is not there yet. `wait`: rather than be left out.
  void save(const PageName& name, std::span<const TokenId> tokens, std::vector<std::byte> page,
            bool wait = false);
  /// Deletes all pages, or those of one scope; how many there were. Waits for those that are being
  /// written.
  std::size_t forget(std::optional<std::uint64_t> scope = {});
  /// Waits until nothing waits to be written.
  void flush();
  ContextStoreStats stats() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace fathom
