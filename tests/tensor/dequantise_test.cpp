#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <string>

#include "base/error.h"
#include "tensor/blocks.h"
#include "tensor/golden.h"
#include "tensor/half.h"
#include "tensor/quantise.h"

namespace fathom {
namespace {

using testing::expect_same_floats;
using testing::Golden;

class DequantiseGolden : public ::testing::TestWithParam<DType> {};

TEST_P(DequantiseGolden, IsBitExactWithTheGgufPackage) {
  const DTypeInfo& type = info(GetParam());
  Golden golden(std::string(type.name) + ".dequantise.bin");
  const std::size_t count = golden.take<std::uint32_t>(1)[0];
  ASSERT_GT(count, 30U);
  const auto blocks = golden.take<std::byte>(count * type.block_bytes);
  const auto expected = golden.take<float>(count * type.block_elements);
  EXPECT_EQ(golden.left(), 0U);

  std::vector<float> values(expected.size());
  dequantise(type.dtype, blocks, values);
  expect_same_floats(values, expected);
}

TEST_P(DequantiseGolden, ReadsBlocksAtAnyAlignment) {
  const DTypeInfo& type = info(GetParam());
  Golden golden(std::string(type.name) + ".dequantise.bin");
  const std::size_t count = golden.take<std::uint32_t>(1)[0];
  std::vector<std::byte> shifted(1);
  const auto blocks = golden.take<std::byte>(count * type.block_bytes);
  shifted.insert(shifted.end(), blocks.begin(), blocks.end());

  std::vector<float> values(count * type.block_elements);
  dequantise(type.dtype, std::span(shifted).subspan(1), values);
  expect_same_floats(values, golden.rest<float>());
}

INSTANTIATE_TEST_SUITE_P(EveryBlockType, DequantiseGolden,
                         ::testing::Values(DType::Q8_0, DType::Q4_0, DType::Q4_1, DType::Q5_0,
                                           DType::Q5_1, DType::Q2_K, DType::Q3_K, DType::Q4_K,
                                           DType::Q5_K, DType::Q6_K, DType::IQ1_S, DType::IQ1_M,
                                           DType::IQ2_XXS, DType::IQ2_XS, DType::IQ2_S,
                                           DType::IQ3_XXS, DType::IQ3_S, DType::IQ4_NL,
                                           DType::IQ4_XS),
                         [](const auto& test) { return std::string(to_string(test.param)); });

template <typename T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

TEST(Dequantise, WidensScalarTypesAndNarrowsF64) {
  std::vector<float> out(2);
  dequantise(DType::F32, bytes_of<float>({1.5F, -2.0F}), out);
  EXPECT_EQ(out, (std::vector<float>{1.5F, -2.0F}));
  dequantise(DType::F16, bytes_of<std::uint16_t>({0x3C00, 0xC000}), out);
  EXPECT_EQ(out, (std::vector<float>{1.0F, -2.0F}));
  dequantise(DType::BF16, bytes_of<std::uint16_t>({0x3F80, 0xC040}), out);
  EXPECT_EQ(out, (std::vector<float>{1.0F, -3.0F}));
  dequantise(DType::F8_E4M3, bytes_of<std::uint8_t>({0x38, 0xFE}), out);
  EXPECT_EQ(out, (std::vector<float>{1.0F, -448.0F}));
  dequantise(DType::F64, bytes_of<double>({0.1, -4.0}), out);
  EXPECT_EQ(out, (std::vector<float>{0.1F, -4.0F}));
}

TEST(Dequantise, AcceptsNothing) {
  for (const DType dtype : {DType::F32, DType::F16, DType::Q4_K}) {
    EXPECT_NO_THROW(dequantise(dtype, {}, {})) << to_string(dtype);
  }
}

ErrorCode code_of(const auto& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "nothing was thrown";
  return ErrorCode::Internal;
}

TEST(Dequantise, RefusesIntegersWrongSizesAndPartialBlocks) {
  std::vector<float> out(32);
  const std::vector<std::byte> bytes(32 * 8);
  for (const DType dtype :
       {DType::I8, DType::I16, DType::I32, DType::I64, DType::U8, DType::Bool}) {
    const std::size_t size = row_bytes(dtype, 32);
    EXPECT_EQ(code_of([&] { dequantise(dtype, std::span(bytes).first(size), out); }),
              ErrorCode::Unsupported);
  }
  EXPECT_EQ(code_of([&] { dequantise(DType::Q4_0, std::span(bytes).first(17), out); }),
            ErrorCode::InvalidArgument);
  EXPECT_EQ(code_of([&] {
              dequantise(DType::Q4_0, std::span(bytes).first(18), std::span(out).first(31));
            }),
            ErrorCode::Corrupt);
}

TEST(Dequantise, TensorConvertsRowAfterRow) {
  const std::vector<std::uint16_t> data{0x3F80, 0x4000, 0x4040, 0x4080, 0x40A0, 0x40C0};
  const TensorView tensor{DType::BF16, Shape{2, 3}, bytes_of(data)};
  EXPECT_EQ(to_f32(tensor), (std::vector<float>{1, 2, 3, 4, 5, 6}));
  const TensorView lie{DType::BF16, Shape{2, 4}, bytes_of(data)};
  EXPECT_EQ(code_of([&] { to_f32(lie); }), ErrorCode::InvalidArgument);
}

struct Fp8Fixture {
  Golden golden{"fp8_blocks.bin"};
  std::vector<std::byte> codes = golden.take<std::byte>(130 * 150);
  std::vector<float> scales = golden.take<float>(4);
  std::vector<float> expected = golden.take<float>(130 * 150);
  TensorView weight{DType::F8_E4M3, Shape{130, 150}, codes};
  TensorView scale_inv{DType::F32, Shape{2, 2}, bytes_of(scales)};
};

TEST(Fp8Blocks, AreBitExactWithTorch) {
  const Fp8Fixture f;
  std::vector<float> out(f.expected.size());
  dequantise_fp8_blocks(f.weight, f.scale_inv, 0, 130, out);
  expect_same_floats(out, f.expected);
}

TEST(Fp8Blocks, RowsStartingInsideABlockUseTheirOwnScale) {
  const Fp8Fixture f;
  std::vector<float> out(3 * 150);
  for (const std::uint64_t begin : {0U, 60U, 126U, 127U}) {
    dequantise_fp8_blocks(f.weight, f.scale_inv, begin, begin + 3, out);
    expect_same_floats(out, std::span(f.expected).subspan(begin * 150, 3 * 150));
  }
}

TEST(Fp8Blocks, TakeBf16ScalesToo) {
  Fp8Fixture f;
  std::vector<std::uint16_t> narrow;
  for (float& scale : f.scales) {
    narrow.push_back(f32_to_bf16(scale));
    scale = bf16_to_f32(narrow.back());
  }
  std::vector<float> from_f32(130 * 150), from_bf16(130 * 150);
  dequantise_fp8_blocks(f.weight, f.scale_inv, 0, 130, from_f32);
  f.scale_inv = {DType::BF16, Shape{2, 2}, bytes_of(narrow)};
  dequantise_fp8_blocks(f.weight, f.scale_inv, 0, 130, from_bf16);
  expect_same_floats(from_bf16, from_f32);
}

TEST(Fp8Blocks, RefuseShapesThatContradictEachOther) {
  const Fp8Fixture f;
  std::vector<float> out(130 * 150);
  const auto convert = [&](const TensorView& weight, const TensorView& scale_inv,
                           std::uint64_t end = 130) {
    return code_of([&] { dequantise_fp8_blocks(weight, scale_inv, 0, end, out); });
  };
  const TensorView transposed{DType::F32, Shape{1, 4}, f.scale_inv.data};
  EXPECT_EQ(convert(f.weight, transposed), ErrorCode::Corrupt);
  const TensorView flat{DType::F8_E4M3, Shape{130 * 150}, f.weight.data};
  EXPECT_EQ(convert(flat, f.scale_inv), ErrorCode::Corrupt);
  const TensorView bytes{DType::U8, Shape{130, 150}, f.weight.data};
  EXPECT_EQ(convert(bytes, f.scale_inv), ErrorCode::Unsupported);
  const TensorView integers{DType::I32, Shape{2, 2}, f.scale_inv.data};
  EXPECT_EQ(convert(f.weight, integers), ErrorCode::Unsupported);
  EXPECT_EQ(convert(f.weight, f.scale_inv, 131), ErrorCode::InvalidArgument);
  const TensorView cut{DType::F8_E4M3, Shape{130, 150}, f.weight.data.first(129 * 150)};
  EXPECT_EQ(convert(cut, f.scale_inv), ErrorCode::InvalidArgument);
}

TEST(Blocks, HaveTheSizesOfTheTypeTable) {
  const auto check = [](DType dtype, std::size_t bytes) {
    EXPECT_EQ(info(dtype).block_bytes, bytes) << to_string(dtype);
  };
  check(BlockQ8_0::kType, sizeof(BlockQ8_0));
  check(BlockQ4_0::kType, sizeof(BlockQ4_0));
  check(BlockQ4_1::kType, sizeof(BlockQ4_1));
  check(BlockQ5_0::kType, sizeof(BlockQ5_0));
  check(BlockQ5_1::kType, sizeof(BlockQ5_1));
  check(BlockQ2_K::kType, sizeof(BlockQ2_K));
  check(BlockQ3_K::kType, sizeof(BlockQ3_K));
  check(BlockQ4_K::kType, sizeof(BlockQ4_K));
  check(BlockQ5_K::kType, sizeof(BlockQ5_K));
  check(BlockQ6_K::kType, sizeof(BlockQ6_K));
  check(BlockIQ1_S::kType, sizeof(BlockIQ1_S));
  check(BlockIQ1_M::kType, sizeof(BlockIQ1_M));
  check(BlockIQ2_XXS::kType, sizeof(BlockIQ2_XXS));
  check(BlockIQ2_XS::kType, sizeof(BlockIQ2_XS));
  check(BlockIQ2_S::kType, sizeof(BlockIQ2_S));
  check(BlockIQ3_XXS::kType, sizeof(BlockIQ3_XXS));
  check(BlockIQ3_S::kType, sizeof(BlockIQ3_S));
  check(BlockIQ4_NL::kType, sizeof(BlockIQ4_NL));
  check(BlockIQ4_XS::kType, sizeof(BlockIQ4_XS));
}

TEST(Blocks, PackedScalesRoundTripEveryByte) {
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    std::uint8_t packed[12], again[12];
    for (std::uint8_t& byte : packed) byte = static_cast<std::uint8_t>(random());
    pack_scales_q4_k(unpack_scales_q4_k(packed), again);
    EXPECT_TRUE(std::equal(std::begin(packed), std::end(packed), again));
    pack_scales_q3_k(unpack_scales_q3_k(packed), again);
    EXPECT_TRUE(std::equal(std::begin(packed), std::end(packed), again));
  }
}

}  // namespace
}  // namespace fathom
