#include "server/consistency.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "server/fields.h"

namespace fathom::server {
namespace {

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kAround = " \t\r\n.";
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kAround) - first + 1);
}

/// The inside of the last \boxed{...}; braces within it count.
std::string_view boxed(std::string_view text) {
  constexpr std::string_view kBox = "\\boxed{";
  const std::size_t begin = text.rfind(kBox);
  if (begin == std::string_view::npos) return {};
  int depth = 1;
  for (std::size_t i = begin + kBox.size(); i < text.size(); ++i) {
    if (text[i] == '{') ++depth;
    if (text[i] == '}' && --depth == 0) {
      return text.substr(begin + kBox.size(), i - begin - kBox.size());
    }
  }
  return {};
}

}  // namespace

std::string final_answer(std::string_view text) {
  if (const std::string_view inside = trimmed(boxed(text)); !inside.empty()) {
    return std::string(inside);
  }
  if (const std::size_t mark = text.rfind("####"); mark != std::string_view::npos) {
    const std::string_view line = text.substr(mark + 4);
    return std::string(trimmed(line.substr(0, line.find('\n'))));
  }
  const std::string_view words = trimmed(text);
  if (words.starts_with('{') || words.starts_with('[')) {
    if (const auto json = parse_inner(words)) {
      return nlohmann::json(*json).dump();  // members in one order
    }
  }
  std::string lower(words);
  std::ranges::transform(lower, lower.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return lower;
}

Verdict majority(const std::vector<std::string>& texts, const std::vector<bool>& counts) {
  const bool none = std::ranges::none_of(counts, [](bool counted) { return counted; });
  struct Group {
    Vote vote;
    std::size_t first;
  };
  std::vector<Group> groups;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    if (!none && !counts[i]) continue;
    const std::string answer = final_answer(texts[i]);
    const auto found =
        std::ranges::find_if(groups, [&](const Group& g) { return g.vote.answer == answer; });
    if (found == groups.end()) {
      groups.push_back({{answer, 1}, i});
    } else {
      ++found->vote.count;
    }
  }
  std::ranges::sort(groups, [](const Group& a, const Group& b) {
    return a.vote.count != b.vote.count ? a.vote.count > b.vote.count : a.first < b.first;
  });
  Verdict verdict;
  if (!groups.empty()) verdict.chosen = groups[0].first;
  for (Group& group : groups) verdict.votes.push_back(std::move(group.vote));
  return verdict;
}

}  // namespace fathom::server
