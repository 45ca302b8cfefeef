#include "tensor/dtype.h"

#include <algorithm>
#include <array>
#include <cctype>

namespace fathom {
namespace {

// In the order of the enum, which info() relies on and a test checks.
constexpr std::array kTypes{
    DTypeInfo{DType::F32, "F32", 1, 4, false},
    DTypeInfo{DType::F16, "F16", 1, 2, false},
    DTypeInfo{DType::BF16, "BF16", 1, 2, false},
    DTypeInfo{DType::F8_E4M3, "F8_E4M3", 1, 1, false},
    DTypeInfo{DType::Q8_0, "Q8_0", 32, 34, true},
    DTypeInfo{DType::Q4_0, "Q4_0", 32, 18, true},
    DTypeInfo{DType::Q4_1, "Q4_1", 32, 20, true},
    DTypeInfo{DType::Q5_0, "Q5_0", 32, 22, true},
    DTypeInfo{DType::Q5_1, "Q5_1", 32, 24, true},
    DTypeInfo{DType::Q2_K, "Q2_K", 256, 84, true},
    DTypeInfo{DType::Q3_K, "Q3_K", 256, 110, true},
    DTypeInfo{DType::Q4_K, "Q4_K", 256, 144, true},
    DTypeInfo{DType::Q5_K, "Q5_K", 256, 176, true},
    DTypeInfo{DType::Q6_K, "Q6_K", 256, 210, true},
    DTypeInfo{DType::IQ1_S, "IQ1_S", 256, 50, true},
    DTypeInfo{DType::IQ1_M, "IQ1_M", 256, 56, true},
    DTypeInfo{DType::IQ2_XXS, "IQ2_XXS", 256, 66, true},
    DTypeInfo{DType::IQ2_XS, "IQ2_XS", 256, 74, true},
    DTypeInfo{DType::IQ2_S, "IQ2_S", 256, 82, true},
    DTypeInfo{DType::IQ3_XXS, "IQ3_XXS", 256, 98, true},
    DTypeInfo{DType::IQ3_S, "IQ3_S", 256, 110, true},
    DTypeInfo{DType::IQ4_NL, "IQ4_NL", 32, 18, true},
    DTypeInfo{DType::IQ4_XS, "IQ4_XS", 256, 136, true},
    DTypeInfo{DType::I8, "I8", 1, 1, false},
    DTypeInfo{DType::I16, "I16", 1, 2, false},
    DTypeInfo{DType::I32, "I32", 1, 4, false},
    DTypeInfo{DType::I64, "I64", 1, 8, false},
    DTypeInfo{DType::F64, "F64", 1, 8, false},
    DTypeInfo{DType::U8, "U8", 1, 1, false},
    DTypeInfo{DType::Bool, "BOOL", 1, 1, false},
};

}  // namespace

const DTypeInfo& info(DType dtype) { return kTypes[static_cast<std::size_t>(dtype)]; }

std::optional<DType> parse_dtype(std::string_view name) {
  const auto same = [](char a, char b) {
    return std::toupper(static_cast<unsigned char>(a)) ==
           std::toupper(static_cast<unsigned char>(b));
  };
  for (const DTypeInfo& type : kTypes) {
    if (std::equal(name.begin(), name.end(), type.name.begin(), type.name.end(), same)) {
      return type.dtype;
    }
  }
  return std::nullopt;
}

}  // namespace fathom
