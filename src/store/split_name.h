// Names of split GGUF files: "model-00002-of-00005.gguf".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace fathom {

struct SplitName {
  std::string stem;  // "model", with its folder
  std::uint32_t part = 0;
  std::uint32_t count = 0;
};

/// nullopt when the name is not that of a part, or its numbers contradict each other.
std::optional<SplitName> parse_split_name(std::string_view path);

}  // namespace fathom
