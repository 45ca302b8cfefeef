// Attention by shape: decoding at a depth against the measured read bandwidth (bytes of cache that
// a token reads), prompts against the measured FMA peak.
//
//   attention_bench --benchmark_filter=latent
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <ctime>
#include <string>
#include <vector>

#include "backend/cpu/attention.h"
#include "backend/cpu/limits.h"
#include "backend/cpu/weight_memory.h"

namespace fathom::cpu {
namespace {

ThreadPool& pool() {
  static ThreadPool shared;
  return shared;
}

/// Reads and multiply-adds a second of all threads, by the time that they had a CPU: beside other
/// programs the clock would measure those. Measured anew for each shape, for a neighbour's traffic
/// takes from the memory's rate as well.
struct Limits {
  double read_bytes_per_s = 0;
  double f32_flop_per_s = 0;
};

double cpu_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

Limits measure() {
  const CpuLevel level = selected_cpu_level();
  const CpuLevel vectors = attention_level(level);
  const LimitProbes& probe = vectors >= CpuLevel::Avx512 ? kProbesAvx512
                             : vectors == CpuLevel::Avx2 ? kProbesAvx2
                                                         : kProbesScalar;
  static const std::vector<std::byte> memory(std::size_t{128} << 20, std::byte{1});
  const double threads = pool().size();
  Limits limits;
  for (int run = 0; run < 4; ++run) {
    double start = cpu_seconds();
    pool().for_ranges(memory.size(), std::size_t{8} << 20, [&](std::size_t begin, std::size_t end) {
      probe.read(memory.data() + begin, end - begin, 8);
    });
    const double read = static_cast<double>(memory.size()) * threads / (cpu_seconds() - start);
    limits.read_bytes_per_s = std::max(limits.read_bytes_per_s, read);
    constexpr std::size_t kRounds = 200000;
    start = cpu_seconds();
    pool().run(4 * pool().size(), [&](std::size_t, unsigned) { probe.fma(kRounds); });
    const double flop = probe.fma_round_ops * kRounds * 4 * threads * threads;
    limits.f32_flop_per_s = std::max(limits.f32_flop_per_s, flop / (cpu_seconds() - start));
  }
  return limits;
}

AttentionShape grouped(std::size_t heads, std::size_t kv_heads, std::size_t dim,
                       DType dtype = DType::BF16) {
  return {{1, kv_heads, dim, dim, dtype}, heads, dim, 0.1F};
}

AttentionShape latent(std::size_t heads, DType dtype = DType::BF16) {
  return {{1, 1, 512 + 64, 0, dtype}, heads, 512, 0.1F};
}

/// As at --precision fast, where something multiplies BF16; else the same as without.
AttentionShape rounded(AttentionShape shape) {
  shape.rounded = true;
  return shape;
}

/// Caches of enough layers that no last cache holds them when their turn comes again, as in a
/// model.
constexpr std::size_t kCacheBytes = std::size_t{192} << 20;

void attend(benchmark::State& state, const AttentionShape& shape, std::size_t first,
            std::size_t tokens, std::size_t cache_bytes) {
  const std::size_t context = first + tokens;
  const std::size_t pages = (context + kPageTokens - 1) / kPageTokens;
  const std::size_t layer_bytes = pages * shape.kv.layer_bytes();
  const std::size_t layers = std::max<std::size_t>(1, cache_bytes / layer_bytes);
  // In huge pages, as a model's cache is (page_memory.h).
  const WeightBuffer cache(layers * layer_bytes);
  std::memset(cache.data(), 0x3C, cache.size());  // 0x3C3C is a small number in BF16 and F16
  std::vector<const std::byte*> pointers;
  for (std::size_t p = 0; p < layers * pages; ++p) {
    pointers.push_back(cache.data() + p * shape.kv.layer_bytes());
  }
  const std::vector<float> q(tokens * shape.heads * shape.kv.k_dim, 0.01F);
  std::vector<float> out(tokens * shape.heads * shape.v_dim);
  const Limits limits = measure();
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
    const double bytes =
        static_cast<double>(context * shape.kv.layer_bytes() / KvLayout::kPageTokens) * runs;
    state.counters["bytes"] = benchmark::Counter(bytes, rate);
    state.counters["of_read"] = benchmark::Counter(bytes / limits.read_bytes_per_s, rate);
  }
  // Pairs that are seen: the mask's other half is not counted as work.
  const double pairs = static_cast<double>(tokens) *
                       (static_cast<double>(first) + static_cast<double>(tokens + 1) / 2);
  const double flop = 2 * pairs * static_cast<double>(shape.heads * (shape.kv.k_dim + shape.v_dim));
  state.counters["flop"] = benchmark::Counter(flop * runs, rate);
  state.counters["of_fma"] = benchmark::Counter(flop * runs / limits.f32_flop_per_s, rate);
}

void register_all() {
  const std::pair<const char*, AttentionShape> shapes[] = {
      {"grouped_9_3_64", grouped(9, 3, 64)},
      {"grouped_12_2_128", grouped(12, 2, 128)},
      {"latent_16", latent(16)},
      {"latent_128", latent(128)},
      {"grouped_9_3_64_rounded", rounded(grouped(9, 3, 64))},
      {"grouped_12_2_128_rounded", rounded(grouped(12, 2, 128))},
      {"latent_16_rounded", rounded(latent(16))},
      {"latent_128_rounded", rounded(latent(128))},
      {"grouped_12_2_128_f16", grouped(12, 2, 128, DType::F16)},
      {"grouped_12_2_128_q8", grouped(12, 2, 128, DType::Q8_0)},
      {"latent_16_f16", latent(16, DType::F16)},
      {"latent_16_q8", latent(16, DType::Q8_0)}};
  for (const auto& [name, shape] : shapes) {
    const auto add = [&](std::size_t first, std::size_t tokens, std::size_t bytes,
                         const char* where) {
      const std::string full =
          std::string(name) + "/" + std::to_string(first) + "+" + std::to_string(tokens) + where;
      benchmark::RegisterBenchmark(full.c_str(), attend, shape, first, tokens, bytes)
          ->MeasureProcessCPUTime()
          ->Unit(benchmark::kMillisecond);
    };
    add(511, 1, 0, "/in_cache");
    for (std::size_t depth : {511UL, 4095UL, 16383UL}) add(depth, 1, kCacheBytes, "/in_memory");
    for (std::size_t first : {0UL, 1536UL}) add(first, 512, 0, "");
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
