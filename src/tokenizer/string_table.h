// Many short strings in one allocation.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/checked.h"

namespace fathom {

/// Strings by index. Views live until the next push_back().
class StringTable {
 public:
  void reserve(std::size_t strings, std::size_t bytes) {
    starts_.reserve(strings + 1);
    bytes_.reserve(bytes);
  }
  /// Throws Error(Corrupt) beyond 4 GiB of text.
  void push_back(std::string_view text) {
    const std::size_t end = bytes_.size() + text.size();
    starts_.push_back(checked_cast<std::uint32_t>(end, "text of a vocabulary"));
    bytes_.append(text);
  }
  std::string_view operator[](std::size_t i) const {
    return {bytes_.data() + starts_[i], starts_[i + 1] - starts_[i]};
  }
  std::size_t size() const { return starts_.size() - 1; }
  std::size_t bytes() const { return bytes_.size(); }

 private:
  std::string bytes_;
  std::vector<std::uint32_t> starts_ = {0};
};

}  // namespace fathom
