// matmul_table.h for avx2.
#include "backend/cpu/matmul_simd.h"
#include "backend/cpu/simd_avx2.h"

namespace fathom::cpu {

constinit const MatmulTable kMatmulAvx2 = MatmulKernels<Avx2>::table();

}  // namespace fathom::cpu
