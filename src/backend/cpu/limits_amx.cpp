// limits.h for amx: the vectors of AVX-512, and tiles.
#include "backend/cpu/limits_simd.h"
#include "backend/cpu/simd_avx512.h"
#include "backend/cpu/tile_amx.h"

namespace fathom::cpu {
namespace {

// Four chains hide the latency of a tile's product, which is three times as long as its turn.
template <bool Brain, int C>
void one() {
  constexpr int a = 4 + C / 2;
  constexpr int b = 6 + C % 2;
  if constexpr (Brain) {
    AmxTiles::add_bf16<C, a, b>();
  } else {
    AmxTiles::add_int8<C, a, b>();
  }
}

template <bool Brain>
void rounds_of_four(std::size_t rounds) {
  AmxTiles::open(kTileRows, 64);
  for (std::size_t r = 0; r < rounds; ++r) {
    one<Brain, 0>();
    one<Brain, 1>();
    one<Brain, 2>();
    one<Brain, 3>();
  }
  AmxTiles::close();
}

constexpr LimitProbes table() {
  LimitProbes probes = Probes<Avx512>::table();
  probes.tile_int8 = &rounds_of_four<false>;
  probes.tile_bf16 = &rounds_of_four<true>;
  probes.tile_int8_round_ops = 4 * 2.0 * 16 * 16 * 64;
  probes.tile_bf16_round_ops = 4 * 2.0 * 16 * 16 * 32;
  return probes;
}

}  // namespace

constinit const LimitProbes kProbesAmx = table();

}  // namespace fathom::cpu
