#include "backend/cpu/limits.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "backend/cpu/pack.h"
#include "base/error.h"

namespace fathom::cpu {
namespace {

constexpr std::size_t kBytes = std::size_t{256} << 20;  // several times any last cache's share
constexpr std::size_t kPart = std::size_t{8} << 20;     // what one thread reads at a time

/// Seconds of the fastest of `runs` runs.
template <typename Body>
double fastest(int runs, Body&& body) {
  double best = 1e9;
  for (int run = 0; run < runs; ++run) {
    const auto start = std::chrono::steady_clock::now();
    body();
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    best = std::min(best, taken.count());
  }
  return best;
}

const LimitProbes& probes(CpuLevel level) {
  switch (level) {
    case CpuLevel::Scalar:
      return kProbesScalar;
    case CpuLevel::Avx2:
      return kProbesAvx2;
    case CpuLevel::Avx2Vnni:
      return kProbesAvx2Vnni;
    case CpuLevel::Avx512:
    case CpuLevel::Avx512Bf16:
      return kProbesAvx512;
    case CpuLevel::Amx:
      return kProbesAmx;
    case CpuLevel::TileTwin:
      break;
  }
  return kProbesScalar;
}

}  // namespace

MachineLimits measure_limits(ThreadPool& pool, CpuLevel level) {
  require(cpu_runs(level), ErrorCode::Unsupported,
          "limits of {} kernels were asked for, but this CPU runs {} at best", to_string(level),
          to_string(best_cpu_level()));
  const LimitProbes& probe = probes(level);
  MachineLimits limits;
  limits.level = level;
  limits.threads = pool.size();

  const WeightBuffer buffer(kBytes);
  pool.for_ranges(kBytes, kPart, [&](std::size_t begin, std::size_t end) {
    std::memset(buffer.data() + begin, 1, end - begin);
  });
  for (unsigned streams : {1U, 2U, 4U, 8U}) {
    const double seconds = fastest(4, [&] {
      pool.for_ranges(kBytes, kPart, [&](std::size_t begin, std::size_t end) {
        probe.read(buffer.data() + begin, end - begin, streams);
      });
    });
    const double rate = static_cast<double>(kBytes) / seconds;
    if (rate > limits.read_bytes_per_s) {
      limits.read_bytes_per_s = rate;
      limits.read_streams = streams;
    }
  }

  // Several chunks a thread: one that is descheduled leaves its share to the others.
  const std::size_t chunks = 16 * std::size_t{pool.size()};
  constexpr std::size_t kRounds = 20000;
  const auto rate = [&](void (*loop)(std::size_t), double round_ops) {
    const double seconds =
        fastest(6, [&] { pool.run(chunks, [&](std::size_t, unsigned) { loop(kRounds); }); });
    return round_ops * static_cast<double>(kRounds * chunks) / seconds;
  };
  limits.f32_flop_per_s = rate(probe.fma, probe.fma_round_ops);
  limits.int8_op_per_s = rate(probe.int8, probe.int8_round_ops);
  if (probe.tile_int8 != nullptr) {
    limits.tile_int8_op_per_s = rate(probe.tile_int8, probe.tile_int8_round_ops);
    limits.tile_bf16_flop_per_s = rate(probe.tile_bf16, probe.tile_bf16_round_ops);
  }
  return limits;
}

}  // namespace fathom::cpu
