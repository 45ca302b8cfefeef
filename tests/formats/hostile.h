// What the tests of hostile files share.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstdint>
#include <string>

#include "base/peak_memory.h"
#include "formats/checkpoint.h"

namespace fathom::testing {

/// Looks at everything a checkpoint offers: each value, each name, the first and last byte of each
/// tensor and of each expert's slice. Under a sanitizer, a view that reaches outside the file dies
/// here.
inline std::uint64_t touch_everything(const Checkpoint& model) {
  std::uint64_t sum = 0;
  for (const std::string& key : model.metadata_keys()) {
    const MetaValue* value = model.metadata(key);
    if (const auto* text = std::get_if<std::string_view>(value)) {
      for (const char c : *text) sum += static_cast<unsigned char>(c);
    } else if (const auto* texts = std::get_if<MetaStrings>(value)) {
      for (const std::string_view one : *texts) {
        for (const char c : one) sum += static_cast<unsigned char>(c);
      }
    }
  }
  const auto touch = [&](const TensorView& view) {
    if (view.data.empty()) return;
    sum += static_cast<unsigned>(view.data.front()) + static_cast<unsigned>(view.data.back());
    sum += static_cast<unsigned>(view.row(view.shape.rows() - 1).back());
  };
  for (const std::string& name : model.names()) {
    touch(model.tensor(name));
    const std::size_t experts = name.find(".experts.");
    if (experts == std::string::npos) continue;
    const std::string slice = name.substr(0, experts + 9) + "0." + name.substr(experts + 9);
    if (const auto view = model.find(slice)) touch(*view);
  }
  return sum;
}

/// Changes one byte of a file.
inline void poke(const std::filesystem::path& path, std::size_t at, char value) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  EXPECT_EQ(::pwrite(fd, &value, 1, static_cast<off_t>(at)), 1);
  ::close(fd);
}

}  // namespace fathom::testing
