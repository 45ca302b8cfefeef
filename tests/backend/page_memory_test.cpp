// Slots never overlap, are used again, and their blocks go back to the system.
#include "backend/cpu/page_memory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <random>
#include <vector>

namespace fathom::cpu {
namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

TEST(PageMemory, SlotsHoldWhatIsWrittenWhateverComesAndGoes) {
  PageMemory memory;
  struct Taken {
    PageMemory::Slot slot;
    std::size_t bytes;
    std::byte mark;
  };
  std::vector<Taken> taken;
  std::mt19937 random(1);
  for (int step = 0; step < 2000; ++step) {
    if (taken.size() < 40 && random() % 5 < 3) {
      const std::size_t sizes[] = {1, 100'000, 1'500'000};
      const std::size_t bytes = sizes[random() % 3];
      Taken one{memory.take(bytes), bytes, static_cast<std::byte>(step)};
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(one.slot.data()) % 64, 0U);
      std::memset(one.slot.data(), static_cast<int>(one.mark), bytes);
      taken.push_back(std::move(one));
    } else if (!taken.empty()) {
      const std::size_t which = random() % taken.size();
      const Taken& one = taken[which];
      EXPECT_TRUE(std::all_of(one.slot.data(), one.slot.data() + one.bytes,
                              [&](std::byte b) { return b == one.mark; }))
          << "at step " << step;
      std::vector<Taken> rest;
      for (std::size_t i = 0; i < taken.size(); ++i) {
        if (i != which) rest.push_back(std::move(taken[i]));
      }
      taken = std::move(rest);
    }
  }
}

TEST(PageMemory, ASlotGivenBackIsTheNextTaken) {
  PageMemory memory;
  const std::byte* first = memory.take(kMiB).data();
  const PageMemory::Slot again = memory.take(kMiB);
  EXPECT_EQ(again.data(), first);
}

TEST(PageMemory, BlocksGoBackWhenNothingOfThemIsUsed) {
  PageMemory memory;
  std::optional<PageMemory::Slot> kept(memory.take(kMiB));
  {
    std::vector<PageMemory::Slot> many;
    for (int i = 0; i < 200; ++i) many.push_back(memory.take(kMiB));
    EXPECT_GE(memory.bytes_reserved(), 201 * kMiB);
    EXPECT_LE(memory.bytes_reserved(), 300 * kMiB);
  }
  EXPECT_LE(memory.bytes_reserved(), 66 * kMiB) << "one block is kept beside the one in use";
  kept.reset();
  EXPECT_LE(memory.bytes_reserved(), 64 * kMiB);
}

TEST(PageMemory, ASlotMayOutliveIt) {
  std::optional<PageMemory> memory(std::in_place);
  const PageMemory::Slot slot = memory->take(100);
  memory.reset();
  std::memset(slot.data(), 1, 100);
}

}  // namespace
}  // namespace fathom::cpu
