#include "tensor/tensor_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "base/error.h"

namespace fathom {
namespace {

using ::testing::HasSubstr;

constexpr std::uint64_t k2to31 = 1ULL << 31;
constexpr std::uint64_t k2to32 = 1ULL << 32;
constexpr std::uint64_t k2to62 = 1ULL << 62;
constexpr std::uint64_t k2to63 = 1ULL << 63;

/// The message of the Error(code) that `action` must throw.
std::string message_of(ErrorCode code, const auto& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

TEST(Shape, CountsElementsAndRows) {
  const Shape shape{3, 4, 5};
  EXPECT_EQ(shape.rank(), 3U);
  EXPECT_EQ(shape.elements(), 60U);
  EXPECT_EQ(shape.row_elements(), 5U);
  EXPECT_EQ(shape.rows(), 12U);
  EXPECT_EQ(shape.to_string(), "[3, 4, 5]");
  EXPECT_NE(shape, (Shape{3, 20}));
  EXPECT_NE((Shape{3}), (Shape{3, 0}));
}

TEST(Shape, RankZeroIsOneElement) {
  const Shape scalar;
  EXPECT_EQ(scalar.elements(), 1U);
  EXPECT_EQ(scalar.rows(), 1U);
  EXPECT_EQ(tensor_bytes(DType::F16, scalar), 2U);
}

TEST(Shape, WithAZeroIsEmpty) {
  for (const Shape& shape : {Shape{0}, Shape{0, 7}, Shape{7, 0}, Shape{2, 0, 3}}) {
    EXPECT_EQ(shape.elements(), 0U) << shape.to_string();
    EXPECT_EQ(tensor_bytes(DType::F32, shape), 0U) << shape.to_string();
  }
}

TEST(Shape, RejectsFiveDimensions) {
  message_of(ErrorCode::Corrupt, [] { Shape{1, 1, 1, 1, 1}; });
}

TEST(Shape, RejectsElementCountsThatWrap) {
  const auto rejects = [](std::initializer_list<std::uint64_t> dims) {
    message_of(ErrorCode::Corrupt, [&] { Shape{std::span(dims.begin(), dims.size())}; });
  };
  rejects({k2to63});                     // fits 64 bits, but not a signed count
  rejects({~0ULL});                      // -1 in readers that sign it
  rejects({k2to32, k2to32});             // wraps to 0
  rejects({k2to32, k2to31});             // wraps to the sign bit
  rejects({3, k2to63 / 3 + 1});          // one past the limit
  rejects({k2to32, k2to32, 2, k2to31});  // wraps twice
  EXPECT_EQ((Shape{k2to31, k2to31}).elements(), k2to62);
}

TEST(Shape, AZeroHidesNoOverflow) {
  message_of(ErrorCode::Corrupt, [] { Shape{0, k2to32, k2to32}; });
  message_of(ErrorCode::Corrupt, [] { Shape{k2to32, k2to32, 0}; });
  message_of(ErrorCode::Corrupt, [] { Shape{0, k2to63}; });
}

TEST(RowBytes, CountsWholeBlocks) {
  EXPECT_EQ(row_bytes(DType::F32, 3), 12U);
  EXPECT_EQ(row_bytes(DType::Q8_0, 64), 68U);
  EXPECT_EQ(row_bytes(DType::Q4_K, 512), 288U);
  EXPECT_EQ(row_bytes(DType::Q6_K, 0), 0U);
}

TEST(RowBytes, RejectsPartialBlocksByName) {
  EXPECT_THAT(message_of(ErrorCode::Corrupt, [] { row_bytes(DType::Q4_K, 128); }),
              HasSubstr("Q4_K"));
  message_of(ErrorCode::Corrupt, [] { tensor_bytes(DType::Q4_0, Shape{32, 33}); });
}

TEST(TensorBytes, RejectsSizesThatWrap) {
  message_of(ErrorCode::Corrupt, [] { row_bytes(DType::F64, k2to62); });
  message_of(ErrorCode::Corrupt, [] { tensor_bytes(DType::F32, Shape{k2to31, k2to31}); });
  message_of(ErrorCode::Corrupt, [] { tensor_bytes(DType::F64, Shape{k2to62}); });
  EXPECT_EQ(tensor_bytes(DType::Q4_0, Shape{k2to31, 64}), k2to31 * 36);
}

class Views : public ::testing::Test {
 protected:
  std::vector<std::byte> bytes_ = [] {
    std::vector<std::byte> bytes(2 * 3 * 4 * 2);
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i);
    return bytes;
  }();
  TensorView experts_{DType::F16, Shape{2, 3, 4}, bytes_};
};

TEST_F(Views, RowsRunOverAllOuterDimensions) {
  EXPECT_EQ(experts_.row(0).data(), bytes_.data());
  EXPECT_EQ(experts_.row(5).data(), bytes_.data() + 40);
  EXPECT_EQ(experts_.row(5).size(), 8U);
}

TEST_F(Views, SliceDropsTheOutermostDimension) {
  const TensorView second = experts_.slice(1);
  EXPECT_EQ(second.shape, (Shape{3, 4}));
  EXPECT_EQ(second.data.data(), bytes_.data() + 24);
  EXPECT_EQ(second.data.size(), 24U);
  message_of(ErrorCode::InvalidArgument, [&] { experts_.slice(2); });
  message_of(ErrorCode::InvalidArgument, [] { TensorView{}.slice(0); });
}

TEST_F(Views, RowRangesKeepTheRowLength) {
  const TensorView middle = experts_.slice(0).rows(1, 3);
  EXPECT_EQ(middle.shape, (Shape{2, 4}));
  EXPECT_EQ(middle.data.data(), bytes_.data() + 8);
  EXPECT_EQ(middle.data.size(), 16U);
  EXPECT_EQ(experts_.slice(0).rows(3, 3).data.size(), 0U);
  message_of(ErrorCode::InvalidArgument, [&] { experts_.slice(0).rows(0, 4); });
  message_of(ErrorCode::InvalidArgument, [&] { experts_.slice(0).rows(2, 1); });
  message_of(ErrorCode::InvalidArgument, [&] { experts_.rows(0, 1); });
}

}  // namespace
}  // namespace fathom
