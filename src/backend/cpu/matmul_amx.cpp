// matmul_table.h for amx: AVX-512, and tiles for several tokens.
#include "backend/cpu/matmul_simd.h"
#include "backend/cpu/simd_avx512.h"
#include "backend/cpu/tile_amx.h"

namespace fathom::cpu {
namespace {

struct Amx : Avx512 {
  static constexpr const char* kName = "amx";
  static constexpr CpuLevel kLevel = CpuLevel::Amx;
  static constexpr int kStreamTokens = 4;
  static constexpr int kStreamMost = kTileTokens - 1;
  static constexpr int kStreamMostBytes = kStreamMost;
  using Tiles = AmxTiles;
};

}  // namespace

constinit const MatmulTable kMatmulAmx = MatmulKernels<Amx>::table();

}  // namespace fathom::cpu
