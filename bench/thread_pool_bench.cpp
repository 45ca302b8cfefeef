// What a parallel loop costs beyond its work, by the number of threads: a token is hundreds of
// loops, so that a microsecond of each is a tenth of a millisecond of the token.
#include <benchmark/benchmark.h>

#include <chrono>
#include <cstdint>
#include <thread>

#include "base/thread_pool.h"

namespace fathom {
namespace {

/// Loops of nothing, one after the other: workers are awake, or would be if they had a CPU.
void EmptyLoop(benchmark::State& state) {
  ThreadPool pool(static_cast<unsigned>(state.range(0)));
  const auto chunks = static_cast<std::size_t>(state.range(1));
  for (auto _ : state) {
    pool.run(chunks, [](std::size_t chunk, unsigned) { benchmark::DoNotOptimize(chunk); });
  }
}

/// Loops of 100 microseconds of work in all, cut into chunks as products are: more than that much
/// of one CPU's time, divided by the CPUs, is the pool's doing.
void WorkingLoop(benchmark::State& state) {
  ThreadPool pool(static_cast<unsigned>(state.range(0)));
  constexpr std::size_t kChunks = 40;
  constexpr std::uint64_t kSteps = 1000;
  for (auto _ : state) {
    pool.run(kChunks, [](std::size_t chunk, unsigned) {
      std::uint64_t x = chunk;
      for (std::uint64_t i = 0; i < kSteps; ++i) {
        x = x * 6364136223846793005U + i;
        benchmark::DoNotOptimize(x);
      }
    });
  }
}

/// The first loop after workers went to sleep.
void LoopAfterSleep(benchmark::State& state) {
  ThreadPool pool(static_cast<unsigned>(state.range(0)));
  for (auto _ : state) {
    state.PauseTiming();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    state.ResumeTiming();
    pool.run(64, [](std::size_t chunk, unsigned) { benchmark::DoNotOptimize(chunk); });
  }
}

BENCHMARK(EmptyLoop)
    ->ArgNames({"threads", "chunks"})
    ->ArgsProduct({{1, 2, 8, 32, 128}, {2, 64}})
    ->UseRealTime();
BENCHMARK(WorkingLoop)
    ->ArgName("threads")
    ->Arg(1)
    ->Arg(2)
    ->Arg(8)
    ->Arg(32)
    ->Arg(128)
    ->UseRealTime();
BENCHMARK(LoopAfterSleep)->ArgName("threads")->Arg(2)->Arg(8)->Arg(32)->Arg(128)->UseRealTime();

}  // namespace
}  // namespace fathom

BENCHMARK_MAIN();
