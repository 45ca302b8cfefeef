// limits.h for avx2-vnni.
#include "backend/cpu/limits_simd.h"
#include "backend/cpu/simd_avxvnni.h"

namespace fathom::cpu {

constinit const LimitProbes kProbesAvx2Vnni = Probes<Avx2Vnni>::table();

}  // namespace fathom::cpu
