#include "backend/cpu/tile_unit.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "backend/cpu/tile_amx.h"
#include "backend/random_weights.h"
#include "base/cpu_features.h"

namespace fathom::cpu {
namespace {

using testing::GuardedBytes;

struct Twin : TwinTiles<Twin> {};

struct Shape {
  std::size_t rows, bytes, stride;
};
const Shape kShapes[] = {{16, 64, 64}, {16, 32, 416}, {16, 16, 416}, {7, 32, 34}, {1, 4, 100}};

/// Two products of random bytes into the same sums, [rows, 16] words `stride + 64` bytes apart in
/// memory that is 0x55 before, with both factors ending at guard pages.
template <class Tiles, bool Brain>
std::vector<std::byte> products(const Shape& shape, unsigned seed) {
  std::mt19937 random(seed);
  GuardedBytes left((shape.rows - 1) * shape.stride + shape.bytes);
  GuardedBytes right(shape.bytes / 4 * 64);
  const auto fill = [&](GuardedBytes& bytes) {
    for (std::size_t i = 0; i + 2 <= bytes.size(); i += 2) {
      // BF16 from 2^-8 to 2^8; as bytes, whatever they are.
      const auto brain =
          static_cast<std::uint16_t>((random() & 0x807FU) | (119 + random() % 17) << 7);
      const auto word = Brain ? brain : static_cast<std::uint16_t>(random());
      std::memcpy(bytes.data() + i, &word, 2);
    }
  };
  fill(left);
  fill(right);
  std::vector<std::byte> out(shape.rows * (shape.stride + 64), std::byte{0x55});
  Tiles::open(shape.rows, shape.bytes);
  Tiles::template zero<1>();
  Tiles::template load<4>(left.data(), shape.stride);
  Tiles::template load<5>(left.data(), shape.stride);
  Tiles::template load<6>(right.data(), 64);
  Tiles::template load<7>(right.data(), 64);
  if constexpr (Brain) {
    Tiles::template add_bf16<1, 4, 6>();
    Tiles::template add_bf16<1, 5, 7>();
  } else {
    Tiles::template add_int8<1, 4, 6>();
    Tiles::template add_int8<1, 5, 7>();
  }
  Tiles::template store<1>(out.data(), shape.stride + 64);
  Tiles::close();

  // Against plain arithmetic on the bytes: exact for integers.
  for (std::size_t m = 0; m < shape.rows; ++m) {
    for (std::size_t n = 0; n < 16; ++n) {
      double sum = 0;
      double size = 0;
      for (std::size_t k = 0; k < shape.bytes; k += Brain ? 2 : 1) {
        const std::byte* a = left.data() + m * shape.stride + k;
        const std::byte* b = right.data() + k / 4 * 64 + 4 * n + k % 4;
        double term = 0;
        if constexpr (Brain) {
          std::uint16_t x = 0;
          std::uint16_t y = 0;
          std::memcpy(&x, a, 2);
          std::memcpy(&y, b, 2);
          term = double{bf16_to_f32(x)} * bf16_to_f32(y);
        } else {
          term = static_cast<std::int8_t>(*a) * static_cast<std::int8_t>(*b);
        }
        sum += 2 * term;
        size += 2 * std::abs(term);
      }
      const std::byte* at = out.data() + m * (shape.stride + 64) + 4 * n;
      if constexpr (Brain) {
        float got = 0;
        std::memcpy(&got, at, 4);
        EXPECT_NEAR(got, sum, 1e-6 * size);
      } else {
        std::int32_t got = 0;
        std::memcpy(&got, at, 4);
        EXPECT_EQ(got, sum);
      }
    }
    for (std::size_t i = 64; i < shape.stride + 64; ++i) {
      EXPECT_EQ(out[m * (shape.stride + 64) + i], std::byte{0x55}) << "between rows";
    }
  }
  return out;
}

TEST(TileUnit, TheTwinMultipliesWhatIsInItsRowsAndNothingElse) {
  for (const Shape& shape : kShapes) {
    products<Twin, false>(shape, 1);
    products<Twin, true>(shape, 2);
  }
}

TEST(TileUnit, TheTwinFlushesSubnormalNumbers) {
  const std::uint16_t smallest = 0x0080;  // 2^-126
  const std::uint16_t below = 0x0040;     // 2^-127
  const std::uint16_t half = 0x3F00;
  const std::uint16_t one = 0x3F80;
  for (const auto& [x, y, expected] :
       {std::tuple{smallest, one, 0x1p-126F}, std::tuple{smallest, half, 0.0F},
        std::tuple{below, one, 0.0F}}) {
    std::uint16_t left[2] = {x, 0};
    std::uint16_t right[32] = {y};
    float sums[16];
    Twin::open(1, 4);
    Twin::zero<0>();
    Twin::load<4>(left, 4);
    Twin::load<6>(right, 64);
    Twin::add_bf16<0, 4, 6>();
    Twin::store<0>(sums, 64);
    Twin::close();
    EXPECT_EQ(sums[0], expected);
  }
}

TEST(TileUnit, AmxGivesTheBitsOfItsTwin) {
  if (!cpu_runs(CpuLevel::Amx)) GTEST_SKIP() << "this CPU has no AMX";
  for (const Shape& shape : kShapes) {
    for (unsigned seed = 3; seed < 13; ++seed) {
      EXPECT_EQ((products<AmxTiles, false>(shape, seed)), (products<Twin, false>(shape, seed)));
      EXPECT_EQ((products<AmxTiles, true>(shape, seed)), (products<Twin, true>(shape, seed)));
    }
  }
}

TEST(TileUnit, TokensAreSharedOutEvenlyOverTiles) {
  EXPECT_EQ(tile_rows(1), 1U);
  EXPECT_EQ(tile_rows(16), 16U);
  EXPECT_EQ(tile_rows(17), 9U);
  EXPECT_EQ(tile_rows(33), 11U);
  EXPECT_EQ(tile_rows(96), 16U);
}

}  // namespace
}  // namespace fathom::cpu
