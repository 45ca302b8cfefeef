// matmul_table.h for the kernels of AMX over tiles in plain C++, with vectors of scalar.
#include "backend/cpu/matmul_simd.h"
#include "backend/cpu/simd_scalar.h"

namespace fathom::cpu {
namespace {

struct Twin : Scalar {
  static constexpr const char* kName = "amx-twin";
  static constexpr CpuLevel kLevel = CpuLevel::TileTwin;
  static constexpr int kStreamMost = kTileTokens - 1;
  static constexpr int kStreamMostBytes = kStreamMost;
  using Tiles = TwinTiles<Twin>;
};

}  // namespace

constinit const MatmulTable kMatmulTwinScalar = MatmulKernels<Twin>::table();

}  // namespace fathom::cpu
