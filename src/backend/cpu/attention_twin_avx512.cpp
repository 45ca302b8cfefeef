// attention_table.h for the kernels of AMX over tiles in plain C++, with vectors of avx512.
#include "backend/cpu/attention_simd.h"
#include "backend/cpu/simd_avx512.h"

namespace fathom::cpu {
namespace {

struct Twin : Avx512 {
  static constexpr const char* kName = "amx-twin";
  static constexpr CpuLevel kLevel = CpuLevel::TileTwin;
  using Tiles = TwinTiles<Twin>;
};

}  // namespace

constinit const AttentionTable kAttentionTwinAvx512 = AttentionKernels<Twin>::table();

}  // namespace fathom::cpu
