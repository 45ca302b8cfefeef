#include "store/split_name.h"

#include <charconv>

namespace fathom {

std::optional<SplitName> parse_split_name(std::string_view path) {
  // "-00002-of-00005.gguf"
  constexpr std::size_t kTail = 20;
  if (path.size() <= kTail || !path.ends_with(".gguf")) return std::nullopt;
  const std::string_view tail = path.substr(path.size() - kTail);
  if (tail.front() != '-' || tail.substr(6, 4) != "-of-") return std::nullopt;
  SplitName name;
  const auto number = [](std::string_view digits, std::uint32_t& value) {
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return error == std::errc() && end == digits.data() + digits.size();
  };
  if (!number(tail.substr(1, 5), name.part) || !number(tail.substr(10, 5), name.count)) {
    return std::nullopt;
  }
  if (name.part == 0 || name.part > name.count) return std::nullopt;
  name.stem = path.substr(0, path.size() - kTail);
  return name;
}

}  // namespace fathom
