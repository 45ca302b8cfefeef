// The element types of model files, block-quantised ones included.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace fathom {

/// Names follow GGUF's. F8_E4M3 is safetensors' (DeepSeek-V3's native weights).
enum class DType : std::uint8_t {
  F32,
  F16,
  BF16,
  F8_E4M3,
  Q8_0,
  Q4_0,
  Q4_1,
  Q5_0,
  Q5_1,
  Q2_K,
  Q3_K,
  Q4_K,
  Q5_K,
  Q6_K,
  IQ1_S,
  IQ1_M,
  IQ2_XXS,
  IQ2_XS,
  IQ2_S,
  IQ3_XXS,
  IQ3_S,
  IQ4_NL,
  IQ4_XS,
  I8,
  I16,
  I32,
  I64,
  F64,
  U8,
  Bool,
};

struct DTypeInfo {
  DType dtype;
  std::string_view name;       // "Q4_K", as printed and as parsed
  std::size_t block_elements;  // elements a block holds along the innermost dimension
  std::size_t block_bytes;     // bytes a block takes
  bool quantised;
};

const DTypeInfo& info(DType dtype);
inline std::string_view to_string(DType dtype) { return info(dtype).name; }
/// Parses a name in either case ("q4_k", "F32"); nullopt if there is no such type.
std::optional<DType> parse_dtype(std::string_view name);

}  // namespace fathom
