#include "backend/cpu/matmul.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "backend/levels.h"
#include "backend/random_weights.h"

namespace fathom::cpu {
namespace {

using testing::GuardedBytes;
using testing::levels;
using testing::random_floats;
using testing::RandomMatrix;

const DType kQuantised[] = {DType::Q8_0,    DType::Q4_0,   DType::Q4_1,  DType::Q5_0,
                            DType::Q5_1,    DType::Q2_K,   DType::Q3_K,  DType::Q4_K,
                            DType::Q5_K,    DType::Q6_K,   DType::IQ1_S, DType::IQ1_M,
                            DType::IQ2_XXS, DType::IQ2_XS, DType::IQ2_S, DType::IQ3_XXS,
                            DType::IQ3_S,   DType::IQ4_NL, DType::IQ4_XS};
const DType kFloats[] = {DType::F32, DType::F16, DType::BF16, DType::F8_E4M3};

std::vector<std::size_t> widths(DType dtype) {
  const std::size_t block = info(dtype).block_elements;
  if (block == 1) return {1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 100, 576};
  if (block == 32) return {32, 64, 224, 256, 288, 576};
  return {256, 512, 1024};
}

/// tokens x rows, contiguous.
std::vector<float> multiply(const TensorView& weight, Precision precision, CpuLevel level,
                            ThreadPool& pool, const std::vector<float>& x, std::size_t tokens) {
  const PackedMatrix packed = PackedMatrix::pack(weight, precision, level, pool);
  GuardedBytes in(x.size() * 4);
  std::memcpy(in.data(), x.data(), in.size());
  GuardedBytes out(tokens * weight.shape[0] * 4);
  const Product product[] = {{&packed, out.floats(), weight.shape[0]}};
  matmul(pool, in.floats(), weight.shape[1], tokens, product);
  return {out.floats(), out.floats() + tokens * weight.shape[0]};
}

TEST(Matmul, ReadsEveryWeightExactlyAsTheReferenceDoes) {
  ThreadPool pool(2);
  const std::size_t rows = 19;
  for (CpuLevel level : levels()) {
    for (DType dtype : kQuantised) {
      for (std::size_t columns : widths(dtype)) {
        const RandomMatrix weight(dtype, rows, columns, 1);
        const std::vector<float> expected = to_f32(weight.view);
        // A unit vector a column: the product is that column, without any rounding.
        std::vector<float> x(columns * columns, 0.0F);
        for (std::size_t i = 0; i < columns; ++i) x[i * columns + i] = 1;
        const auto y = multiply(weight.view, Precision::F32, level, pool, x, columns);
        for (std::size_t i = 0; i < columns; ++i) {
          for (std::size_t r = 0; r < rows; ++r) {
            ASSERT_EQ(y[i * rows + r], expected[r * columns + i])
                << to_string(level) << " " << to_string(dtype) << " row " << r << " column " << i;
          }
        }
      }
    }
  }
}

TEST(Matmul, F32PrecisionIsWithinRoundingOfExactArithmetic) {
  ThreadPool pool(2);
  const std::size_t tokens = 5;
  for (CpuLevel level : levels()) {
    std::vector<DType> dtypes(std::begin(kQuantised), std::end(kQuantised));
    dtypes.insert(dtypes.end(), std::begin(kFloats), std::end(kFloats));
    for (DType dtype : dtypes) {
      for (std::size_t columns : widths(dtype)) {
        for (std::size_t rows : {1UL, 2UL, 5UL, 16UL, 33UL, 70UL}) {
          const RandomMatrix weight(dtype, rows, columns, 2);
          const std::vector<float> w = to_f32(weight.view);
          const std::vector<float> x = random_floats(tokens * columns, 3);
          const auto y = multiply(weight.view, Precision::F32, level, pool, x, tokens);
          for (std::size_t t = 0; t < tokens; ++t) {
            for (std::size_t r = 0; r < rows; ++r) {
              double sum = 0;
              double size = 0;
              for (std::size_t i = 0; i < columns; ++i) {
                const double term = double{x[t * columns + i]} * w[r * columns + i];
                sum += term;
                size += std::abs(term);
              }
              ASSERT_NEAR(y[t * rows + r], sum, 1e-6 * size + 1e-30)
                  << to_string(level) << " " << to_string(dtype) << " [" << rows << ", " << columns
                  << "]";
            }
          }
        }
      }
    }
  }
}

/// What Int8 means: per 32 features x = d * q, d = max|x| / 127.
std::vector<double> as_int8(const std::vector<float>& x) {
  std::vector<double> out(x.size());
  for (std::size_t b = 0; b < x.size(); b += 32) {
    float most = 0;
    for (std::size_t i = 0; i < 32; ++i) most = std::max(most, std::abs(x[b + i]));
    for (std::size_t i = 0; i < 32; ++i) {
      out[b + i] =
          most == 0 ? 0 : std::nearbyint(x[b + i] * (127.0F / most)) * double{most / 127.0F};
    }
  }
  return out;
}

TEST(Matmul, Int8PrecisionIsExactForTheActivationsItQuantises) {
  ThreadPool pool(2);
  const std::size_t tokens = 4;
  for (CpuLevel level : levels()) {
    for (DType dtype : kQuantised) {
      for (std::size_t columns : widths(dtype)) {
        for (std::size_t rows : {1UL, 16UL, 70UL, 130UL}) {
          const RandomMatrix weight(dtype, rows, columns, 4);
          const std::vector<float> w = to_f32(weight.view);
          const std::vector<float> x = random_floats(tokens * columns, 5);
          const std::vector<double> q = as_int8(x);
          const auto y = multiply(weight.view, Precision::Int8, level, pool, x, tokens);
          for (std::size_t t = 0; t < tokens; ++t) {
            for (std::size_t r = 0; r < rows; ++r) {
              double sum = 0;
              double size = 0;
              double code_size = 0;  // codes are unsigned until their zero is taken off again
              for (std::size_t i = 0; i < columns; ++i) {
                sum += q[t * columns + i] * w[r * columns + i];
                size += std::abs(q[t * columns + i] * w[r * columns + i]);
                code_size = std::max(code_size, std::abs(double{w[r * columns + i]}));
              }
              ASSERT_NEAR(y[t * rows + r], sum, 2e-6 * size + 1e-6 * code_size)
                  << to_string(level) << " " << to_string(dtype) << " [" << rows << ", " << columns
                  << "]";
            }
          }
        }
      }
    }
  }
}

TEST(Matmul, Int8PairRoundsActivationsToFifteenBits) {
  ThreadPool pool(2);
  const std::size_t tokens = 3;
  const std::size_t rows = 37;
  for (CpuLevel level : levels()) {
    for (DType dtype : kQuantised) {
      const std::size_t columns = widths(dtype).back();
      const RandomMatrix weight(dtype, rows, columns, 24);
      const std::vector<float> w = to_f32(weight.view);
      std::vector<float> x = random_floats(tokens * columns, 25);
      x[5] = 300;  // an outlier, which costs its neighbours most of INT8's eight bits
      const auto y = multiply(weight.view, Precision::Int8Pair, level, pool, x, tokens);
      for (std::size_t t = 0; t < tokens; ++t) {
        for (std::size_t r = 0; r < rows; ++r) {
          double sum = 0;
          double size = 0;
          double rounding =
              0;  // half a step of the second code, 127 of which make half a first one
          double code_size = 0;
          for (std::size_t i = 0; i < columns; ++i) {
            const auto block = x.begin() + static_cast<std::ptrdiff_t>(t * columns + i / 32 * 32);
            double largest = 0;
            std::for_each(block, block + 32,
                          [&](float v) { largest = std::max(largest, std::abs(double{v})); });
            const double weight_i = w[r * columns + i];
            sum += double{x[t * columns + i]} * weight_i;
            size += std::abs(double{x[t * columns + i]} * weight_i);
            rounding += std::abs(weight_i) * largest / (127.0 * 2 * 127 * 2);
            code_size = std::max(code_size, std::abs(weight_i));
          }
          ASSERT_NEAR(y[t * rows + r], sum, rounding + 2e-6 * size + 1e-4 * code_size)
              << to_string(level) << " " << to_string(dtype);
        }
      }
    }
  }
}

TEST(Matmul, ExtremeCodesDoNotSaturate) {
  ThreadPool pool(1);
  for (CpuLevel level : levels()) {
    for (DType dtype : kQuantised) {
      const std::size_t columns = 256;
      for (int byte : {0x00, 0x7F, 0x80, 0xFF}) {
        RandomMatrix weight(dtype, 16, columns, 6);
        // All codes equal to the byte's bits, scales 1.
        std::memset(weight.bytes.data(), byte, weight.bytes.size());
        testing::set_scales(dtype, {weight.bytes.data(), weight.bytes.size()},
                            [] { return f32_to_f16(1); });
        const std::vector<float> w = to_f32(weight.view);
        for (float value : {127.0F, -127.0F}) {
          for (std::size_t tokens : {1UL, 5UL}) {
            const std::vector<float> x(tokens * columns, value);
            const auto y = multiply(weight.view, Precision::Int8, level, pool, x, tokens);
            double sum = 0;
            for (std::size_t i = 0; i < columns; ++i) sum += double{value} * w[i];
            for (float result : y) {
              ASSERT_NEAR(result, sum, 1e-6 * 256 * 127 * 128 * (dtype == DType::Q6_K ? 128 : 64))
                  << to_string(level) << " " << to_string(dtype) << " " << byte;
            }
          }
        }
      }
    }
  }
}

TEST(Matmul, AllInstructionSetsAgreeBitForBit) {
  ThreadPool pool(2);
  std::vector<DType> dtypes(std::begin(kQuantised), std::end(kQuantised));
  dtypes.insert(dtypes.end(), std::begin(kFloats), std::end(kFloats));
  for (DType dtype : dtypes) {
    for (Precision precision : {Precision::F32, Precision::Int8, Precision::Int8Pair}) {
      for (std::size_t columns : widths(dtype)) {
        const RandomMatrix weight(dtype, 37, columns, 7);
        for (std::size_t tokens : {1UL, 7UL}) {
          const std::vector<float> x = random_floats(tokens * columns, 8);
          const auto scalar = multiply(weight.view, precision, CpuLevel::Scalar, pool, x, tokens);
          for (CpuLevel level : levels()) {
            ASSERT_EQ(multiply(weight.view, precision, level, pool, x, tokens), scalar)
                << to_string(level) << " " << to_string(dtype) << " columns " << columns;
          }
        }
      }
    }
  }
}

TEST(Matmul, ResultsDependNeitherOnThreadsNorOnTokensInTheCall) {
  ThreadPool one(1);
  ThreadPool three(3);
  const std::size_t rows = 75;
  const std::size_t tokens = 210;
  std::vector<DType> dtypes(std::begin(kQuantised), std::end(kQuantised));
  dtypes.insert(dtypes.end(), std::begin(kFloats), std::end(kFloats));
  for (CpuLevel level : levels()) {
    for (DType dtype : dtypes) {
      for (Precision precision : {Precision::F32, Precision::Int8, Precision::Int8Pair}) {
        const std::size_t columns = info(dtype).block_elements == 256 ? 512 : 288;
        const RandomMatrix weight(dtype, rows, columns, 9);
        const std::vector<float> x = random_floats(tokens * columns, 10);
        const PackedMatrix packed = PackedMatrix::pack(weight.view, precision, level, one);
        std::vector<float> single(tokens * rows);
        for (std::size_t t = 0; t < tokens; ++t) {
          const Product product[] = {{&packed, single.data() + t * rows, rows}};
          matmul(one, x.data() + t * columns, columns, 1, product);
        }
        for (std::size_t count :
             {2UL, 3UL, 4UL, 5UL, 7UL, 8UL, 11UL, 13UL, 32UL, 33UL, 97UL, 210UL}) {
          std::vector<float> together(count * rows);
          const Product product[] = {{&packed, together.data(), rows}};
          matmul(three, x.data(), columns, count, product);
          ASSERT_TRUE(std::equal(together.begin(), together.end(), single.begin()))
              << to_string(level) << " " << to_string(dtype) << " " << count << " tokens";
        }
      }
    }
  }
}

TEST(Matmul, SeveralProductsWithBiasStrideAndAccumulation) {
  ThreadPool pool(2);
  const std::size_t columns = 64;
  const std::size_t tokens = 3;
  const std::vector<float> x = random_floats(tokens * 80, 11);  // rows 80 floats apart
  for (CpuLevel level : levels()) {
    const RandomMatrix q(DType::Q4_1, 48, columns, 12);
    const RandomMatrix k(DType::Q8_0, 17, columns, 13);
    const RandomMatrix v(DType::F16, 33, columns, 14);
    const PackedMatrix packed[] = {PackedMatrix::pack(q.view, Precision::F32, level, pool),
                                   PackedMatrix::pack(k.view, Precision::Int8, level, pool),
                                   PackedMatrix::pack(v.view, Precision::Int8, level, pool)};
    const std::vector<float> bias = random_floats(33, 15);
    const std::size_t stride = 100;  // q at 0, k at 48, v at 65, nothing from 98 on
    std::vector<float> y(tokens * stride, 7.0F);
    const Product products[] = {{&packed[0], y.data(), stride, nullptr, false},
                                {&packed[1], y.data() + 48, stride, nullptr, true},
                                {&packed[2], y.data() + 65, stride, bias.data(), true}};
    matmul(pool, x.data(), 80, tokens, products);
    for (std::size_t t = 0; t < tokens; ++t) {
      for (std::size_t i = 0; i < 3; ++i) {
        const std::size_t rows = packed[i].out_features();
        std::vector<float> plain(rows);
        const Product product[] = {{&packed[i], plain.data(), rows}};
        matmul(pool, x.data() + t * 80, 80, 1, product);
        const std::size_t at = t * stride + (i == 0 ? 0 : i == 1 ? 48 : 65);
        for (std::size_t r = 0; r < rows; ++r) {
          float expected = plain[r];
          if (i == 2) expected += bias[r];
          if (i >= 1) expected = 7.0F + expected;
          ASSERT_EQ(y[at + r], expected) << "product " << i << " row " << r;
        }
      }
      EXPECT_EQ(y[t * stride + 98], 7.0F);
      EXPECT_EQ(y[t * stride + 99], 7.0F);
    }
  }
}

TEST(Matmul, RunsTheForcedInstructionSet) {
  ThreadPool pool(1);
  const RandomMatrix weight(DType::Q4_K, 16, 256, 16);
  for (CpuLevel level : levels()) {
    const PackedMatrix packed = PackedMatrix::pack(weight.view, Precision::Int8, level, pool);
    EXPECT_STREQ(packed.kernel_name(), to_string(matmul_level(level)));
  }
}

TEST(Matmul, ANaNActivationSpoilsItsTokenAndNoOther) {
  ThreadPool pool(2);
  for (CpuLevel level : levels()) {
    for (DType dtype : {DType::Q8_0, DType::Q4_1, DType::F16}) {
      for (float bad :
           {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
        const RandomMatrix weight(dtype, 20, 64, 17);
        std::vector<float> x = random_floats(3 * 64, 18);
        x[64 + 40] = bad;
        const auto y = multiply(weight.view, Precision::Int8, level, pool, x, 3);
        for (std::size_t r = 0; r < 20; ++r) {
          EXPECT_TRUE(std::isfinite(y[r]));
          EXPECT_FALSE(std::isfinite(y[20 + r]));
          EXPECT_TRUE(std::isfinite(y[40 + r]));
        }
      }
    }
  }
}

TEST(Matmul, TinyAndZeroActivationsGiveZeroNotNaN) {
  ThreadPool pool(1);
  for (CpuLevel level : levels()) {
    const RandomMatrix weight(DType::Q8_0, 16, 32, 19);
    const std::vector<float> x(32, 1e-44F);
    for (float y : multiply(weight.view, Precision::Int8, level, pool, x, 1)) EXPECT_EQ(y, 0.0F);
  }
}

TEST(Matmul, PackingOwnsWhatTheFileHadAndFloatsAreViewed) {
  ThreadPool pool(2);
  for (DType dtype : kQuantised) {
    const RandomMatrix weight(dtype, 64, 512, 20);
    const PackedMatrix packed =
        PackedMatrix::pack(weight.view, Precision::Int8, best_cpu_level(), pool);
    // Three types with seven signs of eight get the eighth, IQ1_M whole bytes of scales.
    const bool grows = dtype == DType::IQ2_XXS || dtype == DType::IQ2_XS ||
                       dtype == DType::IQ3_XXS || dtype == DType::IQ1_M;
    const std::size_t file = weight.view.data.size();
    if (grows) {
      EXPECT_LT(packed.owned_bytes(), file + file / 15) << to_string(dtype);
    } else {
      EXPECT_EQ(packed.owned_bytes(), file) << to_string(dtype);
    }
  }
  for (DType dtype : kFloats) {
    const RandomMatrix weight(dtype, 64, 512, 21);
    const PackedMatrix packed =
        PackedMatrix::pack(weight.view, Precision::Int8, best_cpu_level(), pool);
    EXPECT_EQ(packed.owned_bytes(), 0U) << to_string(dtype);
  }
}

TEST(Matmul, RefusesWhatIsNoWeightMatrix) {
  ThreadPool pool(1);
  std::vector<std::byte> bytes(64);
  const TensorView words{DType::I32, Shape{4, 4}, bytes};
  EXPECT_THROW(PackedMatrix::pack(words, Precision::F32, CpuLevel::Scalar, pool), Error);
  const TensorView vector{DType::F32, Shape{16}, bytes};
  EXPECT_THROW(PackedMatrix::pack(vector, Precision::F32, CpuLevel::Scalar, pool), Error);
  const TensorView small{DType::F32, Shape{4, 5}, bytes};
  EXPECT_THROW(PackedMatrix::pack(small, Precision::F32, CpuLevel::Scalar, pool), Error);
}

}  // namespace
}  // namespace fathom::cpu
