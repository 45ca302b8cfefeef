// limits.h for scalar.
#include "backend/cpu/limits_simd.h"
#include "backend/cpu/simd_scalar.h"

namespace fathom::cpu {

constinit const LimitProbes kProbesScalar = Probes<Scalar>::table();

}  // namespace fathom::cpu
