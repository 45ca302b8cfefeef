#include "backend/cpu/replicas.h"

#include <cstring>

namespace fathom::cpu {

std::vector<WeightBuffer> replicate(std::span<const std::byte> packed, ThreadPool& pool) {
  std::vector<WeightBuffer> copies;
  constexpr std::size_t kPart = std::size_t{1} << 20;
  for (std::size_t copy = 1; copy < pool.numa().copies(); ++copy) {
    WeightBuffer& buffer = copies.emplace_back(packed.size());
    // Before the first write: it is then that a page gets its place.
    pool.numa().place({buffer.data(), buffer.size()}, copy);
    pool.for_ranges(packed.size(), kPart, [&](std::size_t begin, std::size_t end) {
      std::memcpy(buffer.data() + begin, packed.data() + begin, end - begin);
    });
  }
  return copies;
}

}  // namespace fathom::cpu
