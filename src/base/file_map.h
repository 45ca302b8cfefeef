// A whole file mapped read-only into memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace fathom {

/// Owns a read-only mapping; every span into bytes() must be dropped before it. Move-only.
/// A file that shrinks under a mapping is SIGBUS: call verify_unchanged() after reading headers and
/// again after packing weights, and never write to a mapped model in place.
class FileMap {
 public:
  FileMap() = default;
  /// Throws Error(NotFound | Io). Refuses anything but a regular file. An empty file maps to no
  /// bytes.
  explicit FileMap(const std::filesystem::path& path);
  ~FileMap();
  FileMap(FileMap&& other) noexcept;
  FileMap& operator=(FileMap&& other) noexcept;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  std::size_t size() const { return size_; }
  const std::filesystem::path& path() const { return path_; }
  /// When the file had last been modified as it was mapped, in ns since 1970.
  std::int64_t modified_ns() const { return modified_ns_; }

  /// Throws Error(Io) if the file at path() has changed (size, inode or modification time) since it
  /// was mapped.
  void verify_unchanged() const;

  /// Tells the kernel that the range will be read soon (readahead) or not again (drop).
  void will_need(std::size_t offset, std::size_t length) const noexcept;
  void dont_need(std::size_t offset, std::size_t length) const noexcept;
  /// The same for a view; nothing happens if it is not of this mapping.
  void will_need(std::span<const std::byte> view) const noexcept;
  void dont_need(std::span<const std::byte> view) const noexcept;

 private:
  void unmap() noexcept;
  bool holds(std::span<const std::byte> view) const noexcept;

  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  std::uint64_t inode_ = 0;
  std::int64_t modified_ns_ = 0;
};

}  // namespace fathom
