// Copies of packed weights for NUMA nodes, so that no node reads another's memory.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "backend/cpu/pack.h"
#include "base/thread_pool.h"

namespace fathom::cpu {

/// Copies for all nodes of pool.numa() but the first, whose copy `packed` is. None unless it
/// replicates.
std::vector<WeightBuffer> replicate(std::span<const std::byte> packed, ThreadPool& pool);

}  // namespace fathom::cpu
