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
  const auto k = random_floats(kPageTokens * 2 * 5, 3);
  const auto v = random_floats(kPageTokens * 2 * 3, 4);
  for (const KvLayout& layout : {kPairs, kFloats}) {
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

TEST(KvPage, HoldsNothingMoreThanTheEntriesUnlessAKeyOfPairsIsOdd) {
  EXPECT_EQ((KvLayout{30, 3, 64, 64, DType::BF16}.page_bytes()), 30U * 64 * 3 * 128 * 2);
  EXPECT_EQ((KvLayout{27, 1, 576, 0, DType::BF16}.page_bytes()), 27U * 64 * 576 * 2);
  EXPECT_EQ(kFloats.width(), 16U);
  EXPECT_EQ(kPairs.width(), 18U);
}

}  // namespace
}  // namespace fathom::cpu
