// attention_table.h for avx512-bf16.
#include "backend/cpu/attention_simd.h"
#include "backend/cpu/pair_attention.h"
#include "backend/cpu/simd_avx512.h"

namespace fathom::cpu {
namespace {

struct Avx512Bf16 : Avx512 {
  static constexpr const char* kName = "avx512-bf16";
  static constexpr CpuLevel kLevel = CpuLevel::Avx512Bf16;
  /// sums + a * b, of both BF16 of each word.
  static F add_pairs(F sums, I a, I b) {
    return _mm512_dpbf16_ps(sums, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }
};

constexpr AttentionTable table() {
  AttentionTable t = AttentionKernels<Avx512Bf16>::table();
  t.rounded = PairAttention<Avx512Bf16>::kernels();
  return t;
}

}  // namespace

constinit const AttentionTable kAttentionAvx512Bf16 = table();

}  // namespace fathom::cpu
