// matmul_table.h for the kernels of AMX over tiles in plain C++, with vectors of avx512.
#include "backend/cpu/matmul_simd.h"
#include "backend/cpu/simd_avx512.h"

namespace fathom::cpu {
namespace {

struct Twin : Avx512 {
  static constexpr const char* kName = "amx-twin";
  static constexpr CpuLevel kLevel = CpuLevel::TileTwin;
  static constexpr int kStreamTokens = 4;
  static constexpr int kStreamMost = kTileTokens - 1;
  static constexpr int kStreamMostBytes = kStreamMost;
  using Tiles = TwinTiles<Twin>;
};

}  // namespace

constinit const MatmulTable kMatmulTwinAvx512 = MatmulKernels<Twin>::table();

}  // namespace fathom::cpu
