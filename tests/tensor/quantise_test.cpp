#include "tensor/quantise.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <random>
#include <string>

#include "base/error.h"
#include "tensor/blocks.h"
#include "tensor/golden.h"
#include "tensor/half.h"

namespace fathom {
namespace {

using ::testing::ElementsAre;
using testing::expect_same_floats;
using testing::Golden;
using ::testing::HasSubstr;

constexpr std::array kKQuants{DType::Q2_K, DType::Q3_K, DType::Q4_K, DType::Q5_K, DType::Q6_K};
constexpr std::array kBlockTypes{DType::Q8_0,    DType::Q4_0,   DType::Q4_1,  DType::Q5_0,
                                 DType::Q5_1,    DType::Q2_K,   DType::Q3_K,  DType::Q4_K,
                                 DType::Q5_K,    DType::Q6_K,   DType::IQ1_S, DType::IQ1_M,
                                 DType::IQ2_XXS, DType::IQ2_XS, DType::IQ2_S, DType::IQ3_XXS,
                                 DType::IQ3_S,   DType::IQ4_XS, DType::IQ4_NL};

constexpr std::array kIqTypes{DType::IQ1_S,  DType::IQ1_M,  DType::IQ2_XXS,
                              DType::IQ2_XS, DType::IQ2_S,  DType::IQ3_XXS,
                              DType::IQ3_S,  DType::IQ4_XS, DType::IQ4_NL};

bool needs_importance(DType dtype) {
  return dtype == DType::IQ1_S || dtype == DType::IQ1_M || dtype == DType::IQ2_XXS ||
         dtype == DType::IQ2_XS;
}

std::vector<std::byte> encode(DType dtype, std::span<const float> values,
                              std::span<const float> importance = {}) {
  std::vector<std::byte> bytes(row_bytes(dtype, values.size()));
  quantise(dtype, values, bytes, importance);
  return bytes;
}

std::vector<float> decode(DType dtype, std::span<const std::byte> bytes, std::size_t count) {
  std::vector<float> values(count);
  dequantise(dtype, bytes, values);
  return values;
}

std::vector<float> round_trip(DType dtype, std::span<const float> values,
                              std::span<const float> importance = {}) {
  return decode(dtype, encode(dtype, values, importance), values.size());
}

/// sqrt(sum w (a-b)^2 / sum w b^2), w repeating along b; all ones if empty.
double relative_error(std::span<const float> a, std::span<const float> b,
                      std::span<const float> w = {}) {
  double miss = 0, size = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    const double weight = w.empty() ? 1.0 : w[i % w.size()];
    miss += weight * (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
    size += weight * static_cast<double>(b[i]) * b[i];
  }
  return std::sqrt(miss / size);
}

/// Numbers the same on every standard library: sums of uniform bits, about Gaussian.
class Numbers {
 public:
  float gauss(float deviation) {
    double total = 0;
    for (int k = 0; k < 12; ++k) total += static_cast<double>(random_()) / 4294967296.0;
    return deviation * static_cast<float>(total - 6);
  }
  std::vector<float> row(std::size_t n, float deviation) {
    std::vector<float> values(n);
    for (float& v : values) v = gauss(deviation);
    return values;
  }
  std::uint32_t bits() { return static_cast<std::uint32_t>(random_()); }

 private:
  std::mt19937 random_{7};
};

class EveryBlockType : public ::testing::TestWithParam<DType> {};

class SmallBlocks : public ::testing::TestWithParam<DType> {};

TEST_P(SmallBlocks, AreByteIdenticalWithTheGgufPackage) {
  const auto rows = Golden("rows.f32.bin").rest<float>();
  ASSERT_EQ(rows.size(), 48U * 32U);
  const auto expected =
      Golden(std::string(to_string(GetParam())) + ".quantise.bin").rest<std::byte>();
  const auto bytes = encode(GetParam(), rows);
  ASSERT_EQ(bytes.size(), expected.size());
  const std::size_t size = info(GetParam()).block_bytes;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    ASSERT_EQ(bytes[i], expected[i]) << "block " << i / size << ", byte " << i % size;
  }
}

TEST_P(SmallBlocks, ImportanceLowersTheErrorWhereItMatters) {
  Numbers numbers;
  const auto values = numbers.row(64 * 256, 0.02F);
  std::vector<float> importance(256);
  for (float& w : importance) w = std::exp(numbers.gauss(1.5F));
  const double plain = relative_error(round_trip(GetParam(), values), values, importance);
  const double guided =
      relative_error(round_trip(GetParam(), values, importance), values, importance);
  if (GetParam() == DType::Q8_0) {
    EXPECT_EQ(guided, plain);  // documented: Q8_0 does not use it
  } else {
    EXPECT_LT(guided, 0.97 * plain);
  }
}

constexpr auto name_of = [](const auto& test) { return std::string(to_string(test.param)); };
INSTANTIATE_TEST_SUITE_P(Types, SmallBlocks,
                         ::testing::Values(DType::Q8_0, DType::Q4_0, DType::Q4_1, DType::Q5_0,
                                           DType::Q5_1),
                         name_of);

/// Square error weighed by importance and, as all encoders do, by the size of the element.
double encoder_error(std::span<const float> got, std::span<const float> wanted,
                     std::span<const float> importance) {
  double error = 0;
  for (std::size_t b = 0; b < wanted.size(); b += 256) {
    double squares = 0;
    for (std::size_t i = b; i < b + 256; ++i) squares += double{wanted[i]} * wanted[i];
    for (std::size_t i = b; i < b + 256; ++i) {
      const double x = wanted[i];
      const double weight =
          importance.empty() ? x * x
                             : importance[i % importance.size()] * std::sqrt(squares / 256 + x * x);
      error += weight * (got[i] - x) * (got[i] - x);
    }
  }
  return error;
}

// ---- K-quants against ggml's encoders --------------------------------------------------------

class KQuants : public ::testing::TestWithParam<const char*> {};

TEST_P(KQuants, ErrNoMoreThanGgml) {
  Golden golden(std::string("k_quants.") + GetParam() + ".bin");
  const auto rows = golden.take<float>(8 * 1024);
  const auto importance = golden.take<float>(1024);
  for (const bool guided : {false, true}) {
    const std::span<const float> weights =
        guided ? std::span(importance) : std::span<const float>();
    for (const DType dtype : kKQuants) {
      const auto ggml =
          decode(dtype, golden.take<std::byte>(row_bytes(dtype, rows.size())), rows.size());
      const double theirs = relative_error(ggml, rows, weights);
      const double ours = relative_error(round_trip(dtype, rows, weights), rows, weights);
      EXPECT_LE(ours, theirs * (guided ? 1.005 : 1.0)) << to_string(dtype) << " guided: " << guided;
      EXPECT_GT(ours, theirs * 0.5) << to_string(dtype);  // else the comparison is wrong
    }
  }
  EXPECT_EQ(golden.left(), 0U);
}

TEST_P(KQuants, IqTypesErrNoMoreThanGgml) {
  Golden golden(std::string("iq.") + GetParam() + ".bin");
  const auto rows = golden.take<float>(8 * 1024);
  const auto importance = golden.take<float>(1024);
  for (const bool guided : {false, true}) {
    const std::span<const float> weights =
        guided ? std::span(importance) : std::span<const float>();
    for (const DType dtype : kIqTypes) {
      if (!guided && needs_importance(dtype)) continue;
      const auto ggml =
          decode(dtype, golden.take<std::byte>(row_bytes(dtype, rows.size())), rows.size());
      const auto mine = round_trip(dtype, rows, weights);
      // What matters, and what both minimise, is the error weighed as encoders weigh it.
      const double theirs = encoder_error(ggml, rows, weights);
      const double ours = encoder_error(mine, rows, weights);
      EXPECT_LE(ours, theirs) << to_string(dtype) << " guided: " << guided;
      const double plain =
          relative_error(mine, rows, weights) / relative_error(ggml, rows, weights);
      EXPECT_LE(plain, 1) << to_string(dtype) << " guided: " << guided;
      EXPECT_GT(plain, 0.8) << to_string(dtype);  // else the comparison is wrong
    }
  }
  EXPECT_EQ(golden.left(), 0U);
}

INSTANTIATE_TEST_SUITE_P(Data, KQuants, ::testing::Values("gauss", "heavy"),
                         [](const auto& test) { return std::string(test.param); });

TEST(Quantise, KQuantsGiveTheSameBytesOnEveryCompiler) {
  // FNV-1a of all blocks. A deliberate change of an encoder changes these numbers; a compiler, its
  // optimisation level or the processor must not.
  const auto rows = Golden("k_quants.heavy.bin").take<float>(8 * 1024);
  std::vector<std::uint64_t> hashes;
  for (const DType dtype : kKQuants) {
    std::uint64_t hash = 14695981039346656037ULL;
    for (const std::byte byte : encode(dtype, rows)) {
      hash = (hash ^ std::to_integer<std::uint64_t>(byte)) * 1099511628211ULL;
    }
    hashes.push_back(hash);
  }
  EXPECT_THAT(hashes, ElementsAre(11458518202273273670U, 3086554271675044904U, 3864840585175270486U,
                                  17200614597529492702U, 8689833461235142502U));
}

// ---- properties of all block types -----------------------------------------------------------

TEST_P(EveryBlockType, ErrorStaysWithinItsBitsOnGaussianAndHeavyTails) {
  // Relative RMSE on Gaussian data, from rate-distortion of the width; heavy tails cost up to half
  // as much again (and more for the symmetric types, whose range an outlier takes alone).
  const auto bound = [&] {
    switch (GetParam()) {
      case DType::Q8_0:
        return 0.006;
      case DType::Q4_0:
        return 0.09;
      case DType::Q4_1:
        return 0.082;
      case DType::Q5_0:
        return 0.045;
      case DType::Q5_1:
        return 0.04;
      case DType::Q2_K:
        return 0.29;
      case DType::Q3_K:
        return 0.155;
      case DType::Q4_K:
        return 0.073;
      case DType::Q5_K:
        return 0.037;
      case DType::IQ1_S:
        return 0.51;
      case DType::IQ1_M:
        return 0.47;
      case DType::IQ2_XXS:
        return 0.385;
      case DType::IQ2_XS:
        return 0.32;
      case DType::IQ2_S:
        return 0.29;
      case DType::IQ3_XXS:
        return 0.205;
      case DType::IQ3_S:
        return 0.15;
      case DType::IQ4_XS:
        return 0.075;
      case DType::IQ4_NL:
        return 0.075;
      default:
        return 0.018;
    }
  }();
  Numbers numbers;
  const auto gauss = numbers.row(16 * 1024, 0.02F);
  EXPECT_LT(relative_error(round_trip(GetParam(), gauss), gauss), bound);
  auto heavy = gauss;
  for (float& v : heavy) v *= std::exp(numbers.gauss(0.7F));
  EXPECT_LT(relative_error(round_trip(GetParam(), heavy), heavy), 1.8 * bound);
}

TEST_P(EveryBlockType, ErrorScalesWithTheData) {
  Numbers numbers;
  const auto values = numbers.row(4096, 1.0F);
  const double expected = relative_error(round_trip(GetParam(), values), values);
  for (const float factor : {0x1p-6F, 0x1p3F, 0x1p10F}) {
    auto scaled = values;
    for (float& v : scaled) v *= factor;
    // Powers of two change nothing but the F16 scales' rounding near subnormals.
    EXPECT_NEAR(relative_error(round_trip(GetParam(), scaled), scaled), expected, 0.02 * expected)
        << factor;
  }
}

TEST_P(EveryBlockType, AllZeroStaysZero) {
  const std::vector<float> zeros(512), importance(512, 1.0F);
  EXPECT_EQ(round_trip(GetParam(), zeros), zeros);
  EXPECT_EQ(round_trip(GetParam(), zeros, importance), zeros);
  EXPECT_EQ(round_trip(GetParam(), std::vector<float>(512, -0.0F)), zeros);
}

TEST(Quantise, ZeroKBlocksHaveOneForm) {
  // Equal weights give equal files; gguf's rule for the small types keeps the zero's sign, these
  // not.
  for (const DType dtype : kKQuants) {
    const auto bytes = encode(dtype, std::vector<float>(256));
    EXPECT_EQ(encode(dtype, std::vector<float>(256, -0.0F)), bytes) << to_string(dtype);
    EXPECT_EQ(encode(dtype, std::vector<float>(256, 1e-30F)), bytes) << to_string(dtype);
    expect_same_floats(decode(dtype, bytes, 256), std::vector<float>(256));
  }
}

TEST_P(EveryBlockType, ConstantBlocksComeBack) {
  // Half of F16's precision for scale and minimum, plus the type's own step for types without one.
  for (const float value : {1.0F, -1.0F, 0.02F, -300.0F}) {
    const std::vector<float> values(256, value);
    EXPECT_LT(relative_error(round_trip(GetParam(), values), values), 0.01) << value;
  }
}

TEST_P(EveryBlockType, ALoneOutlierSurvivesAndSparesItsNeighbourBlocks) {
  Numbers numbers;
  for (const float outlier : {50.0F, -50.0F}) {
    for (const std::size_t where : {0U, 100U, 255U}) {
      auto values = numbers.row(768, 0.01F);
      const auto before = round_trip(GetParam(), values);
      values[256 + where] = outlier;
      const auto after = round_trip(GetParam(), values);
      EXPECT_NEAR(after[256 + where], outlier, 0.04F * 50) << where;
      expect_same_floats(std::span(after).first(256), std::span(before).first(256));
      expect_same_floats(std::span(after).last(256), std::span(before).last(256));
    }
  }
}

TEST_P(EveryBlockType, EncodingWhatWasDecodedAddsLittle) {
  Numbers numbers;
  const auto values = numbers.row(8192, 0.02F);
  const auto once = round_trip(GetParam(), values);
  const auto twice = round_trip(GetParam(), once);
  const double first = relative_error(once, values);
  EXPECT_LT(relative_error(twice, once), 0.5 * first);
  EXPECT_LT(relative_error(twice, values), 1.1 * first);
}

TEST_P(EveryBlockType, AnyFiniteBitsEitherEncodeToFiniteNumbersOrAreRefused) {
  Numbers numbers;
  std::vector<float> importance(256);
  int accepted = 0;
  for (int round = 0; round < 400; ++round) {
    // Exponents in a window that wanders over the whole of F32, subnormals included.
    const std::uint32_t centre = numbers.bits() % 255;
    std::vector<float> values(256);
    for (float& v : values) {
      const std::uint32_t exponent = std::min(centre + numbers.bits() % 8, 254U);
      v = std::bit_cast<float>((numbers.bits() & 0x807FFFFFU) | (exponent << 23));
    }
    for (float& w : importance) {
      w = std::bit_cast<float>((numbers.bits() & 0x7FFFFFU) | ((numbers.bits() % 255) << 23));
    }
    for (const std::span<const float> weights :
         {std::span<const float>(), std::span<const float>(importance)}) {
      float largest = 0;
      for (const float v : values) largest = std::max(largest, std::abs(v));
      try {
        const auto decoded = round_trip(GetParam(), values, weights);
        ++accepted;
        for (const float v : decoded) {
          ASSERT_TRUE(std::isfinite(v));
          ASSERT_LE(std::abs(v), 2 * largest + 1e-4F);
        }
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::InvalidArgument);
        ASSERT_GT(largest, 32768.0F) << error.what();
      }
    }
  }
  EXPECT_GT(accepted, 400);
}

TEST_P(EveryBlockType, NanAndInfinityAreRefusedByPosition) {
  for (const float bad : {NAN, -NAN, INFINITY, -INFINITY}) {
    std::vector<float> values(512, 0.5F);
    values[300] = bad;
    try {
      encode(GetParam(), values);
      FAIL() << "accepted " << bad;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::InvalidArgument);
      EXPECT_THAT(error.what(), HasSubstr("element 300"));
      EXPECT_THAT(error.what(), HasSubstr(std::string(to_string(GetParam()))));
    }
  }
}

TEST_P(EveryBlockType, HugeValuesAreRefusedInsteadOfBecomingNan) {
  for (const float huge : {1e10F, -3e38F}) {
    std::vector<float> values(256, 0.5F);
    values[17] = huge;
    EXPECT_THROW(encode(GetParam(), values), Error) << huge;
    EXPECT_THROW(encode(GetParam(), values, std::vector<float>(256, 1.0F)), Error) << huge;
  }
}

TEST_P(EveryBlockType, RowsWithImportanceUseItColumnByColumn) {
  Numbers numbers;
  const auto values = numbers.row(4 * 512, 0.02F);
  std::vector<float> importance(512);
  for (float& w : importance) w = std::abs(numbers.gauss(1.0F));
  const auto together = encode(GetParam(), values, importance);
  std::vector<std::byte> apart;
  for (std::size_t r = 0; r < 4; ++r) {
    const auto row = encode(GetParam(), std::span(values).subspan(512 * r, 512), importance);
    apart.insert(apart.end(), row.begin(), row.end());
  }
  EXPECT_EQ(together, apart);
}

TEST_P(EveryBlockType, ImportanceOfZeroEverywhereIsAsGoodAsNone) {
  Numbers numbers;
  const auto values = numbers.row(512, 0.02F);
  const std::vector<float> zero(512), one(512, 1.0F);
  EXPECT_LT(relative_error(round_trip(GetParam(), values, zero), values),
            1.1 * relative_error(round_trip(GetParam(), values, one), values));
}

INSTANTIATE_TEST_SUITE_P(Types, EveryBlockType, ::testing::ValuesIn(kBlockTypes), name_of);

// ---- scalar types and refusals ---------------------------------------------------------------

TEST(Quantise, ScalarTypesKeepNanAndInfinity) {
  const std::vector<float> values{NAN, INFINITY, -INFINITY, 1.0F};
  EXPECT_TRUE(std::isnan(round_trip(DType::F32, values)[0]));
  for (const DType dtype : {DType::F16, DType::BF16}) {
    const auto out = round_trip(dtype, values);
    EXPECT_TRUE(std::isnan(out[0])) << to_string(dtype);
    EXPECT_EQ(out[1], INFINITY) << to_string(dtype);
    EXPECT_EQ(out[2], -INFINITY) << to_string(dtype);
  }
  const auto fp8 = round_trip(DType::F8_E4M3, values);
  EXPECT_TRUE(std::isnan(fp8[0]));
  EXPECT_EQ(fp8[1], 448.0F);
  EXPECT_EQ(fp8[2], -448.0F);
}

TEST(Quantise, ScalarTypesAgreeWithGgufAndTorch) {
  const auto values = Golden("scalars.f32.bin").rest<float>();
  EXPECT_EQ(encode(DType::F16, values), Golden("scalars.f16.bin").rest<std::byte>());
  EXPECT_EQ(encode(DType::BF16, values), Golden("scalars.bf16.bin").rest<std::byte>());
  EXPECT_EQ(encode(DType::F8_E4M3, values), Golden("scalars.e4m3.bin").rest<std::byte>());
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

TEST(Quantise, RefusesTypesThatAreOnlyRead) {
  const std::vector<float> values(32);
  for (const DType dtype : {DType::F64, DType::I8, DType::I32, DType::Bool}) {
    EXPECT_EQ(code_of([&] { encode(dtype, values); }), ErrorCode::Unsupported) << to_string(dtype);
  }
}

TEST(Quantise, RefusesWrongSizes) {
  std::vector<std::byte> out(144);
  const std::vector<float> values(256);
  EXPECT_EQ(code_of([&] { quantise(DType::Q5_K, values, out); }), ErrorCode::InvalidArgument);
  EXPECT_EQ(code_of([&] { quantise(DType::Q4_K, std::span(values).first(255), out); }),
            ErrorCode::Corrupt);
  EXPECT_NO_THROW(quantise(DType::Q4_K, {}, {}));
}

TEST(Quantise, RefusesImportanceThatDoesNotFit) {
  const std::vector<float> values(512);
  std::vector<float> importance(512, 1.0F);
  const auto with = [&](std::size_t n) {
    return code_of([&] { encode(DType::Q4_K, values, std::span(importance).first(n)); });
  };
  EXPECT_EQ(with(384), ErrorCode::InvalidArgument);  // not whole rows
  EXPECT_EQ(with(128), ErrorCode::InvalidArgument);  // not whole blocks
  for (const float bad : {-1.0F, NAN, INFINITY}) {
    importance[5] = bad;
    EXPECT_EQ(with(512), ErrorCode::InvalidArgument) << bad;
  }
}

}  // namespace
}  // namespace fathom
