// attention_table.h for avx2.
#include "backend/cpu/attention_simd.h"
#include "backend/cpu/simd_avx2.h"

namespace fathom::cpu {

constinit const AttentionTable kAttentionAvx2 = AttentionKernels<Avx2>::table();

}  // namespace fathom::cpu
