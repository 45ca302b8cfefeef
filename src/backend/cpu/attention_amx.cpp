// attention_table.h for amx.
#include "backend/cpu/attention_simd.h"
#include "backend/cpu/simd_avx512.h"
#include "backend/cpu/tile_amx.h"

namespace fathom::cpu {
namespace {

struct Amx : Avx512 {
  static constexpr const char* kName = "amx";
  static constexpr CpuLevel kLevel = CpuLevel::Amx;
  using Tiles = AmxTiles;
};

}  // namespace

constinit const AttentionTable kAttentionAmx = AttentionKernels<Amx>::table();

}  // namespace fathom::cpu
