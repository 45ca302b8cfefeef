#include "base/checked.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>

namespace fathom {
namespace {

constexpr auto kMax = std::numeric_limits<std::uint64_t>::max();

TEST(Checked, ProductsThatWrapAreErrors) {
  EXPECT_EQ(checked_mul<std::uint64_t>(1ULL << 32, (1ULL << 32) - 1), kMax - (1ULL << 32) + 1);
  EXPECT_THROW(checked_mul<std::uint64_t>(1ULL << 32, 1ULL << 32), Error);
  EXPECT_THROW(checked_mul<std::int32_t>(1 << 16, 1 << 15), Error);
}

TEST(Checked, SumsThatWrapAreErrors) {
  EXPECT_EQ(checked_add<std::uint64_t>(kMax - 1, 1), kMax);
  EXPECT_THROW(checked_add<std::uint64_t>(kMax, 1), Error);
}

TEST(Checked, CastsOutOfRangeAreErrors) {
  EXPECT_EQ(checked_cast<std::int32_t>(std::uint64_t{2147483647}), 2147483647);
  EXPECT_THROW(checked_cast<std::int32_t>(std::uint64_t{2147483648}), Error);
  EXPECT_THROW(checked_cast<std::uint64_t>(-1), Error);
}

TEST(Checked, AlignUpNearTheTopIsAnError) {
  EXPECT_EQ(checked_align_up<std::uint64_t>(33, 32), 64U);
  EXPECT_EQ(checked_align_up<std::uint64_t>(64, 32), 64U);
  EXPECT_THROW(checked_align_up<std::uint64_t>(kMax - 3, 32), Error);
}

TEST(Checked, ErrorsNameTheObjectAndTheNumbers) {
  try {
    checked_mul<std::uint64_t>(kMax, 2, "tensor 'x' bytes");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::Corrupt);
    EXPECT_NE(std::string(error.what()).find("tensor 'x' bytes"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("18446744073709551615 * 2"), std::string::npos);
  }
}

}  // namespace
}  // namespace fathom
