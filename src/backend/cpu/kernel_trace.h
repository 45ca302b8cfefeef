// Which instruction sets' kernels have computed something in this process. The kernels themselves
// say so, from the code that was compiled for that set: what is reported is what ran, not what was
// asked for.
#pragma once

#include <string>

#include "base/cpu_features.h"

namespace fathom::cpu {

/// A bit for each CpuLevel; set by ran(), read with the functions below.
extern unsigned g_products_ran;
extern unsigned g_attention_ran;

/// Called by the kernels. Always inlined and without library calls, because the units that call it
/// are compiled for different instruction sets, and a shared copy might be any of theirs.
[[gnu::always_inline]] inline void ran(unsigned& bits, CpuLevel level) noexcept {
  const unsigned bit = 1U << static_cast<unsigned>(level);
  // Looked at first: threads that only read share the cache line.
  if ((__atomic_load_n(&bits, __ATOMIC_RELAXED) & bit) == 0) {
    __atomic_fetch_or(&bits, bit, __ATOMIC_RELAXED);
  }
}

/// "avx512", or several joined by "+"; "none" before the first product.
std::string product_kernels_ran();
/// The same of attention.
std::string attention_kernels_ran();
/// Starts anew, for tests.
void forget_kernels_ran();

}  // namespace fathom::cpu
