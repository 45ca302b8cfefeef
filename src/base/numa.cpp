#include "base/numa.h"

#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/progress.h"

namespace fathom {
namespace {

/// The system call itself: one of libnuma's many functions is not worth a dependency.
class SystemBinder final : public MemoryBinder {
 public:
  void interleave(std::span<std::byte> memory, std::span<const unsigned> nodes) override {
    bind(memory, MPOL_INTERLEAVE, nodes);
  }
  void prefer(std::span<std::byte> memory, unsigned node) override {
    bind(memory, MPOL_PREFERRED, {&node, 1});
  }

 private:
  static void bind(std::span<std::byte> memory, int policy, std::span<const unsigned> nodes) {
    constexpr std::size_t kBits = 8 * sizeof(unsigned long);
    const unsigned last = *std::ranges::max_element(nodes);
    std::vector<unsigned long> mask(last / kBits + 1);
    for (const unsigned node : nodes) mask[node / kBits] |= 1UL << node % kBits;
    // The kernel looks at one bit less than it is told of.
    const long result = syscall(SYS_mbind, memory.data(), memory.size(), policy, mask.data(),
                                mask.size() * kBits + 1, 0U);
    const int error = errno;
    require(result == 0, ErrorCode::Unsupported,
            "mbind of {} bytes of weights to {} NUMA node(s) up to {}: {}; a container may forbid "
            "it (--numa off does without)",
            memory.size(), nodes.size(), last, std::strerror(error));
  }
};

}  // namespace

std::shared_ptr<MemoryBinder> system_memory_binder() { return std::make_shared<SystemBinder>(); }

std::size_t NumaOptions::copies() const {
  return mode == NumaMode::Replicate ? topology.with_memory().size() : 1;
}

void NumaOptions::place(std::span<std::byte> memory, std::size_t copy) const {
  if (off() || memory.empty()) return;
  const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<std::uintptr_t>(memory.data());
  const std::uintptr_t first = (begin + page - 1) / page * page;
  const std::uintptr_t last = (begin + memory.size()) / page * page;
  if (last <= first) return;
  const std::span pages = memory.subspan(first - begin, last - first);
  std::vector<unsigned> ids;
  for (const std::size_t node : topology.with_memory()) ids.push_back(topology.nodes[node].id);
  if (mode == NumaMode::Spread) {
    binder->interleave(pages, ids);
  } else {
    binder->prefer(pages, ids.at(copy));
  }
}

void NumaOptions::require_room(std::uint64_t bytes) const {
  if (mode != NumaMode::Replicate) return;
  for (const std::size_t i : topology.with_memory()) {
    const NumaNode& node = topology.nodes[i];
    require(bytes <= node.available_bytes, ErrorCode::ResourceLimit,
            "a copy of the weights on each NUMA node takes {}, but node {} has {} available; "
            "--numa spread keeps one copy",
            format_bytes(bytes), node.id, format_bytes(node.available_bytes));
  }
}

NumaOptions numa_options(NumaMode mode, Topology topology, std::shared_ptr<MemoryBinder> binder) {
  if (mode == NumaMode::Off || topology.with_memory().size() < 2) return {};
  return {mode, std::move(topology), std::move(binder)};
}

}  // namespace fathom
