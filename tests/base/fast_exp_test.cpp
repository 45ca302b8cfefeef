#include "base/fast_exp.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace fathom {
namespace {

TEST(FastExp, IsWithinTwoUnitsInTheLastPlace) {
  double worst = 0;
  for (float x = -86.9F; x <= 0; x += 0.00037F) {
    const double exact = std::exp(static_cast<double>(x));
    const double unit = std::ldexp(1.0, std::ilogb(exact) - 23);
    worst = std::max(worst, std::abs(static_cast<double>(exp_of_nonpositive(x)) - exact) / unit);
  }
  EXPECT_LE(worst, 2.0);
  EXPECT_GT(worst, 0.1) << "something was compared";
}

TEST(FastExp, TheEndsAreExact) {
  EXPECT_EQ(exp_of_nonpositive(0.0F), 1.0F);
  EXPECT_EQ(exp_of_nonpositive(-0.0F), 1.0F);
  EXPECT_EQ(exp_of_nonpositive(-1e30F), 0.0F);
  EXPECT_EQ(exp_of_nonpositive(-std::numeric_limits<float>::infinity()), 0.0F);
  EXPECT_GT(exp_of_nonpositive(-86.9F), 0.0F);
}

TEST(FastExp, NeverFallsAsItsArgumentGrows) {
  float before = 0;
  for (float x = -10; x <= 0; x += 0.0001F) {
    const float now = exp_of_nonpositive(x);
    EXPECT_GE(now * (1 + 3e-7F), before) << x;
    before = now;
  }
}

}  // namespace
}  // namespace fathom
