#include "engine/stop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "base/error.h"

namespace fathom {
namespace {

/// Everything before the first stop string to be complete, found the slow way.
std::string twin(const std::string& text, const std::vector<std::string>& stops) {
  for (std::size_t end = 1; end <= text.size(); ++end) {
    std::size_t longest = 0;
    for (const std::string& stop : stops) {
      if (std::string_view(text).substr(0, end).ends_with(stop)) {
        longest = std::max(longest, stop.size());
      }
    }
    if (longest > 0) return text.substr(0, end - longest);
  }
  return text;
}

TEST(StopMatcher, FindsAStringThatPiecesCut) {
  StopMatcher matcher({"User:"});
  EXPECT_EQ(matcher.push("Hello.\nUs"), "Hello.\n");
  EXPECT_EQ(matcher.push("er"), "");
  EXPECT_EQ(matcher.push(": hi"), "");
  EXPECT_TRUE(matcher.stopped());
  EXPECT_EQ(matcher.found(), "User:");
  EXPECT_EQ(matcher.push("more"), "");
}

TEST(StopMatcher, ReleasesTextAsSoonAsItCannotMatch) {
  StopMatcher matcher({"abc"});
  EXPECT_EQ(matcher.push("xab"), "x");
  EXPECT_EQ(matcher.push("a"), "ab");
  EXPECT_EQ(matcher.push("d"), "ad");
  EXPECT_EQ(matcher.push("ab"), "");
  EXPECT_EQ(matcher.finish(), "ab");
  EXPECT_FALSE(matcher.stopped());
}

TEST(StopMatcher, TheLongestOfThoseThatEndTogetherWins) {
  StopMatcher matcher({"d", "bcd"});
  EXPECT_EQ(matcher.push("abcd"), "a");
  EXPECT_EQ(matcher.found(), "bcd");
}

TEST(StopMatcher, AgreesWithASlowTwinOnRandomTextAndCuts) {
  std::mt19937 random(5);
  const auto letter = [&] { return static_cast<char>('a' + random() % 3); };
  int stopped = 0;
  for (int round = 0; round < 5000; ++round) {
    std::vector<std::string> stops(1 + random() % 3);
    for (std::string& stop : stops) {
      for (std::size_t i = 0, n = 2 + random() % 5; i < n; ++i) stop += letter();
    }
    std::string text;
    for (std::size_t i = 0, n = random() % 60; i < n; ++i) text += letter();
    StopMatcher matcher(stops);
    std::string got;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t piece = 1 + random() % 6;
      got += matcher.push(std::string_view(text).substr(at, piece));
      at += piece;
    }
    if (matcher.stopped()) ++stopped;
    got += matcher.finish();
    ASSERT_EQ(got, twin(text, stops));
  }
  EXPECT_GT(stopped, 1000);
  EXPECT_LT(stopped, 4900);
}

TEST(StopMatcher, RefusesAnEmptyString) { EXPECT_THROW(StopMatcher({"a", ""}), Error); }

}  // namespace
}  // namespace fathom
