#include "tensor/dtype.h"

#include <gtest/gtest.h>

#include <set>

namespace fathom {
namespace {

constexpr auto kLast = static_cast<int>(DType::Bool);

TEST(DType, TableIsInTheOrderOfTheEnum) {
  for (int i = 0; i <= kLast; ++i) {
    EXPECT_EQ(info(static_cast<DType>(i)).dtype, static_cast<DType>(i)) << i;
  }
}

TEST(DType, NamesAreUniqueAndParseInEitherCase) {
  std::set<std::string_view> names;
  for (int i = 0; i <= kLast; ++i) {
    const auto dtype = static_cast<DType>(i);
    EXPECT_TRUE(names.insert(to_string(dtype)).second) << to_string(dtype);
    EXPECT_EQ(parse_dtype(to_string(dtype)), dtype);
  }
  EXPECT_EQ(parse_dtype("q4_k"), DType::Q4_K);
  EXPECT_EQ(parse_dtype("bool"), DType::Bool);
}

TEST(DType, UnknownNamesDoNotParse) {
  for (const char* name : {"", "Q4", "Q4_K_M", "F3", "F322", "IQ2_M", "Q4-K"}) {
    EXPECT_EQ(parse_dtype(name), std::nullopt) << name;
  }
}

TEST(DType, OnlyQuantisedTypesHaveBlocks) {
  for (int i = 0; i <= kLast; ++i) {
    const DTypeInfo& type = info(static_cast<DType>(i));
    EXPECT_EQ(type.quantised, type.block_elements > 1) << type.name;
    EXPECT_GT(type.block_bytes, 0U) << type.name;
  }
}

}  // namespace
}  // namespace fathom
