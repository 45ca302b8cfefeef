// Attention by shape: decoding at a depth against the measured read bandwidth (bytes of cache that
// a token reads), prompts against the measured FMA peak.
//
//   attention_bench --benchmark_filter=latent
#include <benchmark/benchmark.h>

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
  AttentionShape shape;
  shape.heads = heads;
  shape.kv_heads = kv_heads;
  shape.k_dim = shape.v_dim = dim;
  shape.k_step = shape.v_step = dim;
  shape.v_offset = kv_heads * dim;
  shape.row_width = 2 * kv_heads * dim;
  shape.kv_dtype = DType::BF16;
  shape.scale = 0.1F;
  return shape;
}

AttentionShape latent(std::size_t heads) {
  AttentionShape shape;
  shape.heads = heads;
  shape.kv_heads = 1;
  shape.k_dim = shape.row_width = 512 + 64;
  shape.v_dim = 512;
  shape.kv_dtype = DType::BF16;
  shape.scale = 0.1F;
  return shape;
}

void attend(benchmark::State& state, const AttentionShape& shape, std::size_t first,
            std::size_t tokens) {
  const std::size_t context = first + tokens;
  const std::size_t page_bytes = kPageTokens * shape.row_width * 2;
  const std::size_t pages = (context + kPageTokens - 1) / kPageTokens;
  // 0x3C3C is a small BF16 number.
  const std::vector<std::byte> cache(pages * page_bytes, std::byte{0x3C});
  std::vector<const std::byte*> pointers;
  for (std::size_t p = 0; p < pages; ++p) pointers.push_back(cache.data() + p * page_bytes);
  const std::vector<float> q(tokens * shape.heads * shape.k_dim, 0.01F);
  std::vector<float> out(tokens * shape.heads * shape.v_dim);
  const AttentionSpan span[] = {{pointers, first, tokens, q.data(), out.data()}};
  for (auto _ : state) {
    attention(pool(), selected_cpu_level(), shape, span);
    benchmark::DoNotOptimize(out.data());
  }
  const auto rate = benchmark::Counter::kIsRate;
  const double runs = static_cast<double>(state.iterations());
  if (tokens == 1) {
    const double bytes = static_cast<double>(context * shape.row_width * 2) * runs;
    state.counters["of_read"] = benchmark::Counter(bytes / limits().read_bytes_per_s, rate);
  }
  // Pairs that are seen: the mask's other half is not counted as work.
  const double pairs = static_cast<double>(tokens) *
                       (static_cast<double>(first) + static_cast<double>(tokens + 1) / 2);
  const double flop = 2 * pairs * static_cast<double>(shape.heads * (shape.k_dim + shape.v_dim));
  state.counters["of_fma"] = benchmark::Counter(flop * runs / limits().f32_flop_per_s, rate);
}

void register_all() {
  const std::pair<const char*, AttentionShape> shapes[] = {
      {"grouped_9_3_64", grouped(9, 3, 64)},
      {"grouped_12_2_128", grouped(12, 2, 128)},
      {"latent_16", latent(16)},
      {"latent_128", latent(128)}};
  for (const auto& [name, shape] : shapes) {
    for (auto [first, tokens] : {std::pair{512UL, 1UL}, {4096UL, 1UL}, {0UL, 512UL}}) {
      const std::string full =
          std::string(name) + "/" + std::to_string(first) + "+" + std::to_string(tokens);
      benchmark::RegisterBenchmark(full.c_str(), attend, shape, first, tokens)
          ->UseRealTime()
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
