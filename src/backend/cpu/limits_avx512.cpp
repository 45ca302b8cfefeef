// limits.h for avx512.
#include "backend/cpu/limits_simd.h"
#include "backend/cpu/simd_avx512.h"

namespace fathom::cpu {

constinit const LimitProbes kProbesAvx512 = Probes<Avx512>::table();

}  // namespace fathom::cpu
