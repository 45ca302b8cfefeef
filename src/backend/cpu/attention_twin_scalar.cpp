// attention_table.h for the kernels of AMX over tiles in plain C++, with vectors of scalar.
#include "backend/cpu/attention_simd.h"
#include "backend/cpu/simd_scalar.h"

namespace fathom::cpu {
namespace {

struct Twin : Scalar {
  static constexpr const char* kName = "amx-twin";
  static constexpr CpuLevel kLevel = CpuLevel::TileTwin;
  using Tiles = TwinTiles<Twin>;
};

}  // namespace

constinit const AttentionTable kAttentionTwinScalar = AttentionKernels<Twin>::table();

}  // namespace fathom::cpu
