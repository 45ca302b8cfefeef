// What the fuzz targets of model files share: the input as a file in memory, and a caller that
// believes everything the checkpoint says.
#pragma once

#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "base/error.h"
#include "formats/checkpoint.h"
#include "formats/describe.h"

namespace fathom::fuzz {

/// A file without a disk, rewritten for each input.
class MemoryFile {
 public:
  explicit MemoryFile(const char* name) : fd_(::memfd_create(name, 0)) {
    if (fd_ < 0) std::abort();
    path_ = "/proc/self/fd/" + std::to_string(fd_);
  }
  void write(const std::uint8_t* data, std::size_t size) const {
    const bool written =
        ::ftruncate(fd_, 0) == 0 && ::pwrite(fd_, data, size, 0) == static_cast<ssize_t>(size);
    if (!written) std::abort();
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  int fd_;
  std::filesystem::path path_;
};

/// Opens the file as `Source` and looks at every value and at both ends of every tensor. Only Error
/// may come out of it.
template <typename Source>
void open_and_touch(const std::filesystem::path& path) {
  try {
    const Source model(path);
    volatile std::uint64_t sum = 0;
    for (const std::string& key : model.metadata_keys()) {
      const MetaValue* value = model.metadata(key);
      if (value == nullptr) std::abort();
      if (const auto* text = std::get_if<std::string_view>(value)) {
        for (const char c : *text) sum = sum + static_cast<unsigned char>(c);
      } else if (const auto* texts = std::get_if<MetaStrings>(value)) {
        for (const std::string_view one : *texts) sum = sum + one.size();
      }
    }
    for (const std::string& name : model.names()) {
      const TensorView view = model.tensor(name);
      if (view.data.size() != tensor_bytes(view.dtype, view.shape)) std::abort();
      if (!view.data.empty()) {
        sum = sum + static_cast<unsigned>(view.data.front()) +
              static_cast<unsigned>(view.data.back());
      }
    }
    sum = sum + to_json(describe(model)).size();
  } catch (const Error&) {
    // The expected end of most inputs.
  }
}

}  // namespace fathom::fuzz
