// Which CPUs and which memory belong together (NUMA nodes), as the kernel's sysfs tells it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>
#include <vector>

namespace fathom {

struct NumaNode {
  unsigned id = 0;  // the kernel's number
  /// CPUs this process may run on, one of each physical core first.
  std::vector<unsigned> cpus;
  std::size_t cores = 0;              // so many of them; the rest are their SMT siblings
  std::uint64_t memory_bytes = 0;     // 0: a node without memory
  std::uint64_t available_bytes = 0;  // free, or page cache that can be dropped
  std::vector<unsigned> distances;    // by the place of a node in the kernel's list; may be empty
};

/// The nodes that have CPUs for this process. Memory of others is left alone.
struct Topology {
  std::vector<NumaNode> nodes;

  /// Places in `nodes` of those with memory.
  std::vector<std::size_t> with_memory() const;
  /// The place in `nodes` of the nearest memory for the CPUs of nodes[node]: its own, if it has
  /// any.
  std::size_t nearest_memory(std::size_t node) const;
  /// All CPUs in the order in which threads should take them: by turns from the nodes, so that few
  /// threads have the bandwidth of all, and all physical cores before the first SMT sibling.
  std::vector<unsigned> thread_order() const;
};

/// CPUs that this thread's affinity allows.
std::vector<unsigned> allowed_cpus();

/// "0-3,8,10-11" as numbers. Throws Error(Corrupt), naming `file`, for anything else.
std::vector<unsigned> parse_cpu_list(std::string_view text, const std::filesystem::path& file);

/// `system` is the folder that holds node/ and cpu/. A kernel that knows no nodes has one, with all
/// `allowed` CPUs. Throws Error(Corrupt) for files that cannot be understood.
Topology read_topology(const std::filesystem::path& system = "/sys/devices/system",
                       const std::vector<unsigned>& allowed = allowed_cpus());

}  // namespace fathom
