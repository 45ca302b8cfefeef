// limits.h for avx2.
#include "backend/cpu/limits_simd.h"
#include "backend/cpu/simd_avx2.h"

namespace fathom::cpu {

constinit const LimitProbes kProbesAvx2 = Probes<Avx2>::table();

}  // namespace fathom::cpu
