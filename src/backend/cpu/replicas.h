// Copies of packed weights for NUMA nodes, so that no node reads another's memory.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "backend/cpu/weight_memory.h"

namespace fathom::cpu {

/// A copy in `memory` for NUMA node number `copy`. Parallel.
WeightBuffer copy_weights(std::span<const std::byte> packed, WeightMemory& memory,
                          std::size_t copy);

/// Copies for all nodes but the first, whose copy `packed` is. None unless the pool replicates.
std::vector<WeightBuffer> replicate(std::span<const std::byte> packed, WeightMemory& memory);

}  // namespace fathom::cpu
