#include "backend/cpu/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "backend/cpu/attention_table.h"
#include "backend/levels.h"
#include "backend/random_weights.h"
#include "tensor/half.h"

namespace fathom::cpu {
namespace {

using testing::GuardedBytes;
using testing::levels;
using testing::random_floats;

AttentionShape grouped(std::size_t heads, std::size_t kv_heads, std::size_t dim, DType dtype) {
  return {{1, kv_heads, dim, dim, dtype}, heads, dim, 1 / std::sqrt(static_cast<float>(dim))};
}

AttentionShape latent(std::size_t heads, std::size_t rank, std::size_t rope, DType dtype) {
  return {{1, 1, rank + rope, 0, dtype}, heads, rank, 0.1F};
}

/// Pages that fault when read past their end, and of which every byte that no token has written is
/// part of a NaN: what a kernel takes from there shows.
struct Cache {
  Cache(const AttentionShape& shape, std::size_t tokens, unsigned seed)
      : kv(shape.kv),
        k(random_floats(tokens * kv.kv_heads * kv.k_dim, seed)),
        v(random_floats(tokens * kv.kv_heads * kv.v_dim, seed + 100)) {
    for (std::size_t begin = 0; begin < tokens; begin += kPageTokens) {
      auto page = std::make_unique<GuardedBytes>(kv.layer_bytes());
      std::memset(page->data(), 0xFF, page->size());
      const std::size_t rows = std::min(kPageTokens, tokens - begin);
      const std::size_t k_width = kv.kv_heads * kv.k_dim;
      const std::size_t v_width = kv.kv_heads * kv.v_dim;
      for (std::size_t head = 0; head < kv.kv_heads; ++head) {
        store_tokens(kv, page->data(), head, 0, rows, &k[begin * k_width + head * kv.k_dim],
                     k_width, v.empty() ? nullptr : &v[begin * v_width + head * kv.v_dim], v_width);
      }
      pages.push_back(page->data());
      memory.push_back(std::move(page));
    }
    round(k, kv.k_dim);
    round(v, kv.v_dim);
  }
  /// Rows of `dim` as the cache holds them.
  void round(std::vector<float>& x, std::size_t dim) const {
    for (float& each : x) {
      if (kv.dtype == DType::BF16) each = bf16_to_f32(f32_to_bf16(each));
      if (kv.dtype == DType::F16) each = f16_to_f32(f32_to_f16(each));
    }
    if (kv.dtype != DType::Q8_0 || dim == 0) return;
    for (std::size_t row = 0; row < x.size(); row += dim) {
      for (std::size_t begin = row; begin < row + dim; begin += 32) {
        const std::size_t end = std::min(begin + 32, row + dim);
        float most = 0;
        for (std::size_t i = begin; i < end; ++i) most = std::max(most, std::abs(x[i]));
        const float scale = f16_to_f32(f32_to_f16(most / 127));
        for (std::size_t i = begin; i < end; ++i) {
          const float code = std::nearbyint(x[i] * (1 / scale));
          x[i] = std::clamp(code, -127.0F, 127.0F) * scale;
        }
      }
    }
  }
  const float* key(std::size_t token, std::size_t head) const {
    return &k[(token * kv.kv_heads + head) * kv.k_dim];
  }
  const float* value(std::size_t token, std::size_t head) const {
    return kv.latent() ? key(token, head) : &v[(token * kv.kv_heads + head) * kv.v_dim];
  }
  KvLayout kv;
  std::vector<float> k;  // [tokens, kv_heads, k_dim], as the cache holds them
  std::vector<float> v;
  std::vector<std::unique_ptr<GuardedBytes>> memory;
  std::vector<const std::byte*> pages;
};

std::vector<double> exact(const AttentionShape& shape, const Cache& cache, std::size_t first,
                          std::size_t tokens, const std::vector<float>& q) {
  const std::size_t k_dim = shape.kv.k_dim;
  std::vector<double> out(tokens * shape.heads * shape.v_dim, 0.0);
  for (std::size_t t = 0; t < tokens; ++t) {
    for (std::size_t h = 0; h < shape.heads; ++h) {
      const std::size_t group = h / (shape.heads / shape.kv.kv_heads);
      std::vector<double> p(first + t + 1);
      double most = -1e300;
      for (std::size_t j = 0; j < p.size(); ++j) {
        const float* k = cache.key(j, group);
        for (std::size_t i = 0; i < k_dim; ++i) {
          p[j] += double{q[(t * shape.heads + h) * k_dim + i]} * k[i];
        }
        p[j] *= shape.scale;
        most = std::max(most, p[j]);
      }
      double sum = 0;
      for (double& x : p) sum += x = std::exp(x - most);
      for (std::size_t j = 0; j < p.size(); ++j) {
        const float* v = cache.value(j, group);
        for (std::size_t i = 0; i < shape.v_dim; ++i) {
          out[(t * shape.heads + h) * shape.v_dim + i] += p[j] / sum * v[i];
        }
      }
    }
  }
  return out;
}

std::vector<float> attend(ThreadPool& pool, CpuLevel level, const AttentionShape& shape,
                          const Cache& cache, std::size_t first, std::size_t tokens,
                          const std::vector<float>& q) {
  GuardedBytes in(q.size() * 4);
  std::memcpy(in.data(), q.data(), in.size());
  GuardedBytes out(tokens * shape.heads * shape.v_dim * 4);
  const AttentionSpan span[] = {{cache.pages, first, tokens, in.floats(), out.floats()}};
  attention(pool, level, shape, span);
  return {out.floats(), out.floats() + out.size() / 4};
}

const std::vector<AttentionShape>& shapes() {
  static const std::vector<AttentionShape> all = {
      grouped(4, 2, 16, DType::F32),    grouped(9, 3, 64, DType::BF16),
      grouped(6, 6, 5, DType::F32),     grouped(6, 2, 33, DType::BF16),
      grouped(8, 1, 7, DType::BF16),    grouped(2, 2, 128, DType::BF16),
      grouped(20, 1, 80, DType::BF16),  grouped(13, 1, 33, DType::F32),
      latent(5, 32, 8, DType::F32),     latent(3, 30, 3, DType::BF16),
      latent(16, 128, 64, DType::BF16), latent(70, 48, 7, DType::BF16),
      grouped(9, 3, 64, DType::F16),    grouped(8, 1, 7, DType::F16),
      latent(5, 30, 3, DType::F16),     grouped(6, 2, 33, DType::Q8_0),
      grouped(8, 1, 7, DType::Q8_0),    grouped(4, 2, 80, DType::Q8_0),
      latent(5, 72, 3, DType::Q8_0),    latent(20, 30, 3, DType::Q8_0)};
  return all;
}

/// Shapes whose queries and weights may be rounded: odd k_dims, rows and columns that fill no tile.
std::vector<AttentionShape> rounded_shapes() {
  std::vector<AttentionShape> all = {
      grouped(9, 3, 64, DType::BF16),   grouped(6, 2, 48, DType::BF16),
      grouped(2, 2, 128, DType::BF16),  grouped(40, 1, 80, DType::BF16),
      latent(16, 128, 64, DType::BF16), latent(70, 48, 16, DType::BF16),
      latent(5, 208, 32, DType::BF16)};
  AttentionShape odd = grouped(8, 1, 7, DType::BF16);
  odd.kv.v_dim = odd.v_dim = 16;
  all.push_back(odd);
  for (AttentionShape& shape : all) shape.rounded = true;
  return all;
}

TEST(Attention, IsTheSoftmaxOverWhatEachTokenMaySee) {
  ThreadPool pool(2);
  for (CpuLevel level : levels()) {
    for (const AttentionShape& shape : shapes()) {
      for (auto [first, tokens] : {std::pair{0UL, 1UL},
                                   {0UL, 70UL},
                                   {63UL, 1UL},
                                   {64UL, 2UL},
                                   {200UL, 130UL},
                                   {1030UL, 1UL}}) {
        const Cache cache(shape, first + tokens, 1);
        const auto q = random_floats(tokens * shape.heads * shape.kv.k_dim, 2);
        const auto out = attend(pool, level, shape, cache, first, tokens, q);
        const auto expected = exact(shape, cache, first, tokens, q);
        for (std::size_t i = 0; i < out.size(); ++i) {
          ASSERT_NEAR(out[i], expected[i], 3e-6) << to_string(level) << " k_dim " << shape.kv.k_dim
                                                 << " first " << first << " at " << i;
        }
      }
    }
  }
}

TEST(Attention, LevelsThreadsAndChunkingAgreeBitForBit) {
  ThreadPool one(1);
  ThreadPool three(3);
  const std::size_t context = 600;
  for (const AttentionShape& shape : shapes()) {
    const Cache cache(shape, context, 3);
    const std::size_t row = shape.heads * shape.kv.k_dim;
    const auto q = random_floats(context * row, 4);
    const auto all = attend(one, best_cpu_level(), shape, cache, 0, context, q);
    const auto same = [&](ThreadPool& pool, CpuLevel level, std::size_t first, std::size_t tokens) {
      const std::vector<float> part(
          q.begin() + static_cast<std::ptrdiff_t>(first * row),
          q.begin() + static_cast<std::ptrdiff_t>((first + tokens) * row));
      const auto out = attend(pool, level, shape, cache, first, tokens, part);
      return std::equal(
          out.begin(), out.end(),
          all.begin() + static_cast<std::ptrdiff_t>(first * shape.heads * shape.v_dim));
    };
    EXPECT_TRUE(same(three, best_cpu_level(), 0, context));
    for (CpuLevel level : levels()) {
      EXPECT_TRUE(same(three, level, 599, 1)) << to_string(level) << " k_dim " << shape.kv.k_dim;
      EXPECT_TRUE(same(one, level, 599, 1)) << to_string(level) << " k_dim " << shape.kv.k_dim;
      EXPECT_TRUE(same(three, level, 250, 17)) << to_string(level) << " k_dim " << shape.kv.k_dim;
      EXPECT_TRUE(same(three, level, 0, 65)) << to_string(level) << " k_dim " << shape.kv.k_dim;
    }
  }
}

/// Queries and weights of BF16 have 8 bits of mantissa: half a step is 2^-9. Rounded weights move
/// an output by at most that share of the largest value, rounded queries each score by that share
/// of the products it is made of.
TEST(Attention, RoundedToBf16ItIsWithinTheBoundsOfRounding) {
  ThreadPool pool(2);
  for (CpuLevel level : levels()) {
    if (attention_table(level).rounded.multiply == nullptr) continue;
    for (AttentionShape shape : rounded_shapes()) {
      for (auto [first, tokens] :
           {std::pair{0UL, 1UL}, {0UL, 70UL}, {200UL, 130UL}, {1030UL, 1UL}}) {
        const Cache cache(shape, first + tokens, 11);
        const auto q = random_floats(tokens * shape.heads * shape.kv.k_dim, 12);
        const auto out = attend(pool, level, shape, cache, first, tokens, q);
        const auto expected = exact(shape, cache, first, tokens, q);
        double worst = 0;
        double total = 0;
        double size = 0;
        for (std::size_t i = 0; i < out.size(); ++i) {
          const double error = std::abs(out[i] - expected[i]);
          worst = std::max(worst, error);
          total += error * error;
          size += expected[i] * expected[i];
        }
        // A single key weighs 1 whatever its score.
        EXPECT_TRUE(total > 0 || first + tokens == 1) << "nothing was rounded";
        EXPECT_LT(std::sqrt(total / size), 0x1p-8)
            << to_string(level) << " k_dim " << shape.kv.k_dim << " first " << first;
        EXPECT_LT(worst, 0.03) << to_string(level) << " k_dim " << shape.kv.k_dim;
      }
    }
  }
}

/// Tiles all share an order of sums; vectors of pairs have one of their own.
TEST(Attention, RoundedToBf16ThreadsChunkingAndTileLevelsAgreeBitForBit) {
  ThreadPool one(1);
  ThreadPool three(3);
  const std::size_t context = 600;
  for (const AttentionShape& shape : rounded_shapes()) {
    const Cache cache(shape, context, 13);
    const std::size_t row = shape.heads * shape.kv.k_dim;
    const auto q = random_floats(context * row, 14);
    for (CpuLevel level : levels()) {
      if (attention_table(level).rounded.multiply == nullptr) continue;
      const CpuLevel reference = level == CpuLevel::Amx ? CpuLevel::TileTwin : level;
      const auto all = attend(one, reference, shape, cache, 0, context, q);
      for (auto [first, tokens] :
           {std::pair{599UL, 1UL}, {250UL, 17UL}, {0UL, 65UL}, {3UL, 400UL}}) {
        for (ThreadPool* pool : {&one, &three}) {
          const std::vector<float> part(
              q.begin() + static_cast<std::ptrdiff_t>(first * row),
              q.begin() + static_cast<std::ptrdiff_t>((first + tokens) * row));
          const auto out = attend(*pool, level, shape, cache, first, tokens, part);
          EXPECT_TRUE(std::equal(
              out.begin(), out.end(),
              all.begin() + static_cast<std::ptrdiff_t>(first * shape.heads * shape.v_dim)))
              << to_string(level) << " k_dim " << shape.kv.k_dim << " first " << first;
        }
      }
    }
  }
}

/// sum + a * b of both BF16 of a word, in doubles, and of their sizes.
struct PairSum {
  double sum = 0;
  double size = 0;
  void add(const std::uint16_t* a, const std::uint16_t* b) {
    for (int i = 0; i < 2; ++i) {
      const double product = double{bf16_to_f32(a[i])} * bf16_to_f32(b[i]);
      sum += product;
      size += std::abs(product);
    }
  }
};

TEST(Attention, ProductsOfPairsEqualTheScalarTwinAtAllTails) {
  for (CpuLevel level : levels()) {
    const RoundedKernels& kernels = attention_table(level).rounded;
    if (kernels.multiply == nullptr) continue;
    for (std::size_t steps : {1UL, 2UL, 15UL, 16UL, 33UL}) {
      for (std::size_t groups = 1; groups <= 9; ++groups) {
        for (std::size_t rows = 1; rows <= 34; ++rows) {
          const std::size_t row_bytes = groups * 64;
          const std::size_t x_row = (2 * steps + 31) / 32 * 32;
          const std::size_t padded_rows = (rows + 15) / 16 * 16;
          std::vector<std::uint16_t> x(padded_rows * x_row, 0);
          std::vector<std::uint16_t> panel(steps * groups * 32);
          const auto numbers = random_floats(rows * 2 * steps + panel.size(), 20);
          for (std::size_t i = 0; i < rows * 2 * steps; ++i) {
            x[i / (2 * steps) * x_row + i % (2 * steps)] = f32_to_bf16(numbers[i]);
          }
          for (std::size_t i = 0; i < panel.size(); ++i) {
            panel[i] = f32_to_bf16(numbers[rows * 2 * steps + i]);
          }
          GuardedBytes guarded(panel.size() * 2);
          std::memcpy(guarded.data(), panel.data(), guarded.size());
          std::vector<float> sums(rows * groups * 16, 0.5F);
          RoundedProduct product;
          product.panel = guarded.data();
          product.panel_step = row_bytes;
          product.panel_group = 64;
          product.steps = steps;
          product.groups = groups;
          product.x = x.data();
          product.x_row = x_row;
          product.rows = rows;
          product.sums = sums.data();
          product.sums_row = groups * 16;
          product.add = rows % 2 == 1;
          product.fetch = guarded.data();
          product.fetch_bytes = guarded.size();
          kernels.open();
          kernels.multiply(product);
          kernels.close();
          for (std::size_t i = 0; i < sums.size(); ++i) {
            PairSum expected;
            if (product.add) expected.sum = expected.size = 0.5;
            const std::size_t lane = i % (groups * 16);
            for (std::size_t k = 0; k < steps; ++k) {
              expected.add(&x[i / (groups * 16) * x_row + 2 * k],
                           &panel[(k * groups * 16 + lane) * 2]);
            }
            ASSERT_NEAR(sums[i], expected.sum,
                        expected.size * static_cast<double>(2 * steps + 2) * 0x1p-24)
                << to_string(level) << " steps " << steps << " groups " << groups << " rows "
                << rows << " at " << i;
          }
        }
      }
    }
  }
}

TEST(Attention, SpansOfSeveralSequencesDoNotMix) {
  ThreadPool pool(2);
  const AttentionShape shape = grouped(4, 2, 32, DType::BF16);
  const Cache a(shape, 300, 5);
  const Cache b(shape, 40, 6);
  const auto qa = random_floats(shape.heads * shape.kv.k_dim, 7);
  const auto qb = random_floats(40 * shape.heads * shape.kv.k_dim, 8);
  std::vector<float> out_a(shape.heads * shape.v_dim);
  std::vector<float> out_b(40 * shape.heads * shape.v_dim);
  const AttentionSpan spans[] = {{a.pages, 299, 1, qa.data(), out_a.data()},
                                 {b.pages, 0, 40, qb.data(), out_b.data()},
                                 {b.pages, 40, 0, nullptr, nullptr}};
  attention(pool, best_cpu_level(), shape, spans);
  EXPECT_EQ(out_a, attend(pool, best_cpu_level(), shape, a, 299, 1, qa));
  EXPECT_EQ(out_b, attend(pool, best_cpu_level(), shape, b, 0, 40, qb));
}

TEST(Attention, LargeScoresDoNotOverflow) {
  ThreadPool pool(1);
  AttentionShape shape = grouped(1, 1, 16, DType::F32);
  shape.scale = 1000;
  const Cache cache(shape, 100, 9);
  const auto q = random_floats(16, 10);
  for (CpuLevel level : levels()) {
    const auto out = attend(pool, level, shape, cache, 99, 1, q);
    const auto expected = exact(shape, cache, 99, 1, q);
    for (std::size_t i = 0; i < 16; ++i) EXPECT_NEAR(out[i], expected[i], 1e-3);
  }
}

TEST(Attention, RunsTheForcedInstructionSet) {
  for (CpuLevel level : levels()) {
    EXPECT_STREQ(attention_table(level).name, to_string(attention_level(level)));
  }
}

TEST(Attention, RefusesWhatItCannotRead) {
  ThreadPool pool(1);
  EXPECT_THROW(attention(pool, CpuLevel::Scalar, grouped(4, 2, 16, DType::Q4_0), {}), Error);
  EXPECT_THROW(attention(pool, CpuLevel::Scalar, grouped(4, 3, 16, DType::F32), {}), Error);
  AttentionShape backwards = grouped(4, 2, 16, DType::F32);
  backwards.scale = -1;
  EXPECT_THROW(attention(pool, CpuLevel::Scalar, backwards, {}), Error);
}

}  // namespace
}  // namespace fathom::cpu
