// Several answers to one question, of which the one that most agree on is given
// ("self-consistency", arXiv 2203.11171, section 2).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace fathom::server {

/// What an answer comes down to, to be compared with others: the last \boxed{...}, what follows the
/// last "####", JSON without its spacing, or the text in lower case without white space and full
/// stops around it.
std::string final_answer(std::string_view text);

struct Vote {
  std::string answer;
  std::size_t count = 0;
};
struct Verdict {
  std::size_t chosen = 0;   // the first text of the largest group
  std::vector<Vote> votes;  // the largest first, then by who came first
};

/// `counts[i]` is false for an answer that was cut off: it has a vote only if all were.
Verdict majority(const std::vector<std::string>& texts, const std::vector<bool>& counts);

}  // namespace fathom::server
