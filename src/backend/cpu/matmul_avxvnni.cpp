// matmul_table.h for avx2-vnni.
#include "backend/cpu/matmul_simd.h"
#include "backend/cpu/simd_avxvnni.h"

namespace fathom::cpu {

constinit const MatmulTable kMatmulAvx2Vnni = MatmulKernels<Avx2Vnni>::table();

}  // namespace fathom::cpu
