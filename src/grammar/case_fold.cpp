#include "grammar/case_fold.h"

#include <utf8proc.h>

#include <map>
#include <utility>

namespace fathom::grammar {
namespace {

/// Characters of equal case, each with all of them: some 2,900 of Unicode's million.
struct Cases {
  std::map<std::uint32_t, std::vector<std::uint32_t>> same;  // by what all of them fold to
  std::map<std::uint32_t, std::uint32_t> fold;               // by character
};

std::uint32_t folded(std::uint32_t c) {
  // Up and down again: two small sigmas have one capital.
  return static_cast<std::uint32_t>(
      utf8proc_tolower(utf8proc_toupper(static_cast<utf8proc_int32_t>(c))));
}

Cases find_cases() {
  Cases cases;
  for (std::uint32_t c = 0; c <= kLastCodePoint; ++c) {
    const std::uint32_t fold = folded(c);
    if (fold != c) cases.same[fold].push_back(c);
  }
  for (auto& [fold, all] : cases.same) {
    all.push_back(fold);
    for (const std::uint32_t c : all) cases.fold[c] = fold;
  }
  return cases;
}

}  // namespace

std::vector<CodeRange> with_other_cases(std::vector<CodeRange> ranges) {
  static const Cases cases = find_cases();
  std::vector<CodeRange> all = ranges;
  for (const CodeRange& range : ranges) {
    const auto end = cases.fold.upper_bound(range.last);
    for (auto at = cases.fold.lower_bound(range.first); at != end; ++at) {
      for (const std::uint32_t c : cases.same.at(at->second)) all.push_back({c, c});
    }
  }
  return normal(std::move(all));
}

}  // namespace fathom::grammar
