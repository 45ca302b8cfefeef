#include "engine/fair_share.h"

#include <gtest/gtest.h>

namespace fathom {
namespace {

TEST(FairShare, WhoComesBackAfterAPauseStartsLevelWithTheOthers) {
  FairShare shares;
  shares.enter(1);
  shares.enter(2);
  shares.charge(1, 100);
  shares.charge(2, 10);
  shares.leave(2);
  shares.charge(1, 900);
  shares.enter(2);
  EXPECT_EQ(shares.paid(2), 1000u) << "turns cannot be saved up";
}

TEST(FairShare, WhoIsAheadStaysSo) {
  FairShare shares;
  shares.enter(1);
  shares.enter(2);
  shares.charge(1, 100);
  shares.leave(1);
  shares.enter(1);
  EXPECT_EQ(shares.paid(1), 100u);
  EXPECT_EQ(shares.paid(2), 0u);
}

TEST(FairShare, WhenAllHaveLeftAllIsForgotten) {
  FairShare shares;
  shares.enter(1);
  shares.charge(1, 100);
  shares.enter(1);
  shares.leave(1);
  EXPECT_EQ(shares.paid(1), 100u) << "one of its requests is still here";
  shares.leave(1);
  EXPECT_EQ(shares.paid(1), 0u);
}

}  // namespace
}  // namespace fathom
