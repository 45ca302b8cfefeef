// File work shared by downloads, imports and the store itself: locks, hashed writing, free space.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>

#include "base/progress.h"

namespace fathom {

/// An exclusive advisory lock (flock) on a file that is made when missing and stays. Threads
/// exclude each other too. Move-only; released by the destructor.
class FileLock {
 public:
  /// Waits until the lock is free; `waiting` is called once if it is not free at once. Throws
  /// Error(Cancelled) when cancelled meanwhile.
  FileLock(const std::filesystem::path& path, const std::atomic<bool>* cancelled,
           const std::function<void()>& waiting = {});
  ~FileLock();
  FileLock(FileLock&& other) noexcept;
  FileLock& operator=(FileLock&&) = delete;

  /// Without waiting: nullopt when another holds it.
  static std::optional<FileLock> try_lock(const std::filesystem::path& path);

 private:
  explicit FileLock(int fd) : fd_(fd) {}
  int fd_ = -1;
};

/// A file being written, whose errors say what a person can do about them (a full disk, above all).
class FileWriter {
 public:
  enum class Mode { Truncate, Append };
  FileWriter(const std::filesystem::path& path, Mode mode);
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;

  void write(std::span<const std::byte> bytes);
  /// Bytes in the file.
  std::uint64_t size() const { return size_; }
  void truncate();
  /// To the disk itself; then closes.
  void finish();
  int fd() const { return fd_; }

 private:
  std::filesystem::path path_;
  int fd_ = -1;
  std::uint64_t size_ = 0;
};

struct HashedFile {
  std::uint64_t size = 0;
  std::string sha256;
};

/// Feeds the file to `sink` in pieces. Throws Error(NotFound | Io | Cancelled).
void read_in_pieces(const std::filesystem::path& path, const std::atomic<bool>* cancelled,
                    const std::function<void(std::span<const std::byte>)>& sink);

HashedFile hash_file(const std::filesystem::path& path, const std::atomic<bool>* cancelled,
                     Progress& progress);

/// Copies by reference where the filesystem can (reflink), else byte by byte; hashes either way.
HashedFile copy_file_hashed(const std::filesystem::path& from, const std::filesystem::path& to,
                            const std::atomic<bool>* cancelled, Progress& progress);

/// Throws Error(Io) if `bytes` more do not fit the filesystem that holds `folder`.
void require_space(const std::filesystem::path& folder, std::uint64_t bytes,
                   const std::string& what);

/// Nanoseconds since 1970 of the last modification. Throws Error(NotFound | Io).
std::int64_t modified_ns(const std::filesystem::path& path);

void make_folders(const std::filesystem::path& path);

/// A small text file, or Error(NotFound | Io | ResourceLimit).
std::string read_text(const std::filesystem::path& path, std::size_t limit);

}  // namespace fathom
