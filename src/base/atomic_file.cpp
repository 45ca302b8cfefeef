#include "base/atomic_file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>

#include "base/error.h"

namespace fathom {

AtomicFile::AtomicFile(const std::filesystem::path& path) : path_(path) {
  std::string name = path.string() + ".partial-XXXXXX";
  fd_ = ::mkostemp(name.data(), O_CLOEXEC);
  require(fd_ >= 0, ErrorCode::Io, "{}: cannot create: {}", path.string(), std::strerror(errno));
  temporary_ = name;
  ::fchmod(fd_, 0644);  // mkostemp makes it private; a model file is as readable as any other
}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) ::close(fd_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd_, bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      fail(ErrorCode::Io, "{}: cannot write after {} bytes: {}", path_.string(), position_,
           std::strerror(errno));
    }
    position_ += static_cast<std::size_t>(written);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void AtomicFile::commit() {
  const bool synced = ::fsync(fd_) == 0 && ::close(fd_) == 0;
  fd_ = -1;
  require(synced, ErrorCode::Io, "{}: cannot finish writing: {}", path_.string(),
          std::strerror(errno));
  require(::rename(temporary_.c_str(), path_.c_str()) == 0, ErrorCode::Io, "{}: cannot rename: {}",
          path_.string(), std::strerror(errno));
  temporary_.clear();
}

}  // namespace fathom
