// Matrices share blocks, keep them alive, and never each other's bytes.
#include "backend/cpu/weight_memory.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <optional>
#include <vector>

namespace fathom::cpu {
namespace {

TEST(WeightMemory, PartsOfABlockDoNotOverlap) {
  ThreadPool pool(1);
  WeightMemory memory(pool);
  EXPECT_EQ(memory.copies(), 1U);
  std::vector<WeightBuffer> buffers;
  // Past the first blocks of 2 and 4 MiB, with one larger than any block that is due.
  for (const std::size_t bytes :
       {std::size_t{1}, std::size_t{63}, std::size_t{64}, std::size_t{1} << 20,
        std::size_t{1'500'000}, std::size_t{3} << 20, std::size_t{40} << 20, std::size_t{5}}) {
    buffers.push_back(memory.take(bytes));
    ASSERT_EQ(buffers.back().size(), bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffers.back().data()) % 64, 0U);
    std::memset(buffers.back().data(), static_cast<int>(buffers.size()), bytes);
  }
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    const auto expected = static_cast<std::byte>(i + 1);
    const std::vector<std::byte> all(buffers[i].size(), expected);
    EXPECT_EQ(std::memcmp(buffers[i].data(), all.data(), all.size()), 0) << i;
  }
}

TEST(WeightMemory, APartOutlivesTheMemoryAndTheOtherParts) {
  ThreadPool pool(1);
  std::optional<WeightMemory> memory(pool);
  WeightBuffer first = memory->take(100);
  {
    const WeightBuffer second = memory->take(100);
    EXPECT_EQ(second.data(), first.data() + 128) << "they share a block";
  }
  std::memset(first.data(), 7, 100);
  memory.reset();
  EXPECT_EQ(first.data()[99], std::byte{7});
}

TEST(WeightMemory, OneEachIsAsLargeAsAsked) {
  ThreadPool pool(1);
  WeightMemory memory(pool, WeightMemory::Blocks::OneEach);
  const WeightBuffer a = memory.take(100);
  const WeightBuffer b = memory.take(100);
  EXPECT_EQ(a.size(), 100U);
  EXPECT_NE(b.data(), a.data() + 128);
}

}  // namespace
}  // namespace fathom::cpu
