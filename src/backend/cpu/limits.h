// What this machine can do at most, measured: the yardstick of every benchmark.
#pragma once

#include "base/cpu_features.h"
#include "base/thread_pool.h"

namespace fathom::cpu {

struct MachineLimits {
  CpuLevel level = CpuLevel::Scalar;
  unsigned threads = 1;
  double read_bytes_per_s = 0;  // memory to registers, all threads, the best number of streams
  unsigned read_streams = 1;    // that number, a thread
  double f32_flop_per_s = 0;    // fused multiply-adds out of registers, two operations each
  double int8_op_per_s = 0;     // 8-bit products summed into 32 bits, two operations each
  // The same of whole tiles out of tile registers, INT8 and BF16; 0 where the level has none.
  double tile_int8_op_per_s = 0;
  double tile_bf16_flop_per_s = 0;

  double best_int8_op_per_s() const {
    return int8_op_per_s > tile_int8_op_per_s ? int8_op_per_s : tile_int8_op_per_s;
  }
};

/// Takes about half a second and 256 MiB. Each figure is the best of several short runs: on a
/// shared machine the fastest run is the one that was disturbed least. Throws Error(Unsupported)
/// for a level this machine does not have.
MachineLimits measure_limits(ThreadPool& pool, CpuLevel level = best_cpu_level());

/// Loops that do nothing but load the unit they measure; one set an instruction set.
struct LimitProbes {
  /// Reads [data, data + bytes) as `streams` (1 to 8) equal parts side by side.
  void (*read)(const void* data, std::size_t bytes, unsigned streams);
  /// Runs `rounds` rounds; the operations of a round.
  void (*fma)(std::size_t rounds);
  void (*int8)(std::size_t rounds);
  double fma_round_ops, int8_round_ops;
  void (*tile_int8)(std::size_t rounds) = nullptr;
  void (*tile_bf16)(std::size_t rounds) = nullptr;
  double tile_int8_round_ops = 0, tile_bf16_round_ops = 0;
};
extern const LimitProbes kProbesScalar;
extern const LimitProbes kProbesAvx2;
extern const LimitProbes kProbesAvx2Vnni;
extern const LimitProbes kProbesAvx512;
extern const LimitProbes kProbesAmx;

}  // namespace fathom::cpu
