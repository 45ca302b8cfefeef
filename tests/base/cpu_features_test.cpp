#include "base/cpu_features.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "base/error.h"

namespace fathom {
namespace {

class ForcedCpu : public testing::Test {
 protected:
  ~ForcedCpu() override { unsetenv("FATHOM_CPU"); }
};

TEST_F(ForcedCpu, EveryLevelThatTheCpuRunsCanBeForced) {
  for (const CpuLevel level : kCpuLevels) {
    setenv("FATHOM_CPU", to_string(level), 1);
    if (cpu_runs(level)) {
      EXPECT_EQ(selected_cpu_level(), level);
    } else {
      EXPECT_THROW(selected_cpu_level(), Error) << "never a silent fallback";
    }
  }
}

TEST_F(ForcedCpu, AnUnknownWordIsAnError) {
  setenv("FATHOM_CPU", "sse9", 1);
  EXPECT_THROW(selected_cpu_level(), Error);
  setenv("FATHOM_CPU", "", 1);
  EXPECT_EQ(selected_cpu_level(), best_cpu_level());
}

TEST(CpuFeatures, LevelsAreConsistentWithFeatures) {
  const CpuFeatures& features = cpu_features();
  EXPECT_TRUE(!features.avx512 || features.avx2);
  EXPECT_TRUE(!features.amx_int8 || features.avx512);
  EXPECT_TRUE(cpu_runs(best_cpu_level()));
  EXPECT_NE(best_cpu_level(), CpuLevel::TileTwin) << "which is for tests";
}

}  // namespace
}  // namespace fathom
