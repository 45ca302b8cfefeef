// Narrow and block-quantised elements to F32: one small function a format, blocks.h's formulas.
//
// Products and sums are rounded one by one, in the order of the `gguf` package's numpy code, which
// makes the results bit-exact (this folder compiles with -ffp-contract=off for that reason).
#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "tensor/blocks.h"
#include "tensor/decode_iq.h"
#include "tensor/half.h"
#include "tensor/quantise.h"

namespace fathom {
namespace {

template <typename T>
T load(const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

void decode(const BlockQ8_0& block, float* out) {
  const float d = f16_to_f32(block.d);
  for (std::size_t i = 0; i < kBlock; ++i) out[i] = static_cast<float>(block.q[i]) * d;
}

void decode(const BlockQ4_0& block, float* out) {
  const float d = f16_to_f32(block.d);
  for (std::size_t i = 0; i < kBlock / 2; ++i) {
    out[i] = d * static_cast<float>((block.q[i] & 15) - 8);
    out[i + 16] = d * static_cast<float>((block.q[i] >> 4) - 8);
  }
}

void decode(const BlockQ4_1& block, float* out) {
  const float d = f16_to_f32(block.d);
  const float m = f16_to_f32(block.m);
  for (std::size_t i = 0; i < kBlock / 2; ++i) {
    out[i] = d * static_cast<float>(block.q[i] & 15) + m;
    out[i + 16] = d * static_cast<float>(block.q[i] >> 4) + m;
  }
}

/// The five-bit code of element i, from nibbles and high bits as Q5_0 and Q5_1 store them.
int five_bits(const std::uint8_t (&q)[16], const std::uint8_t (&qh)[4], std::size_t i) {
  const int low = i < 16 ? q[i] & 15 : q[i - 16] >> 4;
  return low | (((qh[i / 8] >> (i % 8)) & 1) << 4);
}

void decode(const BlockQ5_0& block, float* out) {
  const float d = f16_to_f32(block.d);
  for (std::size_t i = 0; i < kBlock; ++i) {
    out[i] = d * static_cast<float>(five_bits(block.q, block.qh, i) - 16);
  }
}

void decode(const BlockQ5_1& block, float* out) {
  const float d = f16_to_f32(block.d);
  const float m = f16_to_f32(block.m);
  for (std::size_t i = 0; i < kBlock; ++i) {
    out[i] = d * static_cast<float>(five_bits(block.q, block.qh, i)) + m;
  }
}

void decode(const BlockQ2_K& block, float* out) {
  const float d = f16_to_f32(block.d);
  const float dmin = f16_to_f32(block.dmin);
  for (std::size_t s = 0; s < 16; ++s) {
    const float scale = d * static_cast<float>(block.scales[s] & 15);
    const float min = dmin * static_cast<float>(block.scales[s] >> 4);
    // Sub-blocks run through 32 bytes at one pair of bits, then the next pair, then 32 more bytes.
    const std::uint8_t* q = block.q + 32 * (s / 8) + 16 * (s % 2);
    const unsigned shift = 2 * ((s / 2) % 4);
    for (std::size_t l = 0; l < 16; ++l) {
      *out++ = scale * static_cast<float>((q[l] >> shift) & 3) - min;
    }
  }
}

void decode(const BlockQ3_K& block, float* out) {
  const float d = f16_to_f32(block.d);
  const auto scales = unpack_scales_q3_k(block.scales);
  for (std::size_t s = 0; s < 16; ++s) {
    const float scale = d * static_cast<float>(scales[s]);
    const std::uint8_t* q = block.q + 32 * (s / 8) + 16 * (s % 2);
    const std::uint8_t* high = block.hmask + 16 * (s % 2);
    const unsigned shift = 2 * ((s / 2) % 4);
    const auto high_shift = static_cast<unsigned>(s / 2);
    for (std::size_t l = 0; l < 16; ++l) {
      const int third_bit = (high[l] >> high_shift) & 1;
      *out++ = scale * static_cast<float>(((q[l] >> shift) & 3) - 4 * (1 - third_bit));
    }
  }
}

void decode(const BlockQ4_K& block, float* out) {
  const float d = f16_to_f32(block.d);
  const float dmin = f16_to_f32(block.dmin);
  const ScalesQ4K scales = unpack_scales_q4_k(block.scales);
  for (std::size_t s = 0; s < 8; ++s) {
    const float scale = d * static_cast<float>(scales.scale[s]);
    const float min = dmin * static_cast<float>(scales.min[s]);
    const std::uint8_t* q = block.q + 32 * (s / 2);
    const unsigned shift = 4 * (s % 2);
    for (std::size_t l = 0; l < 32; ++l) {
      *out++ = scale * static_cast<float>((q[l] >> shift) & 15) - min;
    }
  }
}

void decode(const BlockQ5_K& block, float* out) {
  const float d = f16_to_f32(block.d);
  const float dmin = f16_to_f32(block.dmin);
  const ScalesQ4K scales = unpack_scales_q4_k(block.scales);
  for (std::size_t s = 0; s < 8; ++s) {
    const float scale = d * static_cast<float>(scales.scale[s]);
    const float min = dmin * static_cast<float>(scales.min[s]);
    const std::uint8_t* q = block.q + 32 * (s / 2);
    const unsigned shift = 4 * (s % 2);
    for (std::size_t l = 0; l < 32; ++l) {
      const int code = ((q[l] >> shift) & 15) | (((block.qh[l] >> s) & 1) << 4);
      *out++ = scale * static_cast<float>(code) - min;
    }
  }
}

void decode(const BlockQ6_K& block, float* out) {
  const float d = f16_to_f32(block.d);
  for (std::size_t s = 0; s < 16; ++s) {
    const float scale = d * static_cast<float>(block.scales[s]);
    const std::size_t half = s / 8;
    const std::uint8_t* low = block.ql + 64 * half + 16 * (s % 4);
    const std::uint8_t* high = block.qh + 32 * half + 16 * (s % 2);
    const unsigned low_shift = 4 * ((s / 4) % 2);
    const unsigned high_shift = 2 * ((s / 2) % 4);
    for (std::size_t l = 0; l < 16; ++l) {
      const int code = ((low[l] >> low_shift) & 15) | (((high[l] >> high_shift) & 3) << 4);
      *out++ = scale * static_cast<float>(code - 32);
    }
  }
}

// The IQ types are in dequantise_iq.cpp.
using decode_iq::decode;

template <typename Block>
void decode_all(std::span<const std::byte> bytes, std::span<float> out) {
  const auto* blocks = reinterpret_cast<const Block*>(bytes.data());
  const std::size_t elements = info(Block::kType).block_elements;
  for (std::size_t b = 0; b < out.size() / elements; ++b) {
    decode(blocks[b], out.data() + b * elements);
  }
}

}  // namespace

void dequantise(DType dtype, std::span<const std::byte> bytes, std::span<float> out) {
  require(bytes.size() == row_bytes(dtype, out.size()), ErrorCode::InvalidArgument,
          "{} elements of {} take {} bytes, but {} were given", out.size(), to_string(dtype),
          row_bytes(dtype, out.size()), bytes.size());
  if (out.empty()) return;  // memcpy must not see the null pointers of empty spans
  switch (dtype) {
    case DType::F32:
      std::memcpy(out.data(), bytes.data(), bytes.size());
      return;
    case DType::F16:
      for (std::size_t i = 0; i < out.size(); ++i) {
        out[i] = f16_to_f32(load<std::uint16_t>(bytes.data() + 2 * i));
      }
      return;
    case DType::BF16:
      for (std::size_t i = 0; i < out.size(); ++i) {
        out[i] = bf16_to_f32(load<std::uint16_t>(bytes.data() + 2 * i));
      }
      return;
    case DType::F8_E4M3:
      for (std::size_t i = 0; i < out.size(); ++i) {
        out[i] = e4m3_to_f32(std::to_integer<std::uint8_t>(bytes[i]));
      }
      return;
    case DType::F64:
      for (std::size_t i = 0; i < out.size(); ++i) {
        out[i] = static_cast<float>(load<double>(bytes.data() + 8 * i));
      }
      return;
    case DType::Q8_0:
      return decode_all<BlockQ8_0>(bytes, out);
    case DType::Q4_0:
      return decode_all<BlockQ4_0>(bytes, out);
    case DType::Q4_1:
      return decode_all<BlockQ4_1>(bytes, out);
    case DType::Q5_0:
      return decode_all<BlockQ5_0>(bytes, out);
    case DType::Q5_1:
      return decode_all<BlockQ5_1>(bytes, out);
    case DType::Q2_K:
      return decode_all<BlockQ2_K>(bytes, out);
    case DType::Q3_K:
      return decode_all<BlockQ3_K>(bytes, out);
    case DType::Q4_K:
      return decode_all<BlockQ4_K>(bytes, out);
    case DType::Q5_K:
      return decode_all<BlockQ5_K>(bytes, out);
    case DType::Q6_K:
      return decode_all<BlockQ6_K>(bytes, out);
    case DType::IQ1_S:
      return decode_all<BlockIQ1_S>(bytes, out);
    case DType::IQ1_M:
      return decode_all<BlockIQ1_M>(bytes, out);
    case DType::IQ2_XXS:
      return decode_all<BlockIQ2_XXS>(bytes, out);
    case DType::IQ2_XS:
      return decode_all<BlockIQ2_XS>(bytes, out);
    case DType::IQ2_S:
      return decode_all<BlockIQ2_S>(bytes, out);
    case DType::IQ3_XXS:
      return decode_all<BlockIQ3_XXS>(bytes, out);
    case DType::IQ3_S:
      return decode_all<BlockIQ3_S>(bytes, out);
    case DType::IQ4_NL:
      return decode_all<BlockIQ4_NL>(bytes, out);
    case DType::IQ4_XS:
      return decode_all<BlockIQ4_XS>(bytes, out);
    case DType::I8:
    case DType::I16:
    case DType::I32:
    case DType::I64:
    case DType::U8:
    case DType::Bool:
      break;
  }
  fail(ErrorCode::Unsupported, "{} elements are not weights and have no conversion to F32",
       to_string(dtype));
}

std::vector<float> to_f32(const TensorView& tensor) {
  require(tensor.data.size() == tensor_bytes(tensor.dtype, tensor.shape),
          ErrorCode::InvalidArgument, "a {} tensor of shape {} takes {} bytes, but its view has {}",
          to_string(tensor.dtype), tensor.shape.to_string(),
          tensor_bytes(tensor.dtype, tensor.shape), tensor.data.size());
  std::vector<float> out(checked_cast<std::size_t>(tensor.shape.elements(), "element count"));
  // Rows are whole blocks, so that a tensor converts as one long row.
  dequantise(tensor.dtype, tensor.data, out);
  return out;
}

void dequantise_fp8_blocks(const TensorView& weight, const TensorView& scale_inv,
                           std::uint64_t begin, std::uint64_t end, std::span<float> out) {
  require(weight.dtype == DType::F8_E4M3, ErrorCode::Unsupported,
          "a weight with block scales must be F8_E4M3, but is {}", to_string(weight.dtype));
  require(scale_inv.dtype == DType::F32 || scale_inv.dtype == DType::BF16 ||
              scale_inv.dtype == DType::F16,
          ErrorCode::Unsupported, "block scales of FP8 weights must be F32, F16 or BF16, not {}",
          to_string(scale_inv.dtype));
  require(weight.shape.rank() == 2, ErrorCode::Corrupt,
          "an FP8 weight with block scales must have two dimensions, but has shape {}",
          weight.shape.to_string());
  const std::uint64_t rows = weight.shape[0];
  const std::uint64_t columns = weight.shape[1];
  const auto blocks = [](std::uint64_t n) { return n / kFp8Block + (n % kFp8Block != 0 ? 1 : 0); };
  const Shape expected{blocks(rows), blocks(columns)};
  require(scale_inv.shape == expected, ErrorCode::Corrupt,
          "an FP8 weight of shape {} needs block scales of shape {} (one for each {} x {}), but "
          "they have shape {}",
          weight.shape.to_string(), expected.to_string(), kFp8Block, kFp8Block,
          scale_inv.shape.to_string());
  require(begin <= end && end <= rows && out.size() == (end - begin) * columns,
          ErrorCode::InvalidArgument, "rows {} to {} of an FP8 weight of shape {} into {} floats",
          begin, end, weight.shape.to_string(), out.size());
  require(weight.data.size() == tensor_bytes(weight.dtype, weight.shape) &&
              scale_inv.data.size() == tensor_bytes(scale_inv.dtype, scale_inv.shape),
          ErrorCode::InvalidArgument, "views of an FP8 weight hold {} and {} bytes",
          weight.data.size(), scale_inv.data.size());

  std::vector<float> scales(expected[1]);  // of the block row that r is in
  float* to = out.data();
  for (std::uint64_t r = begin; r < end; ++r) {
    if (r == begin || r % kFp8Block == 0) {
      dequantise(scale_inv.dtype, scale_inv.row(r / kFp8Block), scales);
    }
    const std::byte* from = weight.row(r).data();
    for (std::uint64_t block = 0; block < scales.size(); ++block) {
      const std::uint64_t first = block * kFp8Block;
      const std::uint64_t last = std::min(first + kFp8Block, columns);
      for (std::uint64_t c = first; c < last; ++c) {
        to[c] = e4m3_to_f32(std::to_integer<std::uint8_t>(from[c])) * scales[block];
      }
    }
    to += columns;
  }
}

}  // namespace fathom
