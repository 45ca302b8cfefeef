#include "engine/repetition.h"

#include <gtest/gtest.h>

#include <functional>
#include <random>

namespace fathom {
namespace {

/// After how many of `count` tokens the guard speaks; 0: never.
std::size_t noticed(std::size_t count, const std::function<int(std::size_t)>& token) {
  RepetitionGuard guard;
  for (std::size_t i = 0; i < count; ++i) {
    if (guard.push(TokenId{token(i)})) return i + 1;
  }
  return 0;
}

TEST(RepetitionGuard, NoticesALoopSoonAfterItsThirdRound) {
  for (const std::size_t period : {1UL, 2UL, 7UL, 40UL, 300UL}) {
    const std::size_t prelude = 500;
    const std::size_t at = noticed(20000, [&](std::size_t i) {
      return static_cast<int>(i < prelude ? 1000 + i : (i - prelude) % period);
    });
    EXPECT_GT(at, prelude + 200) << period;
    EXPECT_LE(at, prelude + 3 * period + RepetitionGuard::kWindow + RepetitionGuard::kRun)
        << period;
  }
}

TEST(RepetitionGuard, NoticesALoopThatChangesAWordNowAndThen) {
  // Every 60 tokens, one of a few words stands in the same place.
  std::mt19937 random(1);
  EXPECT_GT(noticed(20000,
                    [&](std::size_t i) {
                      return i % 60 == 0 ? static_cast<int>(1000 + random() % 3)
                                         : static_cast<int>(i % 30);
                    }),
            0U);
}

TEST(RepetitionGuard, LetsTextsPassThatRepeatForAReason) {
  // A function that is shown twice, and a third time with a correction.
  EXPECT_EQ(noticed(900, [](std::size_t i) { return static_cast<int>(i % 300); }), 0U);
  // Rows of a table: the same fields, another number in each.
  EXPECT_EQ(
      noticed(20000,
              [](std::size_t i) { return static_cast<int>(i % 12 == 5 ? 1000 + i : i % 12); }),
      0U);
  // Numbers of few digits.
  std::mt19937 random(2);
  EXPECT_EQ(noticed(20000, [&](std::size_t) { return static_cast<int>(random() % 10); }), 0U);
}

}  // namespace
}  // namespace fathom
