// Finding stop strings in a stream of text, wherever tokens happen to cut it.
//
// Text that may turn out to be the start of a stop string is held back, and no more than that: the
// reader sees everything else at once. Works on bytes; since stop strings and text are both UTF-8,
// a match never begins or ends within a character.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace fathom {

class StopMatcher {
 public:
  /// Empty strings are refused: Error(InvalidArgument).
  explicit StopMatcher(std::vector<std::string> stops);

  /// Adds text, returns what is certain to stand before any stop string. Once stopped(), the rest
  /// is dropped and this returns "". The first stop string to be complete wins, the longest of
  /// those that end at the same byte; it is not part of the text.
  std::string push(std::string_view text);
  /// The stream has ended: what was held back is text after all.
  std::string finish();

  bool stopped() const { return stopped_; }
  /// The stop string that was found; empty before.
  const std::string& found() const { return found_; }

 private:
  /// One string's automaton (Knuth, Morris, Pratt 1977): linear time, whatever the text repeats.
  struct Pattern {
    std::string text;
    std::vector<std::size_t> failure;  // [size]: longest border of text[0..i]
    std::size_t matched = 0;
  };
  static void advance(Pattern& pattern, char c);

  std::vector<Pattern> patterns_;
  std::string held_;
  std::string found_;
  bool stopped_ = false;
};

}  // namespace fathom
