// The kernels that multiply straight from the packed form, one by one: however groups and tokens
// are put together, and whatever is asked of the memory ahead, the bits are those of one group and
// one token of the scalar twin, and nothing outside the buffers is touched.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "backend/cpu/matmul_table.h"
#include "backend/levels.h"
#include "backend/random_weights.h"

namespace fathom::cpu {
namespace {

using testing::GuardedBytes;
using testing::levels;
using testing::random_floats;
using testing::RandomMatrix;

struct Case {
  DType dtype;
  std::size_t features;
};
const Case kCases[] = {
    {DType::Q8_0, 544},    {DType::Q4_0, 288},   {DType::Q4_1, 64},   {DType::Q5_0, 320},
    {DType::Q5_1, 32},     {DType::Q2_K, 512},   {DType::Q3_K, 256},  {DType::Q4_K, 512},
    {DType::Q5_K, 768},    {DType::Q6_K, 512},   {DType::IQ1_S, 256}, {DType::IQ1_M, 512},
    {DType::IQ2_XXS, 256}, {DType::IQ2_XS, 512}, {DType::IQ2_S, 256}, {DType::IQ3_XXS, 512},
    {DType::IQ3_S, 256},   {DType::IQ4_NL, 96},  {DType::IQ4_XS, 512}};
constexpr std::size_t kGroups = 4;
constexpr std::size_t kTokens = 8;

const MatmulTable::Format& kernels(CpuLevel level, DType dtype) {
  return matmul_table(level).formats[static_cast<std::size_t>(dtype)];
}

std::size_t chunks(std::size_t features) { return (features + kChunk - 1) / kChunk; }

/// [chunks, kTokens] records of random activations, and one more of garbage at the guard page.
void fill_records(std::size_t features, ActivationRecord* records) {
  const MatmulTable& table = matmul_table(CpuLevel::Scalar);
  const std::vector<float> x = random_floats(kTokens * features, 3);
  for (std::size_t t = 0; t < kTokens; ++t) {
    for (std::size_t c = 0; c < chunks(features); ++c) {
      const std::size_t subs = std::min(kChunk, features - c * kChunk) / kSubTile;
      table.quantise(x.data() + t * features + c * kChunk, 0, subs, records + c * kTokens + t);
    }
  }
  std::memset(static_cast<void*>(records + chunks(features) * kTokens), 0xFF,
              sizeof(ActivationRecord));
}

TEST(Stream, GroupsAndTokensTogetherGiveTheBitsOfEachAlone) {
  for (const Case& c : kCases) {
    const RandomMatrix weight(c.dtype, kGroups * kGroupRows, c.features, 5);
    const PackedFormat f = packed_format(c.dtype);
    const std::size_t bytes = c.features / f.tile_features * f.tile_bytes();
    GuardedBytes packed(kGroups * bytes);
    const std::byte* groups[kGroups];
    const std::size_t row = row_bytes(c.dtype, c.features);
    for (std::size_t g = 0; g < kGroups; ++g) {
      groups[g] = packed.data() + g * bytes;
      kernels(CpuLevel::Scalar, c.dtype)
          .pack(weight.bytes.data() + g * kGroupRows * row, row, kGroupRows, c.features,
                packed.data() + g * bytes);
    }
    GuardedBytes activations((chunks(c.features) * kTokens + 1) * sizeof(ActivationRecord));
    auto* records = reinterpret_cast<ActivationRecord*>(activations.data());
    fill_records(c.features, records);

    float alone[kGroups][kTokens][kGroupRows];
    for (std::size_t g = 0; g < kGroups; ++g) {
      for (std::size_t t = 0; t < kTokens; ++t) {
        kernels(CpuLevel::Scalar, c.dtype)
            .stream(groups + g, 1, c.features, records + t, kTokens, 1, alone[g][t], 0, {});
      }
    }
    for (CpuLevel level : levels()) {
      const std::size_t most = matmul_table(level).stream_at_once;
      ASSERT_LE(most, kTokens);
      for (std::size_t count = 1; count <= kGroups; ++count) {
        for (std::size_t tokens = 1; tokens <= most; ++tokens) {
          for (const Ahead ahead : {Ahead{}, Ahead{true, {}}, Ahead{true, {groups[0], bytes}}}) {
            const std::size_t stride = tokens * kGroupRows;
            GuardedBytes out(count * stride * sizeof(float));
            kernels(level, c.dtype)
                .stream(groups + kGroups - count, count, c.features, records + kTokens - tokens,
                        kTokens, tokens, out.floats(), stride, ahead);
            for (std::size_t g = 0; g < count; ++g) {
              for (std::size_t t = 0; t < tokens; ++t) {
                const float* expected = alone[kGroups - count + g][kTokens - tokens + t];
                ASSERT_TRUE(std::equal(expected, expected + kGroupRows,
                                       out.floats() + g * stride + t * kGroupRows))
                    << to_string(level) << " " << to_string(c.dtype) << ", group " << g << " of "
                    << count << ", token " << t << " of " << tokens;
              }
            }
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace fathom::cpu
