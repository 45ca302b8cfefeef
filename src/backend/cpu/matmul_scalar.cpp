// matmul_table.h for scalar.
#include "backend/cpu/matmul_simd.h"
#include "backend/cpu/simd_scalar.h"

namespace fathom::cpu {

constinit const MatmulTable kMatmulScalar = MatmulKernels<Scalar>::table();

}  // namespace fathom::cpu
