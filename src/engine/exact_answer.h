// Answers that are right or wrong: what a text comes down to, and how sure a share of right ones
// is.
#pragma once

#include <cstddef>
#include <string>

namespace fathom {

/// What counts as the answer in a text: what follows the last "####" (GSM8K's mark), else what the
/// last \boxed{} holds, else, where a number is expected, the last number, else the whole text;
/// without white space and a full stop around it, thousands' commas, a leading "$", and case.
std::string exact_answer(const std::string& text, bool expect_number);

/// Whether `output` gives `expected`, which may carry its working before the mark. Numbers are
/// compared as such.
bool same_answer(const std::string& expected, const std::string& output);

/// Wilson's 95 % score interval of `right` out of `total` (E. B. Wilson 1927).
struct Interval {
  double low = 0, high = 1;
};
Interval wilson_interval(std::size_t right, std::size_t total);

}  // namespace fathom
