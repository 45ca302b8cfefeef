// matmul_table.h for avx512.
#include "backend/cpu/matmul_simd.h"
#include "backend/cpu/simd_avx512.h"

namespace fathom::cpu {

constinit const MatmulTable kMatmulAvx512 = MatmulKernels<Avx512>::table();

}  // namespace fathom::cpu
