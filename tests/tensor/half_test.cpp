#include "tensor/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "tensor/golden.h"

namespace fathom {
namespace {

using testing::Golden;
using testing::same_float;

/// sign * 1.mantissa * 2^exponent by the format's definition, in double, where it is exact.
double by_definition(unsigned code, int exponent_bits, int mantissa_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const auto exponent = static_cast<int>((code >> mantissa_bits) & ((1U << exponent_bits) - 1));
  const double mantissa = code & ((1U << mantissa_bits) - 1);
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, 1 - bias - mantissa_bits)
                    : std::ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
  return (code >> (exponent_bits + mantissa_bits)) != 0 ? -magnitude : magnitude;
}

TEST(Half, EveryF16WidensToItsValueAndBack) {
  for (unsigned code = 0; code < 0x10000; ++code) {
    const auto half = static_cast<std::uint16_t>(code);
    const float value = f16_to_f32(half);
    if ((code & 0x7FFF) > 0x7C00) {
      ASSERT_TRUE(std::isnan(value)) << code;
      ASSERT_EQ(f32_to_f16(value), half | 0x200) << code;  // the NaN kept, but quiet
      continue;
    }
    if ((code & 0x7FFF) == 0x7C00) {
      ASSERT_EQ(value, code == 0x7C00 ? INFINITY : -INFINITY);
    } else {
      ASSERT_EQ(value, by_definition(code, 5, 10)) << code;
      ASSERT_EQ(std::signbit(value), code >= 0x8000) << code;
    }
    ASSERT_EQ(f32_to_f16(value), half) << code;
  }
}

TEST(Half, EveryBf16WidensToItsValueAndBack) {
  for (unsigned code = 0; code < 0x10000; ++code) {
    const float value = bf16_to_f32(static_cast<std::uint16_t>(code));
    if ((code & 0x7FFF) > 0x7F80) {
      ASSERT_TRUE(std::isnan(value)) << code;
      ASSERT_EQ(f32_to_bf16(value), code | 0x40) << code;
      continue;
    }
    if ((code & 0x7FFF) != 0x7F80) {
      ASSERT_EQ(value, by_definition(code, 8, 7)) << code;
    }
    ASSERT_EQ(f32_to_bf16(value), code) << code;
  }
}

TEST(Half, EveryE4M3WidensToItsValueAndBack) {
  const std::vector<float> torch = Golden("e4m3_values.f32.bin").rest<float>();
  ASSERT_EQ(torch.size(), 256U);
  for (unsigned code = 0; code < 256; ++code) {
    const float value = e4m3_to_f32(static_cast<std::uint8_t>(code));
    ASSERT_TRUE(same_float(value, torch[code])) << code;
    ASSERT_EQ(std::signbit(value), code >= 128) << code;
    ASSERT_EQ(f32_to_e4m3(value), code) << code;
  }
}

/// Between neighbouring codes a and a + 1, the middle goes to the even one and the floats next to
/// the middle to the nearer one. By symmetry the same for negative values.
template <typename Code, typename Widen, typename Narrow>
void expect_ties_to_even(unsigned last, Widen widen, Narrow narrow) {
  const unsigned sign = 1U << (8 * sizeof(Code) - 1);
  for (unsigned code = 0; code < last; ++code) {
    const double below = widen(static_cast<Code>(code));
    const double above = widen(static_cast<Code>(code + 1));
    const auto middle = static_cast<float>((below + above) / 2);
    ASSERT_EQ(static_cast<double>(middle), (below + above) / 2);
    const unsigned even = code % 2 == 0 ? code : code + 1;
    ASSERT_EQ(narrow(middle), even) << code;
    ASSERT_EQ(narrow(-middle), even | sign) << code;
    ASSERT_EQ(narrow(std::nextafter(middle, 0.0F)), code) << code;
    ASSERT_EQ(narrow(std::nextafter(middle, INFINITY)), code + 1) << code;
  }
}

TEST(Half, NarrowingRoundsToNearestAndTiesToEven) {
  expect_ties_to_even<std::uint16_t>(0x7BFF, f16_to_f32, f32_to_f16);
  expect_ties_to_even<std::uint16_t>(0x7F7F, bf16_to_f32, f32_to_bf16);
  expect_ties_to_even<std::uint8_t>(0x7E, e4m3_to_f32, f32_to_e4m3);
}

TEST(Half, ValuesAboveTheRangeOverflowInF16AndBf16AndSaturateInE4M3) {
  EXPECT_EQ(f32_to_f16(65519.996F), 0x7BFF);
  EXPECT_EQ(f32_to_f16(65520.0F), 0x7C00);
  EXPECT_EQ(f32_to_f16(-3e38F), 0xFC00);
  EXPECT_EQ(f32_to_bf16(3.4028235e38F), 0x7F80);
  EXPECT_EQ(f32_to_e4m3(464.0F), 0x7E);
  EXPECT_EQ(f32_to_e4m3(1e30F), 0x7E);
  EXPECT_EQ(f32_to_e4m3(-INFINITY), 0xFE);
}

TEST(Half, NarrowingAgreesWithGgufAndTorch) {
  const std::vector<float> values = Golden("scalars.f32.bin").rest<float>();
  const auto f16 = Golden("scalars.f16.bin").take<std::uint16_t>(values.size());
  const auto bf16 = Golden("scalars.bf16.bin").take<std::uint16_t>(values.size());
  const auto e4m3 = Golden("scalars.e4m3.bin").take<std::uint8_t>(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(f32_to_f16(values[i]), f16[i]) << values[i];
    ASSERT_EQ(f32_to_bf16(values[i]), bf16[i]) << values[i];
    ASSERT_EQ(f32_to_e4m3(values[i]), e4m3[i]) << values[i];
  }
}

}  // namespace
}  // namespace fathom
