// Passes over rows beside the same operations put together of PyTorch's: values and gradients.
#include "train/torch/fused.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "train/torch/ops.h"

namespace fathom::train {
namespace {

constexpr double kTolerance = 2e-6;

/// Relative to the largest element, or to 1 where all cancels (the norm of one element).
void expect_near(const Tensor& a, const Tensor& b, const std::string& what) {
  ASSERT_EQ(a.sizes(), b.sizes()) << what;
  const double scale = std::max(1.0, b.abs().max().item<double>());
  EXPECT_LT((a - b).abs().max().item<double>() / scale, kTolerance) << what;
}

std::string fmt_part(std::size_t i) {
  return i == 0 ? ", value" : ", gradient " + std::to_string(i);
}

/// Both functions of the same inputs: what they give, and the gradients of a weighted sum of it.
template <class One, class Two>
void compare(const std::vector<Tensor>& inputs, const One& one, const Two& two,
             const std::string& what) {
  const auto run = [&](const auto& function) {
    std::vector<Tensor> own;
    for (const Tensor& input : inputs)
      own.push_back(input.detach().clone().set_requires_grad(true));
    const Tensor out = function(own);
    const Tensor weight = at::arange(out.numel(), at::kFloat).sin().view_as(out);
    (out * weight).sum().backward();
    std::vector<Tensor> all{out.detach()};
    for (const Tensor& input : own) all.push_back(input.grad());
    return all;
  };
  const std::vector<Tensor> a = run(one), b = run(two);
  for (std::size_t i = 0; i < a.size(); ++i) expect_near(a[i], b[i], what + fmt_part(i));
}

TEST(Fused, AreTheirTwinsAtAllTails) {
  at::manual_seed(3);
  // Around the widths of vectors, one row and many.
  for (const std::int64_t size : {1, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64, 130}) {
    for (const std::int64_t rows : {1, 2, 37}) {
      const std::string what = std::to_string(rows) + " x " + std::to_string(size);
      const Tensor x = at::randn({rows, size}), y = at::randn({rows, size}) * 3;
      const Tensor weight = at::randn({size});
      compare(
          {x, weight}, [](auto& t) { return fused::rms_norm(t[0], t[1], 1e-6); },
          [](auto& t) { return plain::rms_norm(t[0], t[1], 1e-6); }, "rms_norm " + what);
      compare(
          {x, y}, [](auto& t) { return fused::swiglu(t[0], t[1]); },
          [](auto& t) { return plain::swiglu(t[0], t[1]); }, "swiglu " + what);
    }
  }
}

/// BF16 has 8 bits: one rounding is within 2^-9, and PyTorch's operations round several times.
TEST(Fused, InBf16AreNearerToF32ThanTheirTwins) {
  at::manual_seed(7);
  for (const std::int64_t size : {1, 7, 16, 33, 130}) {
    const auto wide = [](const Tensor& t) { return t.to(at::kBFloat16).to(at::kFloat); };
    const Tensor x = wide(at::randn({5, size})), y = wide(at::randn({5, size}));
    const Tensor weight = at::randn({size});
    const auto near = [&](const Tensor& half, const Tensor& full, const char* what) {
      ASSERT_EQ(half.scalar_type(), at::kBFloat16);
      const Tensor allowed = full.abs() * (1.0 / 256) + 1e-6;
      EXPECT_TRUE(((half.to(at::kFloat) - full).abs() <= allowed).all().item<bool>())
          << what << " " << size;
    };
    const auto half = [](const Tensor& t) { return t.to(at::kBFloat16).set_requires_grad(true); };
    const Tensor hx = half(x), hy = half(y), fx = x.clone().set_requires_grad(true),
                 fy = y.clone().set_requires_grad(true);
    near(fused::rms_norm(hx, weight, 1e-6), plain::rms_norm(x, weight, 1e-6), "rms_norm");
    const Tensor out = fused::swiglu(hx, hy), exact = plain::swiglu(fx, fy);
    near(out, exact, "swiglu");
    out.backward(at::ones_like(out));
    exact.backward(at::ones_like(exact));
    near(hx.grad(), fx.grad(), "gate's gradient");
    near(hy.grad(), fy.grad(), "up's gradient");
    const Tensor place = at::randperm(10, at::kLong).view({5, 2}), w = at::randn({5, 2});
    const Tensor outputs = wide(at::randn({10, size}));
    near(fused::combine(outputs.to(at::kBFloat16), place, w), fused::combine(outputs, place, w),
         "combine");
  }
}

TEST(Fused, NotANumberStaysOneInBf16) {
  const Tensor x = at::full({1, 4}, std::numeric_limits<float>::quiet_NaN()).to(at::kBFloat16);
  EXPECT_TRUE(fused::swiglu(x, x).isnan().all().item<bool>());
  EXPECT_TRUE(fused::rms_norm(x, at::ones({4}), 1e-6).isnan().all().item<bool>());
}

TEST(Fused, SwigluHoldsFarOut) {
  const Tensor gate = at::tensor({-200.0F, -90.0F, -88.0F, -20.0F, 0.0F, 20.0F, 88.0F, 1000.0F});
  const Tensor up = at::full_like(gate, 2);
  compare(
      {gate, up}, [](auto& t) { return fused::swiglu(t[0], t[1]); },
      [](auto& t) { return plain::swiglu(t[0], t[1]); }, "swiglu");
}

TEST(Fused, RotationIsItsTwin) {
  at::manual_seed(4);
  for (const std::int64_t pairs : {1, 2, 5, 8, 16, 20}) {
    for (const std::int64_t plain_size : {0, 3, 32}) {
      for (const RopePairing pairing : {RopePairing::Halves, RopePairing::Interleaved}) {
        const Tensor angle = at::randn({2, 5, pairs});
        const std::pair<Tensor, Tensor> angles{angle.cos() * 1.2, angle.sin() * 1.2};
        const Tensor x = at::randn({2, 5, 3, plain_size + 2 * pairs});
        compare(
            {x}, [&](auto& t) { return fused::rotate(t[0], angles, pairing, plain_size); },
            [&](auto& t) { return plain::rotate(t[0], angles, pairing, plain_size); },
            "rotate " + std::to_string(pairs) + " after " + std::to_string(plain_size));
        // A part of wider rows, as the key's share is.
        const Tensor wide = at::randn({2, 5, plain_size + 2 * pairs + 7});
        const auto part = [&](const Tensor& t) {
          return t.narrow(-1, 4, plain_size + 2 * pairs).unsqueeze(2);
        };
        compare(
            {wide}, [&](auto& t) { return fused::rotate(part(t[0]), angles, pairing, plain_size); },
            [&](auto& t) { return plain::rotate(part(t[0]), angles, pairing, plain_size); },
            "rotate a part");
      }
    }
  }
}

/// Documents of these lengths, one after the other.
Tensor documents_of(const std::vector<std::vector<std::int64_t>>& rows) {
  std::vector<Tensor> all;
  for (const auto& lengths : rows) {
    std::vector<Tensor> parts;
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      parts.push_back(at::full({lengths[i]}, static_cast<std::int64_t>(i), at::kLong));
    }
    all.push_back(at::cat(parts));
  }
  return at::stack(all);
}

/// Where each token's document's prefix begins, or -1.
Tensor prefixes_of(const std::vector<std::vector<std::int64_t>>& documents,
                   const std::vector<std::vector<bool>>& goes_on) {
  if (goes_on.empty()) return {};
  std::vector<Tensor> rows;
  for (std::size_t r = 0; r < documents.size(); ++r) {
    std::vector<std::int64_t> row;
    std::int64_t root = 0;
    for (std::size_t d = 0; d < documents[r].size(); ++d) {
      if (!goes_on[r][d]) root = static_cast<std::int64_t>(row.size());
      row.insert(row.end(), static_cast<std::size_t>(documents[r][d]), goes_on[r][d] ? root : -1);
    }
    rows.push_back(at::tensor(row, at::kLong));
  }
  return at::stack(rows);
}

TEST(Fused, AttentionIsItsTwin) {
  at::manual_seed(5);
  struct Case {
    std::int64_t heads, kv_heads, dim, v_dim;
    std::vector<std::vector<std::int64_t>> documents;
    std::vector<std::vector<bool>> goes_on = {};  // from the last document that does not
  };
  const Case cases[] = {
      {1, 1, 1, 1, {{1}}},
      {2, 2, 48, 32, {{5, 1, 13, 2, 16, 3}, {17, 23}}},
      {6, 2, 16, 16, {{64, 1, 65}, {129, 1}}},  // blocks of queries, and one over
      {3, 1, 7, 9, {{200}, {31, 169}}},
      {4, 4, 24, 40, {{33}}},
      {2, 1, 24, 16, {{5, 3, 1, 70, 8, 9}}, {{false, true, true, true, false, true}}},
      {2, 2, 8, 8, {{66, 2, 2}, {20, 30, 20}}, {{false, true, true}, {false, false, true}}},
      // Cut into parts where a document goes on from none.
      {1, 1, 8, 8, {{300, 250, 100, 600, 10, 40}}, {{false, true, true, false, false, true}}},
  };
  for (const Case& c : cases) {
    const Tensor documents = documents_of(c.documents);
    const std::int64_t rows = documents.size(0), length = documents.size(1);
    const Tensor prefixes = prefixes_of(c.documents, c.goes_on);
    const Sight sight = sight_of(documents, documents, prefixes, at::kFloat, at::kCPU);
    ASSERT_TRUE(sight.fused);
    // In a type that the loops do not take there is a mask.
    const Sight masked = sight_of(documents, documents, prefixes, at::kDouble, at::kCPU);
    const Tensor mask = masked.mask.to(at::kFloat);
    // Values are a part of wider heads, as MLA has them.
    const Tensor q = at::randn({rows, length, c.heads, c.dim});
    const Tensor k = at::randn({rows, length, c.kv_heads, c.dim});
    const Tensor kv = at::randn({rows, length, c.kv_heads, 3 + c.v_dim});
    compare(
        {q, k, kv},
        [&](auto& t) {
          return fused::attention(t[0], t[1], t[2].narrow(-1, 3, c.v_dim), sight.starts,
                                  sight.prefixes, 0.3);
        },
        [&](auto& t) {
          return plain::attention(t[0], t[1], t[2].narrow(-1, 3, c.v_dim), mask, 0.3);
        },
        "attention of " + std::to_string(c.dim));
    // BF16 in and out, F32 within: nearer than one more rounding.
    const auto half = [](const Tensor& t) { return t.to(at::kBFloat16); };
    const Tensor wide = fused::attention(half(q).to(at::kFloat), half(k).to(at::kFloat),
                                         half(kv).to(at::kFloat).narrow(-1, 3, c.v_dim),
                                         sight.starts, sight.prefixes, 0.3);
    const Tensor narrow = fused::attention(half(q), half(k), half(kv).narrow(-1, 3, c.v_dim),
                                           sight.starts, sight.prefixes, 0.3);
    EXPECT_TRUE(narrow.equal(half(wide)));
  }
}

TEST(Fused, LongDocumentsAreLeftToPyTorch) {
  const Tensor tokens = at::zeros({1, 4000}, at::kLong);
  const Sight whole = sight_of(tokens, {}, {}, at::kFloat, at::kCPU);
  EXPECT_FALSE(whole.fused);
  EXPECT_FALSE(whole.mask.defined());
  const Sight cut = sight_of(tokens, documents_of({{3900, 100}}), {}, at::kFloat, at::kCPU);
  EXPECT_FALSE(cut.fused);
  EXPECT_TRUE(cut.mask.defined());
  EXPECT_TRUE(sight_of(tokens, documents_of({{2000, 2000}}), {}, at::kBFloat16, at::kCPU).fused);
}

TEST(Fused, KeysShareTheirTurnedPart) {
  at::manual_seed(5);
  const Tensor nope = at::randn({2, 3, 4, 7}), rope = at::randn({2, 3, 1, 6});
  const Tensor keys = join_keys(nope, rope);
  EXPECT_TRUE(keys.narrow(-1, 0, 7).equal(nope));
  for (std::int64_t head = 0; head < 4; ++head) {
    EXPECT_TRUE(keys.narrow(-1, 7, 6).narrow(2, head, 1).equal(rope));
  }
}

TEST(Fused, CombinationIsItsTwin) {
  at::manual_seed(6);
  for (const std::int64_t per_token : {1, 2, 6}) {
    for (const std::int64_t size : {1, 15, 16, 33}) {
      const std::int64_t tokens = 9;
      const Tensor outputs = at::randn({tokens * per_token, size});
      const Tensor place = at::randperm(tokens * per_token, at::kLong).view({tokens, per_token});
      const Tensor weight = at::randn({tokens, per_token}), to_y = at::randn({tokens, size});
      const Tensor chosen =
          outputs.index_select(0, place.flatten()).view({tokens, per_token, size});
      expect_near(fused::combine(outputs, place, weight), (chosen * weight.unsqueeze(-1)).sum(1),
                  "combine");
      const auto [to_outputs, to_weight] = fused::combine_back(to_y, outputs, place, weight);
      expect_near(to_weight, (chosen * to_y.unsqueeze(1)).sum(-1), "weight's gradient");
      expect_near(to_outputs.index_select(0, place.flatten()).view_as(chosen),
                  weight.unsqueeze(-1) * to_y.unsqueeze(1), "outputs' gradient");
    }
  }
}

}  // namespace
}  // namespace fathom::train
