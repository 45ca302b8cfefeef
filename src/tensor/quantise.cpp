// F32 to every writable element type: checks, scalar types, and the dispatch to the block encoders
// of quantise_small.cpp, quantise_k.cpp, quantise_iq.cpp and quantise_iq4.cpp.
#include "tensor/quantise.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "tensor/encode.h"

namespace fathom {
namespace {

void require_finite(std::span<const float> in, DType dtype) {
  bool finite = true;
  for (const float v : in) finite &= (std::bit_cast<std::uint32_t>(v) & 0x7F800000U) != 0x7F800000U;
  if (finite) return;
  const auto bad = std::find_if(in.begin(), in.end(), [](float v) { return !std::isfinite(v); });
  fail(ErrorCode::InvalidArgument,
       "element {} is {}, which {} cannot hold; the weights are probably damaged", bad - in.begin(),
       *bad, to_string(dtype));
}

template <typename Block>
void encode_all(std::span<const float> in, std::span<std::byte> out,
                std::span<const float> importance) {
  require_finite(in, Block::kType);
  const std::size_t elements = info(Block::kType).block_elements;
  require(importance.size() % elements == 0, ErrorCode::InvalidArgument,
          "{} importance weights are not a whole number of {} blocks of {}", importance.size(),
          to_string(Block::kType), elements);
  auto* blocks = reinterpret_cast<Block*>(out.data());
  for (std::size_t b = 0; b < in.size() / elements; ++b) {
    const float* columns =
        importance.empty() ? nullptr : importance.data() + (b * elements) % importance.size();
    encode::block(in.data() + b * elements, columns, blocks[b]);
  }
}

void require_importance(std::span<const float> in, std::span<const float> importance) {
  if (importance.empty()) return;
  require(in.size() % importance.size() == 0, ErrorCode::InvalidArgument,
          "{} elements are not a whole number of rows of {}, the length of the importance weights",
          in.size(), importance.size());
  const auto bad = std::find_if(importance.begin(), importance.end(),
                                [](float v) { return !(std::isfinite(v) && v >= 0); });
  require(bad == importance.end(), ErrorCode::InvalidArgument,
          "importance weight {} is {}; it must be finite and not negative",
          bad - importance.begin(), bad == importance.end() ? 0.0F : *bad);
}

/// Stores narrow(v) for every v, at any alignment.
template <typename Narrow>
void convert_all(std::span<const float> in, std::byte* out, Narrow narrow) {
  for (const float v : in) {
    const auto code = narrow(v);
    std::memcpy(out, &code, sizeof(code));
    out += sizeof(code);
  }
}

}  // namespace

void quantise(DType dtype, std::span<const float> in, std::span<std::byte> out,
              std::span<const float> importance) {
  require(out.size() == row_bytes(dtype, in.size()), ErrorCode::InvalidArgument,
          "{} elements of {} take {} bytes, but room for {} was given", in.size(), to_string(dtype),
          row_bytes(dtype, in.size()), out.size());
  require_importance(in, importance);
  switch (dtype) {
    case DType::F32:
      return convert_all(in, out.data(), [](float v) { return v; });
    case DType::F16:
      return convert_all(in, out.data(), f32_to_f16);
    case DType::BF16:
      return convert_all(in, out.data(), f32_to_bf16);
    case DType::F8_E4M3:
      return convert_all(in, out.data(), f32_to_e4m3);
    case DType::Q8_0:
      return encode_all<BlockQ8_0>(in, out, importance);
    case DType::Q4_0:
      return encode_all<BlockQ4_0>(in, out, importance);
    case DType::Q4_1:
      return encode_all<BlockQ4_1>(in, out, importance);
    case DType::Q5_0:
      return encode_all<BlockQ5_0>(in, out, importance);
    case DType::Q5_1:
      return encode_all<BlockQ5_1>(in, out, importance);
    case DType::Q2_K:
      return encode_all<BlockQ2_K>(in, out, importance);
    case DType::Q3_K:
      return encode_all<BlockQ3_K>(in, out, importance);
    case DType::Q4_K:
      return encode_all<BlockQ4_K>(in, out, importance);
    case DType::Q5_K:
      return encode_all<BlockQ5_K>(in, out, importance);
    case DType::Q6_K:
      return encode_all<BlockQ6_K>(in, out, importance);
    case DType::IQ1_S:
      return encode_all<BlockIQ1_S>(in, out, importance);
    case DType::IQ1_M:
      return encode_all<BlockIQ1_M>(in, out, importance);
    case DType::IQ2_XXS:
      return encode_all<BlockIQ2_XXS>(in, out, importance);
    case DType::IQ2_XS:
      return encode_all<BlockIQ2_XS>(in, out, importance);
    case DType::IQ2_S:
      return encode_all<BlockIQ2_S>(in, out, importance);
    case DType::IQ3_XXS:
      return encode_all<BlockIQ3_XXS>(in, out, importance);
    case DType::IQ3_S:
      return encode_all<BlockIQ3_S>(in, out, importance);
    case DType::IQ4_NL:
      return encode_all<BlockIQ4_NL>(in, out, importance);
    case DType::IQ4_XS:
      return encode_all<BlockIQ4_XS>(in, out, importance);
    case DType::I8:
    case DType::I16:
    case DType::I32:
    case DType::I64:
    case DType::F64:
    case DType::U8:
    case DType::Bool:
      break;
  }
  fail(ErrorCode::Unsupported, "Fathom does not write {} weights", to_string(dtype));
}

}  // namespace fathom
