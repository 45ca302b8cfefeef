#include "server/pull_rules.h"

#include <algorithm>

namespace fathom::server {
namespace {

constexpr std::size_t kLongestModel = 512;

/// In time that is at most the product of the lengths: only the last '*' is ever gone back to.
bool matches(std::string_view pattern, std::string_view text) {
  std::size_t p = 0, t = 0;
  std::size_t star = std::string_view::npos, taken = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      taken = t;
    } else if (p < pattern.size() && pattern[p] == text[t]) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++taken;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

}  // namespace

bool PullRules::allow(std::string_view model) const {
  const auto printable = [](char c) { return c > ' ' && c <= '~'; };
  if (model.empty() || model.size() > kLongestModel) return false;
  if (!std::ranges::all_of(model, printable)) return false;
  return std::ranges::any_of(allowed_,
                             [&](const std::string& pattern) { return matches(pattern, model); });
}

}  // namespace fathom::server
