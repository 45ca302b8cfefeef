#include "store/files.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/sha256.h"
#include "store/options.h"

namespace fathom {
namespace {

constexpr std::size_t kPiece = 1024 * 1024;

[[noreturn]] void fail_errno(const std::filesystem::path& path, const char* doing) {
  const int error = errno;
  fail(error == ENOENT || error == ENOTDIR ? ErrorCode::NotFound : ErrorCode::Io,
       "{}: cannot {}: {}", path.string(), doing, std::strerror(error));
}

/// Closes on every way out.
struct Fd {
  int value;
  ~Fd() {
    if (value >= 0) ::close(value);
  }
};

int open_regular(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) fail_errno(path, "open");
  struct stat st{};
  if (::fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
    ::close(fd);
    fail(ErrorCode::Io, "{}: not a regular file", path.string());
  }
  return fd;
}

}  // namespace

FileLock::FileLock(const std::filesystem::path& path, const std::atomic<bool>* cancelled,
                   const std::function<void()>& waiting) {
  fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd_ < 0) fail_errno(path, "open the lock");
  bool told = false;
  while (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) {
      const int error = errno;
      ::close(std::exchange(fd_, -1));
      fail(ErrorCode::Io, "{}: cannot lock: {}", path.string(), std::strerror(error));
    }
    if (!std::exchange(told, true) && waiting) waiting();
    if (cancelled != nullptr && cancelled->load()) {
      ::close(std::exchange(fd_, -1));
      throw_if_cancelled(cancelled);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

FileLock::~FileLock() {
  if (fd_ >= 0) ::close(fd_);
}

FileLock::FileLock(FileLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

std::optional<FileLock> FileLock::try_lock(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) fail_errno(path, "open the lock");
  FileLock lock(fd);
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) return std::nullopt;
  return lock;
}

FileWriter::FileWriter(const std::filesystem::path& path, Mode mode) : path_(path) {
  fd_ = ::open(path.c_str(),
               O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | (mode == Mode::Truncate ? O_TRUNC : 0),
               0644);
  if (fd_ < 0) fail_errno(path, "create");
  const off_t end = ::lseek(fd_, 0, SEEK_END);
  size_ = end > 0 ? static_cast<std::uint64_t>(end) : 0;
}

FileWriter::~FileWriter() {
  if (fd_ >= 0) ::close(fd_);
}

void FileWriter::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd_, bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      const int error = errno;
      const bool full = error == ENOSPC || error == EDQUOT || error == EFBIG;
      fail(ErrorCode::Io, "{}: cannot write after {}: {}{}", path_.string(), format_bytes(size_),
           std::strerror(error), full ? "; free some space and try again" : "");
    }
    size_ += static_cast<std::uint64_t>(written);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void FileWriter::truncate() {
  if (::ftruncate(fd_, 0) != 0 || ::lseek(fd_, 0, SEEK_SET) != 0) fail_errno(path_, "truncate");
  size_ = 0;
}

void FileWriter::finish() {
  if (::fsync(fd_) != 0) fail_errno(path_, "finish writing");
  if (::close(std::exchange(fd_, -1)) != 0) fail_errno(path_, "finish writing");
}

void read_in_pieces(const std::filesystem::path& path, const std::atomic<bool>* cancelled,
                    const std::function<void(std::span<const std::byte>)>& sink) {
  const Fd fd{open_regular(path)};
  ::posix_fadvise(fd.value, 0, 0, POSIX_FADV_SEQUENTIAL);
  std::vector<std::byte> piece(kPiece);
  while (true) {
    throw_if_cancelled(cancelled);
    const ssize_t count = ::read(fd.value, piece.data(), piece.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_errno(path, "read");
    if (count == 0) return;
    sink(std::span(piece).first(static_cast<std::size_t>(count)));
  }
}

HashedFile hash_file(const std::filesystem::path& path, const std::atomic<bool>* cancelled,
                     Progress& progress) {
  Sha256 hash;
  HashedFile result;
  read_in_pieces(path, cancelled, [&](std::span<const std::byte> bytes) {
    hash.update(bytes);
    result.size += bytes.size();
    progress.advance(bytes.size());
  });
  result.sha256 = hash.hex_digest();
  return result;
}

HashedFile copy_file_hashed(const std::filesystem::path& from, const std::filesystem::path& to,
                            const std::atomic<bool>* cancelled, Progress& progress) {
  FileWriter writer(to, FileWriter::Mode::Truncate);
  {
    const Fd source{open_regular(from)};
    if (::ioctl(writer.fd(), FICLONE, source.value) == 0) {
      writer.finish();
      // Hash the clone: it cannot change any more, whatever happens to the original.
      return hash_file(to, cancelled, progress);
    }
  }
  Sha256 hash;
  HashedFile result;
  read_in_pieces(from, cancelled, [&](std::span<const std::byte> bytes) {
    writer.write(bytes);
    hash.update(bytes);
    result.size += bytes.size();
    progress.advance(bytes.size());
  });
  writer.finish();
  result.sha256 = hash.hex_digest();
  return result;
}

void require_space(const std::filesystem::path& folder, std::uint64_t bytes,
                   const std::string& what) {
  struct statvfs st{};
  if (::statvfs(folder.c_str(), &st) != 0) return;  // only a courtesy: writing tells for certain
  const std::uint64_t available = std::uint64_t{st.f_bavail} * st.f_frsize;
  require(bytes <= available, ErrorCode::Io,
          "{} needs {} in {}, but only {} are free; free some space or choose another place with "
          "--store",
          what, format_bytes(bytes), folder.string(), format_bytes(available));
}

std::int64_t modified_ns(const std::filesystem::path& path) {
  struct stat st{};
  if (::stat(path.c_str(), &st) != 0) fail_errno(path, "look at");
  return std::int64_t{st.st_mtim.tv_sec} * 1'000'000'000 + st.st_mtim.tv_nsec;
}

void make_folders(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  require(!error, ErrorCode::Io, "{}: cannot create the folder: {}", path.string(),
          error.message());
}

std::string read_text(const std::filesystem::path& path, std::size_t limit) {
  std::string text;
  read_in_pieces(path, nullptr, [&](std::span<const std::byte> bytes) {
    require(text.size() + bytes.size() <= limit, ErrorCode::ResourceLimit,
            "{}: longer than the {} bytes that are read of such a file", path.string(), limit);
    text.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  });
  return text;
}

}  // namespace fathom
