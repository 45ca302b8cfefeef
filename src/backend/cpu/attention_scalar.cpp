// attention_table.h for scalar.
#include "backend/cpu/attention_simd.h"
#include "backend/cpu/simd_scalar.h"

namespace fathom::cpu {

constinit const AttentionTable kAttentionScalar = AttentionKernels<Scalar>::table();

}  // namespace fathom::cpu
