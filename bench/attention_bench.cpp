// Attention by shape: decoding at a depth against the measured read bandwidth (bytes of cache that
// a token reads), prompts against the measured FMA peak.
//
//   attention_bench --benchmark_filter=latent
#include <benchmark/benchmark.h>

#include <cstdint>
#include <string>
#include <vector>

#include "backend/cpu/attention.h"
#include "backend/cpu/limits.h"

namespace fathom::cpu {
namespace {

ThreadPool& pool() {
  static ThreadPool shared;
  return shared;
}

const MachineLimits& limits() {
  static const MachineLimits measured = measure_limits(pool(), selected_cpu_level());
  return measured;
}

AttentionShape grouped(std::size_t heads, std::size_t kv_heads, std::size_t dim) {
  return {{1, kv_heads, dim, dim, DType::BF16}, heads, dim, 0.1F};
}

AttentionShape latent(std::size_t heads) {
  return {{1, 1, 512 + 64, 0, DType::BF16}, heads, 512, 0.1F};
}

/// Caches of enough layers that no last cache holds them when their turn comes again, as in a
/// model.
constexpr std::size_t kCacheBytes = std::size_t{192} << 20;

void attend(benchmark::State& state, const AttentionShape& shape, std::size_t first,
            std::size_t tokens) {
  const std::size_t context = first + tokens;
  const std::size_t pages = (context + kPageTokens - 1) / kPageTokens;
  const std::size_t layer_bytes = pages * shape.kv.layer_bytes();
  const std::size_t layers = tokens == 1 ? kCacheBytes / layer_bytes : 1;
  // 0x3C3C is a small BF16 number.
  const std::vector<std::byte> cache(layers * layer_bytes + 64, std::byte{0x3C});
  const auto address = reinterpret_cast<std::uintptr_t>(cache.data());
  const std::byte* aligned = cache.data() + (64 - address % 64) % 64;
  std::vector<const std::byte*> pointers;
  for (std::size_t p = 0; p < layers * pages; ++p) {
    pointers.push_back(aligned + p * shape.kv.layer_bytes());
  }
  const std::vector<float> q(tokens * shape.heads * shape.kv.k_dim, 0.01F);
  std::vector<float> out(tokens * shape.heads * shape.v_dim);
  std::size_t layer = 0;
  for (auto _ : state) {
    const std::span<const std::byte* const> all = pointers;
    const AttentionSpan span[] = {
        {all.subspan(layer * pages, pages), first, tokens, q.data(), out.data()}};
    attention(pool(), selected_cpu_level(), shape, span);
    benchmark::DoNotOptimize(out.data());
    layer = (layer + 1) % layers;
  }
  // Rates are by the time of all threads on a CPU, so that what else runs there shows less.
  const auto rate = benchmark::Counter::kIsRate;
  const double runs = static_cast<double>(state.iterations() * pool().size());
  if (tokens == 1) {
    const double bytes = static_cast<double>(context * shape.kv.width() * 2) * runs;
    state.counters["of_read"] = benchmark::Counter(bytes / limits().read_bytes_per_s, rate);
  }
  // Pairs that are seen: the mask's other half is not counted as work.
  const double pairs = static_cast<double>(tokens) *
                       (static_cast<double>(first) + static_cast<double>(tokens + 1) / 2);
  const double flop = 2 * pairs * static_cast<double>(shape.heads * (shape.kv.k_dim + shape.v_dim));
  state.counters["of_fma"] = benchmark::Counter(flop * runs / limits().f32_flop_per_s, rate);
}

void register_all() {
  const std::pair<const char*, AttentionShape> shapes[] = {
      {"grouped_9_3_64", grouped(9, 3, 64)},
      {"grouped_12_2_128", grouped(12, 2, 128)},
      {"latent_16", latent(16)},
      {"latent_128", latent(128)}};
  for (const auto& [name, shape] : shapes) {
    for (auto [first, tokens] :
         {std::pair{512UL, 1UL}, {4096UL, 1UL}, {0UL, 512UL}, {1536UL, 512UL}}) {
      const std::string full =
          std::string(name) + "/" + std::to_string(first) + "+" + std::to_string(tokens);
      benchmark::RegisterBenchmark(full.c_str(), attend, shape, first, tokens)
          ->MeasureProcessCPUTime()
          ->Unit(benchmark::kMillisecond);
    }
  }
}

}  // namespace
}  // namespace fathom::cpu

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  fathom::cpu::register_all();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
