// Where threads and weights go on a machine with several NUMA nodes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/topology.h"

namespace fathom {

enum class NumaMode {
  Off,       // left to the kernel
  Spread,    // threads bound, pages of weights by turns on all nodes: all memory's bandwidth
  Replicate  // threads bound, a copy of the weights on each node: no reads across, but n times the
             // memory
};

/// Tells the kernel where pages belong that have not been touched yet. Tests put their own here.
class MemoryBinder {
 public:
  virtual ~MemoryBinder() = default;
  /// Pages by turns on the nodes with these ids.
  virtual void interleave(std::span<std::byte> memory, std::span<const unsigned> nodes) = 0;
  /// Pages on this node while it has any: a full node must not end the process.
  virtual void prefer(std::span<std::byte> memory, unsigned node) = 0;
};
/// By mbind(2). Throws Error(Unsupported) where the kernel refuses.
std::shared_ptr<MemoryBinder> system_memory_binder();

struct NumaOptions {
  NumaMode mode = NumaMode::Off;
  Topology topology = {};
  std::shared_ptr<MemoryBinder> binder = {};  // not null unless Off

  bool off() const { return mode == NumaMode::Off; }
  /// How many copies of the weights there are.
  std::size_t copies() const;
  /// Places untouched memory that is to hold copy `copy` of some weights, as far as it is whole
  /// pages: the rest is little, and in caches.
  void place(std::span<std::byte> memory, std::size_t copy) const;
  /// Throws Error(ResourceLimit) if a node has no room for its copy of `bytes`.
  void require_room(std::uint64_t bytes) const;
};

/// Off on a machine with one node's memory, where there is nothing to choose.
NumaOptions numa_options(NumaMode mode, Topology topology = read_topology(),
                         std::shared_ptr<MemoryBinder> binder = system_memory_binder());

}  // namespace fathom
