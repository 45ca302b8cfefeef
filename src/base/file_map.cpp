#include "base/file_map.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <functional>
#include <utility>

#include "base/error.h"

namespace fathom {
namespace {

std::int64_t ns_of(const struct stat& st) {
  return std::int64_t{st.st_mtim.tv_sec} * 1'000'000'000 + st.st_mtim.tv_nsec;
}

}  // namespace

FileMap::FileMap(const std::filesystem::path& path) : path_(path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    const int error = errno;
    fail(error == ENOENT || error == ENOTDIR ? ErrorCode::NotFound : ErrorCode::Io,
         "{}: cannot open: {}", path.string(), std::strerror(error));
  }
  struct stat st{};
  if (::fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
    ::close(fd);
    fail(ErrorCode::Io, "{}: not a regular file", path.string());
  }
  size_ = static_cast<std::size_t>(st.st_size);
  inode_ = st.st_ino;
  modified_ns_ = ns_of(st);
  if (size_ > 0) {
    void* data = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, fd, 0);
    const int error = errno;
    ::close(fd);
    require(data != MAP_FAILED, ErrorCode::Io, "{}: cannot map {} bytes: {}", path.string(), size_,
            std::strerror(error));
    data_ = static_cast<const std::byte*>(data);
  } else {
    ::close(fd);
  }
}

FileMap::~FileMap() { unmap(); }

FileMap::FileMap(FileMap&& other) noexcept { *this = std::move(other); }

FileMap& FileMap::operator=(FileMap&& other) noexcept {
  if (this != &other) {
    unmap();
    path_ = std::move(other.path_);
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
    inode_ = other.inode_;
    modified_ns_ = other.modified_ns_;
  }
  return *this;
}

void FileMap::unmap() noexcept {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
  data_ = nullptr;
}

void FileMap::verify_unchanged() const {
  struct stat st{};
  require(::stat(path_.c_str(), &st) == 0, ErrorCode::Io, "{}: vanished while it was being read",
          path_.string());
  require(static_cast<std::size_t>(st.st_size) == size_ && st.st_ino == inode_ &&
              ns_of(st) == modified_ns_,
          ErrorCode::Io, "{}: changed while it was being read ({} bytes before, {} now); try again",
          path_.string(), size_, st.st_size);
}

namespace {

void advise(const std::byte* data, std::size_t size, std::size_t offset, std::size_t length,
            int advice) noexcept {
  if (data == nullptr || offset >= size) return;
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t begin = offset / page * page;
  const std::size_t end = length > size - offset ? size : offset + length;
  // Advice only: a refusal changes nothing but speed.
  (void)::madvise(const_cast<std::byte*>(data) + begin, end - begin, advice);
}

}  // namespace

void FileMap::will_need(std::size_t offset, std::size_t length) const noexcept {
  advise(data_, size_, offset, length, MADV_WILLNEED);
}

void FileMap::dont_need(std::size_t offset, std::size_t length) const noexcept {
  advise(data_, size_, offset, length, MADV_DONTNEED);
}

bool FileMap::holds(std::span<const std::byte> view) const noexcept {
  const std::less<const std::byte*> before;  // also orders pointers into other objects
  return data_ != nullptr && !before(view.data(), data_) && before(view.data(), data_ + size_);
}

void FileMap::will_need(std::span<const std::byte> view) const noexcept {
  if (holds(view)) will_need(static_cast<std::size_t>(view.data() - data_), view.size());
}

void FileMap::dont_need(std::span<const std::byte> view) const noexcept {
  if (holds(view)) dont_need(static_cast<std::size_t>(view.data() - data_), view.size());
}

}  // namespace fathom
