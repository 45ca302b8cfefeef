#include "base/progress.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <vector>

namespace fathom {
namespace {

TEST(Progress, ReportsTheEndOnceWithItsTotal) {
  std::vector<ProgressUpdate> updates;
  {
    Progress progress([&](const ProgressUpdate& update) { updates.push_back(update); }, "packing",
                      100);
    for (int i = 0; i < 100; ++i) progress.advance(1);
    progress.finish();
  }
  ASSERT_FALSE(updates.empty());
  EXPECT_TRUE(updates.back().finished);
  EXPECT_EQ(updates.back().done, 100U);
  EXPECT_LT(updates.size(), 100U) << "reports are limited in rate";
  for (std::size_t i = 0; i + 1 < updates.size(); ++i) EXPECT_FALSE(updates[i].finished);
}

TEST(Progress, DoesNotReportAnEndThatAnExceptionPrevented) {
  bool finished = false;
  try {
    Progress progress([&](const ProgressUpdate& update) { finished |= update.finished; }, "x", 2);
    progress.advance(1);
    throw std::runtime_error("disk full");
  } catch (const std::runtime_error&) {
  }
  EXPECT_FALSE(finished);
}

TEST(Progress, FormatsForPeople) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(1536), "1.50 KiB");
  EXPECT_EQ(format_bytes(98362432), "93.8 MiB");
  EXPECT_EQ(format_duration(3.6), "4s");
  EXPECT_EQ(format_duration(200), "3m 20s");
  EXPECT_EQ(format_duration(7500), "2h 05m");
  ProgressUpdate update;
  update.task = "downloading model.gguf";
  update.done = 50 << 20;
  update.total = 100 << 20;
  update.rate = 10 << 20;
  update.eta_seconds = 5;
  EXPECT_EQ(format_progress(update),
            "downloading model.gguf  50.0 MiB of 100.0 MiB  50%  10.0 MiB/s  ETA 5s");
  update = {};
  update.task = "measuring";
  update.unit = "measurements";
  update.done = 5;
  update.total = 7;
  update.rate = 0.4;
  update.eta_seconds = 5;
  EXPECT_EQ(format_progress(update), "measuring  5 of 7 measurements  71%  2.5 s each  ETA 5s");
  update.rate = 3.25;
  EXPECT_EQ(format_progress(update), "measuring  5 of 7 measurements  71%  3.2/s  ETA 5s");
  update.rate = 812.4;
  update.finished = true;
  EXPECT_EQ(format_progress(update), "measuring  5 of 7 measurements  71%  812/s");
}

}  // namespace
}  // namespace fathom
