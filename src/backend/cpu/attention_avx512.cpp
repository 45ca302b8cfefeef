// attention_table.h for avx512.
#include "backend/cpu/attention_simd.h"
#include "backend/cpu/simd_avx512.h"

namespace fathom::cpu {

constinit const AttentionTable kAttentionAvx512 = AttentionKernels<Avx512>::table();

}  // namespace fathom::cpu
