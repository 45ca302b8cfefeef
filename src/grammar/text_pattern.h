// A regular expression that is looked for in a text while the text still comes.
//
// At each byte it is known whether a match has ended, and where the earliest one begins that may
// still end: what stands before that is no part of any match. Of all matches the first to end is
// found, and of those that end there the one that begins first. That is another choice than most
// libraries make, and the only one that does not depend on text that nobody has seen yet.
//
// A set of threads walks the pattern's graph (Thompson 1968), each place once, with the earliest
// beginning that leads to it: a byte costs at most the size of the pattern, whatever the text.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "grammar/grammar.h"

namespace fathom::grammar {

/// Any number of threads may search with it.
class TextPattern {
 public:
  /// What text_part() takes (regex.h). Throws as it does, and Error(InvalidArgument) for a pattern
  /// that matches the empty text, which is everywhere; Error(ResourceLimit) for one that needs more
  /// than 10,000 places, repetitions written out.
  TextPattern(std::string_view pattern, bool ignore_case);

 private:
  friend class TextSearch;
  struct Place {
    enum class Kind : std::uint8_t { Bytes, Split, Assert, Match };
    Kind kind = Kind::Split;
    std::uint8_t assertion = 0;  // of regex.h's four
    std::uint32_t set = 0;
    std::uint32_t next = 0;
    std::uint32_t other = 0;  // of a Split
  };
  class Layout;
  /// What is reached from the start without a byte.
  void look_at_start();

  std::vector<Place> places_;
  std::vector<ByteSet> sets_;
  std::uint32_t start_ = 0;
  ByteSet first_;  // a match begins with one of these
};

/// The search of one text for one pattern. Not thread-safe.
class TextSearch {
 public:
  explicit TextSearch(std::shared_ptr<const TextPattern> pattern);

  struct Match {
    std::uint64_t begin = 0;
    bool before = false;  // it ended before the byte that was given
  };
  /// The text's next byte. `at`: where it stands, in the caller's count, which goes up. After a
  /// match the search is over.
  std::optional<Match> step(std::uint8_t byte, std::uint64_t at) {
    const bool word = is_word(byte);
    std::optional<Match> match;
    // Most bytes of most texts begin nothing.
    if (!threads_.empty() || pattern_->first_[byte]) match = walk(byte, at);
    at_begin_ = false;
    after_word_ = word;
    return match;
  }
  /// The text has ended: some matches only end there.
  std::optional<Match> finish();
  /// Another text begins: cheaper than another search.
  void reset();
  /// Where the earliest match begins that further text, or none, may complete. An assertion counts
  /// as open until the next byte.
  std::optional<std::uint64_t> earliest() const {
    if (threads_.empty()) return std::nullopt;
    return threads_.front().begin;
  }

 private:
  using Place = TextPattern::Place;
  struct Thread {
    std::uint32_t place = 0;  // Bytes, or an Assert that waits for the next byte
    std::uint64_t begin = 0;
  };
  /// What stands after an assertion.
  enum class Next { Unknown, Word, Other, End };

  static bool is_word(std::uint8_t byte) {
    return (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') || byte == '_' ||
           (byte >= 'a' && byte <= 'z');
  }
  std::optional<Match> walk(std::uint8_t byte, std::uint64_t at);
  /// Adds what is reached from `place` without a byte. Called with ascending beginnings, so that
  /// the first thread at a place has the earliest, and threads stay sorted by them.
  void add(std::uint32_t place, std::uint64_t begin, Next next, std::vector<Thread>& to);
  /// Whether it holds here; nothing if the next byte must tell.
  std::optional<bool> holds(std::uint8_t assertion, Next next) const;
  /// Threads that wait for an assertion go on, or end.
  void settle(Next next);
  void new_list() { ++list_; }

  std::shared_ptr<const TextPattern> pattern_;
  std::vector<Thread> threads_, following_;
  std::vector<std::uint32_t> seen_;  // by place: the list that it was last added to
  std::uint32_t list_ = 0;
  std::vector<std::uint32_t> open_;  // room for add()
  bool waits_ = false;               // some thread does, for an assertion
  bool at_begin_ = true;
  bool after_word_ = false;
  std::optional<std::uint64_t> matched_;  // the beginning
};

}  // namespace fathom::grammar
