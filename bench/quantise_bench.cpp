// Elements per second of the reference conversions, one thread: what `fathom quantize` and loading
// without kernels cost.
#include <benchmark/benchmark.h>

#include <random>
#include <string>
#include <vector>

#include "tensor/quantise.h"

namespace fathom {
namespace {

constexpr std::size_t kElements = 64 * 1024;

std::vector<float> gauss(std::size_t n) {
  std::mt19937 random(1);
  std::normal_distribution<float> distribution(0, 0.02F);
  std::vector<float> values(n);
  for (float& v : values) v = distribution(random);
  return values;
}

void report(benchmark::State& state, DType dtype) {
  state.SetLabel(std::string(to_string(dtype)));
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations()) * kElements);
}

void Quantise(benchmark::State& state) {
  const auto dtype = static_cast<DType>(state.range(0));
  const auto values = gauss(kElements);
  std::vector<std::byte> bytes(row_bytes(dtype, kElements));
  for (auto _ : state) {
    quantise(dtype, values, bytes);
    benchmark::DoNotOptimize(bytes.data());
  }
  report(state, dtype);
}

void Dequantise(benchmark::State& state) {
  const auto dtype = static_cast<DType>(state.range(0));
  std::vector<float> values = gauss(kElements);
  std::vector<std::byte> bytes(row_bytes(dtype, kElements));
  quantise(dtype, values, bytes);
  for (auto _ : state) {
    dequantise(dtype, bytes, values);
    benchmark::DoNotOptimize(values.data());
  }
  report(state, dtype);
}

constexpr auto kFirst = static_cast<int>(DType::F16);
constexpr auto kLast = static_cast<int>(DType::Q6_K);
BENCHMARK(Quantise)->DenseRange(kFirst, kLast);
BENCHMARK(Dequantise)->DenseRange(kFirst, kLast);

}  // namespace
}  // namespace fathom

BENCHMARK_MAIN();
