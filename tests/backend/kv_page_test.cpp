#include "backend/cpu/kv_page.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "backend/random_weights.h"
#include "tensor/half.h"

namespace fathom::cpu {
namespace {

using testing::random_floats;

template <typename T>
T element(const std::vector<std::byte>& page, std::size_t index) {
  T value;
  std::memcpy(&value, page.data() + index * sizeof(T), sizeof(T));
  return value;
}

constexpr KvLayout kPairs{1, 2, 5, 3, DType::BF16};
constexpr KvLayout kFloats{1, 2, 5, 3, DType::F32};
constexpr KvLayout kHalves{1, 2, 5, 3, DType::F16};
constexpr KvLayout kBytes{1, 2, 37, 35, DType::Q8_0};

/// 64 tokens of two kv heads, written `step` tokens at a time into bytes that were all ones.
std::vector<std::byte> page_of(const KvLayout& layout, std::size_t step,
                               const std::vector<float>& k, const std::vector<float>& v) {
  std::vector<std::byte> page(layout.layer_bytes(), std::byte{0xFF});
  for (std::size_t head = 0; head < layout.kv_heads; ++head) {
    for (std::size_t first = 0; first < kPageTokens; first += step) {
      const std::size_t tokens = std::min(step, kPageTokens - first);
      store_tokens(
          layout, page.data(), head, first, tokens,
          &k[(first * layout.kv_heads + head) * layout.k_dim], layout.kv_heads * layout.k_dim,
          &v[(first * layout.kv_heads + head) * layout.v_dim], layout.kv_heads * layout.v_dim);
    }
  }
  return page;
}

TEST(KvPage, KeepsKeysSideBySideAndValuesInRows) {
  const auto k = random_floats(kPageTokens * 2 * 5, 1);
  const auto v = random_floats(kPageTokens * 2 * 3, 2);
  const auto floats = page_of(kFloats, kPageTokens, k, v);
  const auto pairs = page_of(kPairs, kPageTokens, k, v);
  ASSERT_EQ(floats.size(), 64U * 2 * (5 + 3) * 4);
  ASSERT_EQ(pairs.size(), 64U * 2 * (6 + 3) * 2);
  for (std::size_t t = 0; t < kPageTokens; ++t) {
    for (std::size_t head = 0; head < 2; ++head) {
      for (std::size_t i = 0; i < 5; ++i) {
        const float x = k[(t * 2 + head) * 5 + i];
        const std::size_t base = head * 64 * 8;
        EXPECT_EQ(element<float>(floats, base + (t / 16 * 5 + i) * 16 + t % 16), x);
        const std::size_t at = ((t / 16 * 3 + i / 2) * 16 + t % 16) * 2 + i % 2;
        EXPECT_EQ(element<std::uint16_t>(pairs, head * 64 * 9 + at), f32_to_bf16(x));
      }
      for (std::size_t i = 0; i < 3; ++i) {
        const float x = v[(t * 2 + head) * 3 + i];
        EXPECT_EQ(element<float>(floats, head * 64 * 8 + 64 * 5 + t * 3 + i), x);
        const std::size_t at = (t / 2 * 3 + i) * 2 + t % 2;
        EXPECT_EQ(element<std::uint16_t>(pairs, head * 64 * 9 + 64 * 6 + at), f32_to_bf16(x));
      }
    }
  }
}

TEST(KvPage, IsTheSameHoweverManyTokensAreWrittenAtOnce) {
  for (const KvLayout& layout : {kPairs, kFloats, kHalves, kBytes}) {
    const auto k = random_floats(kPageTokens * 2 * layout.k_dim, 3);
    const auto v = random_floats(kPageTokens * 2 * layout.v_dim, 4);
    const auto whole = page_of(layout, kPageTokens, k, v);
    for (std::size_t step : {1U, 2U, 3U, 7U, 16U, 33U}) {
      EXPECT_EQ(page_of(layout, step, k, v), whole) << step;
    }
  }
}

TEST(KvPage, RoundsToNearestEvenBf16) {
  const KvLayout entry{1, 1, 3, 0, DType::BF16};
  const float x[] = {1.0F, 1.00390625F, -3.14159274F};  // the second is half way: to even
  std::vector<std::byte> page(entry.layer_bytes());
  store_tokens(entry, page.data(), 0, 63, 1, x, 3, nullptr, 0);
  const std::size_t at = 31 * 3 * 2 + 1;
  EXPECT_EQ(element<std::uint16_t>(page, at), 0x3F80);
  EXPECT_EQ(element<std::uint16_t>(page, at + 2), 0x3F80);
  EXPECT_EQ(element<std::uint16_t>(page, at + 4), 0xC049);
}

TEST(KvPage, KeepsWhatIsTooLargeForF16Finite) {
  const KvLayout entry{1, 1, 4, 0, DType::F16};
  const float x[] = {1e6F, -70000.0F, 65504.0F, 1.0F};
  std::vector<std::byte> page(entry.layer_bytes());
  store_tokens(entry, page.data(), 0, 0, 1, x, 4, nullptr, 0);
  EXPECT_EQ(f16_to_f32(element<std::uint16_t>(page, 0)), 65504.0F);
  EXPECT_EQ(f16_to_f32(element<std::uint16_t>(page, 2)), -65504.0F);
  EXPECT_EQ(f16_to_f32(element<std::uint16_t>(page, 4)), 65504.0F);
  EXPECT_EQ(f16_to_f32(element<std::uint16_t>(page, 6)), 1.0F);
}

TEST(KvPage, RoundsEightBitsByThirtyTwoElementsOfAToken) {
  const KvLayout layout{1, 1, 40, 36, DType::Q8_0};
  std::vector<float> k(40, 0.0F);
  std::vector<float> v(36, 0.0F);
  k[0] = -2.54F;  // the first 32 have a scale of 0.02, the others of 1
  k[1] = 0.031F;
  k[39] = 127.0F;
  v[35] = 1e-9F;  // too small for a scale in F16: zero, not infinite
  std::vector<std::byte> page(layout.layer_bytes(), std::byte{0xFF});
  store_tokens(layout, page.data(), 0, 21, 1, k.data(), 40, v.data(), 36);
  const auto code = [&](std::size_t i) {
    return element<std::int8_t>(page, (21 / 16 * 10 + i / 4) * 64 + 21 % 16 * 4 + i % 4);
  };
  const auto scale = [&](std::size_t base, std::size_t block) {
    std::uint16_t half;
    std::memcpy(&half, page.data() + base + (block * 64 + 21) * 2, 2);
    return f16_to_f32(half);
  };
  EXPECT_EQ(code(0), -127);
  EXPECT_EQ(code(1), 2);
  EXPECT_EQ(code(39), 127);
  EXPECT_NEAR(scale(64 * 40, 0), 0.02F, 1e-5F);
  EXPECT_EQ(scale(64 * 40, 1), 1.0F);
  const std::size_t values = 64 * (40 + 4);
  EXPECT_EQ(element<std::int8_t>(page, values + (21 / 4 * 36 + 35) * 4 + 21 % 4), 0);
  EXPECT_EQ(scale(values + 64 * 36, 1), 0.0F);
}

TEST(KvPage, HoldsNothingMoreThanTheEntriesUnlessAKeyOfPairsIsOdd) {
  EXPECT_EQ((KvLayout{30, 3, 64, 64, DType::BF16}.page_bytes()), 30U * 64 * 3 * 128 * 2);
  EXPECT_EQ((KvLayout{27, 1, 576, 0, DType::BF16}.page_bytes()), 27U * 64 * 576 * 2);
  EXPECT_EQ(kFloats.layer_bytes(), 64U * 16 * 4);
  EXPECT_EQ(kPairs.layer_bytes(), 64U * 18 * 2);
  EXPECT_EQ(kHalves.layer_bytes(), 64U * 18 * 2);
  // 40 and 35 codes, and two scales each.
  EXPECT_EQ(kBytes.layer_bytes(), 64U * 2 * (40 + 4 + 35 + 4));
}

}  // namespace
}  // namespace fathom::cpu
