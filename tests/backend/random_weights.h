// Random tensors of every type, and memory that faults when a kernel leaves it.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstddef>
#include <cstring>
#include <random>
#include <span>
#include <stdexcept>
#include <vector>

#include "tensor/blocks.h"
#include "tensor/half.h"
#include "tensor/quantise.h"
#include "tensor/tensor_view.h"

namespace fathom::testing {

/// Bytes that end where an inaccessible page begins: reading or writing past them is a fault.
class GuardedBytes {
 public:
  explicit GuardedBytes(std::size_t size) : size_(size) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    mapped_ = (size + page - 1) / page * page + page;
    base_ = static_cast<std::byte*>(
        mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (base_ == MAP_FAILED) throw std::runtime_error("mmap");
    mprotect(base_ + mapped_ - page, page, PROT_NONE);
    data_ = base_ + mapped_ - page - size;
  }
  ~GuardedBytes() { munmap(base_, mapped_); }
  GuardedBytes(const GuardedBytes&) = delete;
  GuardedBytes& operator=(const GuardedBytes&) = delete;
  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  /// As floats; the size must be a multiple of four.
  float* floats() const { return reinterpret_cast<float*>(data_); }

 private:
  std::byte* base_;
  std::byte* data_;
  std::size_t mapped_ = 0;
  std::size_t size_;
};

inline std::vector<float> random_floats(std::size_t count, unsigned seed, float scale = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> out(count);
  for (float& x : out) x = normal(random);
  return out;
}

/// Sets every F16 scale and minimum of quantised blocks to what next() gives.
template <typename Next>
void set_scales(DType dtype, std::span<std::byte> bytes, Next next) {
  const std::size_t block = info(dtype).block_bytes;
  const bool two = dtype == DType::Q4_1 || dtype == DType::Q5_1 || dtype == DType::Q2_K ||
                   dtype == DType::Q4_K || dtype == DType::Q5_K;
  const std::size_t offset = dtype == DType::Q2_K   ? offsetof(BlockQ2_K, d)
                             : dtype == DType::Q3_K ? offsetof(BlockQ3_K, d)
                             : dtype == DType::Q6_K ? offsetof(BlockQ6_K, d)
                                                    : 0;
  for (std::size_t at = 0; at < bytes.size(); at += block) {
    std::byte* to = bytes.data() + at + offset;
    std::uint16_t halves[] = {next(), 0};
    if (two) halves[1] = next();
    if (dtype == DType::IQ1_M) {  // a nibble on top of each of four words
      for (unsigned k = 0; k < 4; ++k) {
        std::byte& byte = to[offsetof(BlockIQ1_M, scales) + 2 * k + 1];
        byte = (byte & std::byte{15}) | static_cast<std::byte>((halves[0] >> (4 * k) & 15) << 4);
      }
    } else {
      std::memcpy(to, halves, two ? 4 : 2);
    }
  }
}

/// Fills `bytes` with blocks of any codes and scales of either sign, all finite.
inline void fill_random(DType dtype, std::byte* bytes, std::size_t elements, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 1);
  const std::size_t size = row_bytes(dtype, elements);
  switch (dtype) {
    case DType::F32:
      for (std::size_t i = 0; i < elements; ++i) {
        const float x = normal(random);
        std::memcpy(bytes + 4 * i, &x, 4);
      }
      return;
    case DType::F16:
    case DType::BF16:
      for (std::size_t i = 0; i < elements; ++i) {
        const float x = normal(random);
        const std::uint16_t half = dtype == DType::F16 ? f32_to_f16(x) : f32_to_bf16(x);
        std::memcpy(bytes + 2 * i, &half, 2);
      }
      return;
    case DType::F8_E4M3:
      for (std::size_t i = 0; i < elements; ++i) {
        bytes[i] = static_cast<std::byte>(f32_to_e4m3(normal(random)));
      }
      return;
    default:
      break;
  }
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(random());
  set_scales(dtype, {bytes, size}, [&] { return f32_to_f16(0.02F * normal(random)); });
}

/// A random matrix whose bytes end at a guard page.
struct RandomMatrix {
  RandomMatrix(DType dtype, std::size_t rows, std::size_t columns, unsigned seed)
      : bytes(rows * row_bytes(dtype, columns)) {
    fill_random(dtype, bytes.data(), rows * columns, seed);
    view = {dtype, Shape{rows, columns}, {bytes.data(), bytes.size()}};
  }
  GuardedBytes bytes;
  TensorView view;
};

}  // namespace fathom::testing
