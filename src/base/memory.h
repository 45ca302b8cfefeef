// How much memory this process may use, and how much it does.
#pragma once

#include <cstdint>
#include <string>

namespace fathom {

struct MemoryLimit {
  std::uint64_t available = 0;  // bytes that can still be taken without swapping or being killed
  std::string source;           // "this machine", "this container's limit"
};

/// The smaller of the kernel's MemAvailable and what every enclosing control group (v1 or v2) has
/// left, counting page cache as free. Unlimited where the system tells nothing.
MemoryLimit memory_limit();

/// What of this process lies in RAM now, mapped files included, and the most there ever was.
struct ResidentMemory {
  std::uint64_t now = 0;
  std::uint64_t peak = 0;
};
ResidentMemory resident_memory();

}  // namespace fathom
