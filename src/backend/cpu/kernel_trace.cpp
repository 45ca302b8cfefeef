#include "backend/cpu/kernel_trace.h"

namespace fathom::cpu {

unsigned g_products_ran = 0;
unsigned g_attention_ran = 0;

namespace {

std::string names(const unsigned& bits) {
  const unsigned set = __atomic_load_n(&bits, __ATOMIC_RELAXED);
  std::string text;
  for (const CpuLevel level : kCpuLevels) {
    if ((set >> static_cast<unsigned>(level) & 1U) == 0) continue;
    text += (text.empty() ? "" : "+") + std::string(to_string(level));
  }
  return text.empty() ? "none" : text;
}

}  // namespace

std::string product_kernels_ran() { return names(g_products_ran); }
std::string attention_kernels_ran() { return names(g_attention_ran); }

void forget_kernels_ran() {
  __atomic_store_n(&g_products_ran, 0U, __ATOMIC_RELAXED);
  __atomic_store_n(&g_attention_ran, 0U, __ATOMIC_RELAXED);
}

}  // namespace fathom::cpu
