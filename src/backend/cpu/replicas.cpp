#include "backend/cpu/replicas.h"

#include <cstring>

namespace fathom::cpu {

WeightBuffer copy_weights(std::span<const std::byte> packed, WeightMemory& memory,
                          std::size_t copy) {
  constexpr std::size_t kPart = std::size_t{1} << 20;
  WeightBuffer buffer = memory.take(packed.size(), copy);
  memory.pool().for_ranges(packed.size(), kPart, [&](std::size_t begin, std::size_t end) {
    std::memcpy(buffer.data() + begin, packed.data() + begin, end - begin);
  });
  return buffer;
}

std::vector<WeightBuffer> replicate(std::span<const std::byte> packed, WeightMemory& memory) {
  std::vector<WeightBuffer> copies;
  for (std::size_t copy = 1; copy < memory.copies(); ++copy) {
    copies.push_back(copy_weights(packed, memory, copy));
  }
  return copies;
}

}  // namespace fathom::cpu
