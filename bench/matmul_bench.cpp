// Products by weight type, as shares of what the machine can do: one token against the measured
// read bandwidth, many tokens against the measured 8-bit peak.
//
//   matmul_bench --benchmark_filter=Q4_K
#include <benchmark/benchmark.h>

#include <random>
#include <vector>

#include "backend/cpu/limits.h"
#include "backend/cpu/matmul.h"
#include "tensor/half.h"

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

/// Any bytes will do, but scales must be finite: NaN and subnormals have speeds of their own.
std::vector<std::byte> some_weights(DType dtype, std::size_t rows, std::size_t columns) {
  std::vector<std::byte> bytes(rows * row_bytes(dtype, columns));
  std::mt19937 random(1);
  std::uint32_t word = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    word = i % 4 == 0 ? static_cast<std::uint32_t>(random()) : word >> 8;
    // Halves and floats keep their exponents' top bit clear.
    bytes[i] = static_cast<std::byte>(word & 0x3FU);
  }
  return bytes;
}

void product(benchmark::State& state, DType dtype, Precision precision, std::size_t tokens) {
  const std::size_t columns = 4096;
  // 96 MiB or so of weights for one token: more than the last cache holds.
  const std::size_t rows =
      tokens == 1 ? (std::size_t{96} << 20) / row_bytes(dtype, columns) / 16 * 16 : 4096;
  const std::vector<std::byte> bytes = some_weights(dtype, rows, columns);
  const TensorView view{dtype, Shape{rows, columns}, bytes};
  const PackedMatrix weight = PackedMatrix::pack(view, precision, selected_cpu_level(), pool());
  std::vector<float> x(tokens * columns, 0.5F);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 17) - 8;
  std::vector<float> y(tokens * rows);
  const Product products[] = {{&weight, y.data(), rows}};
  for (auto _ : state) {
    matmul(pool(), x.data(), columns, tokens, products);
    benchmark::DoNotOptimize(y.data());
  }
  const double runs = static_cast<double>(state.iterations());
  const double ops = 2.0 * static_cast<double>(rows * columns * tokens) * runs;
  const auto rate = benchmark::Counter::kIsRate;
  const auto read = static_cast<double>(bytes.size()) * runs;
  const bool int8 = precision == Precision::Int8 && info(dtype).quantised;
  const double peak = int8 ? limits().best_int8_op_per_s() : limits().f32_flop_per_s;
  if (tokens == 1) {
    state.counters["GB/s"] = benchmark::Counter(read * 1e-9, rate);
    state.counters["of_read"] = benchmark::Counter(read / limits().read_bytes_per_s, rate);
  } else {
    state.counters["Gop/s"] = benchmark::Counter(ops * 1e-9, rate);
    state.counters["of_peak"] = benchmark::Counter(ops / peak, rate);
  }
  state.SetLabel(weight.kernel_name());
}

void packing(benchmark::State& state, DType dtype) {
  const std::vector<std::byte> bytes = some_weights(dtype, 4096, 4096);
  const TensorView view{dtype, Shape{4096, 4096}, bytes};
  for (auto _ : state) {
    benchmark::DoNotOptimize(
        PackedMatrix::pack(view, Precision::Int8, selected_cpu_level(), pool()));
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(bytes.size()) * state.iterations());
}

void register_all() {
  const DType dtypes[] = {DType::Q8_0,    DType::Q4_0,  DType::Q4_1,    DType::Q5_0,   DType::Q5_1,
                          DType::Q2_K,    DType::Q3_K,  DType::Q4_K,    DType::Q5_K,   DType::Q6_K,
                          DType::IQ1_S,   DType::IQ1_M, DType::IQ2_XXS, DType::IQ2_XS, DType::IQ2_S,
                          DType::IQ3_XXS, DType::IQ3_S, DType::IQ4_NL,  DType::IQ4_XS, DType::F32,
                          DType::F16,     DType::BF16,  DType::F8_E4M3};
  for (DType dtype : dtypes) {
    const std::string name(to_string(dtype));
    for (Precision precision : {Precision::Int8, Precision::F32}) {
      if (!info(dtype).quantised && precision == Precision::Int8) continue;
      const std::string suffix = precision == Precision::Int8 ? "/int8/" : "/f32/";
      for (std::size_t tokens : {1UL, 8UL, 512UL}) {
        benchmark::RegisterBenchmark((name + suffix + std::to_string(tokens)).c_str(), product,
                                     dtype, precision, tokens)
            ->UseRealTime()
            ->Unit(benchmark::kMillisecond);
      }
    }
    if (info(dtype).quantised) {
      benchmark::RegisterBenchmark((name + "/pack").c_str(), packing, dtype)
          ->UseRealTime()
          ->Unit(benchmark::kMillisecond);
    }
  }
}

}  // namespace
}  // namespace fathom::cpu

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  const auto& l = fathom::cpu::limits();
  benchmark::AddCustomContext("threads", std::to_string(l.threads));
  benchmark::AddCustomContext("kernels", fathom::to_string(l.level));
  benchmark::AddCustomContext("read_GB_per_s", std::to_string(l.read_bytes_per_s * 1e-9));
  benchmark::AddCustomContext("read_streams", std::to_string(l.read_streams));
  benchmark::AddCustomContext("f32_Gflop_per_s", std::to_string(l.f32_flop_per_s * 1e-9));
  benchmark::AddCustomContext("int8_Gop_per_s", std::to_string(l.int8_op_per_s * 1e-9));
  benchmark::AddCustomContext("tile_int8_Gop_per_s", std::to_string(l.tile_int8_op_per_s * 1e-9));
  benchmark::AddCustomContext("tile_bf16_Gflop_per_s",
                              std::to_string(l.tile_bf16_flop_per_s * 1e-9));
  fathom::cpu::register_all();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
