// Products of stored weights with F32 activations, plainly: rows are dequantised to F32 on the fly.
#include "backend/cpu/matmul.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.h"
#include "tensor/quantise.h"

namespace fathom::cpu {

struct PackedMatrix::Impl {
  TensorView weight;
  std::size_t out_features = 0;
  std::size_t in_features = 0;
};

PackedMatrix::PackedMatrix() = default;
PackedMatrix::~PackedMatrix() = default;
PackedMatrix::PackedMatrix(PackedMatrix&&) noexcept = default;
PackedMatrix& PackedMatrix::operator=(PackedMatrix&&) noexcept = default;

PackedMatrix PackedMatrix::pack(const TensorView& weight, Precision /*precision*/,
                                CpuLevel /*level*/, ThreadPool& /*pool*/) {
  require(weight.shape.rank() == 2, ErrorCode::Corrupt,
          "a linear layer's weight must have two dimensions, but has shape {}",
          weight.shape.to_string());
  require(weight.data.size() == tensor_bytes(weight.dtype, weight.shape), ErrorCode::Corrupt,
          "a {} weight of shape {} takes {} bytes, but has {}", to_string(weight.dtype),
          weight.shape.to_string(), tensor_bytes(weight.dtype, weight.shape), weight.data.size());
  PackedMatrix packed;
  packed.impl_ = std::make_unique<Impl>();
  packed.impl_->weight = weight;
  packed.impl_->out_features = checked_cast<std::size_t>(weight.shape[0]);
  packed.impl_->in_features = checked_cast<std::size_t>(weight.shape[1]);
  return packed;
}

std::size_t PackedMatrix::out_features() const { return impl_ ? impl_->out_features : 0; }
std::size_t PackedMatrix::in_features() const { return impl_ ? impl_->in_features : 0; }
std::size_t PackedMatrix::owned_bytes() const { return 0; }

void matmul(ThreadPool& pool, const float* x, std::size_t x_stride, std::size_t tokens,
            std::span<const Product> products) {
  if (tokens == 0) return;
  for (const Product& product : products) {
    const PackedMatrix::Impl& weight = product.weight->impl();
    const std::size_t in = weight.in_features;
    pool.for_ranges(weight.out_features, 8, [&](std::size_t begin, std::size_t end) {
      std::vector<float> row(in);
      for (std::size_t o = begin; o < end; ++o) {
        dequantise(weight.weight.dtype, weight.weight.row(o), row);
        for (std::size_t t = 0; t < tokens; ++t) {
          const float* xt = x + t * x_stride;
          float lanes[16] = {};
          std::size_t i = 0;
          for (; i + 16 <= in; i += 16) {
            for (std::size_t l = 0; l < 16; ++l) lanes[l] += xt[i + l] * row[i + l];
          }
          float sum = product.bias != nullptr ? product.bias[o] : 0;
          for (; i < in; ++i) sum += xt[i] * row[i];
          for (float lane : lanes) sum += lane;
          float& y = product.y[t * product.y_stride + o];
          y = product.accumulate ? y + sum : sum;
        }
      }
    });
  }
}

void feed_forward(ThreadPool& pool, const FeedForward& ffn, const float* x, std::size_t tokens,
                  float* y, bool accumulate) {
  const std::size_t hidden = ffn.gate.in_features();
  const std::size_t intermediate = ffn.gate.out_features();
  std::vector<float> gate(tokens * intermediate);
  std::vector<float> up(tokens * intermediate);
  const Product in[] = {{&ffn.gate, gate.data(), intermediate, nullptr, false},
                        {&ffn.up, up.data(), intermediate, nullptr, false}};
  matmul(pool, x, hidden, tokens, in);
  for (std::size_t i = 0; i < gate.size(); ++i) {
    gate[i] = gate[i] / (1.0F + std::exp(-gate[i])) * up[i];
  }
  const Product out[] = {{&ffn.down, y, ffn.down.out_features(), nullptr, accumulate}};
  matmul(pool, gate.data(), intermediate, tokens, out);
}

void mixture_of_experts(ThreadPool& pool, std::span<const FeedForward> experts, const float* x,
                        std::size_t tokens, const std::int32_t* ids, const float* weights,
                        std::size_t per_token, float* y) {
  if (experts.empty() || tokens == 0) return;
  const std::size_t hidden = experts[0].gate.in_features();
  std::vector<float> grouped;
  std::vector<float> out;
  std::vector<std::pair<std::size_t, float>> users;  // (token, weight)
  for (std::size_t e = 0; e < experts.size(); ++e) {
    users.clear();
    for (std::size_t i = 0; i < tokens * per_token; ++i) {
      if (static_cast<std::size_t>(ids[i]) == e) users.emplace_back(i / per_token, weights[i]);
    }
    if (users.empty()) continue;
    grouped.resize(users.size() * hidden);
    out.resize(users.size() * hidden);
    for (std::size_t u = 0; u < users.size(); ++u) {
      std::copy_n(x + users[u].first * hidden, hidden, grouped.data() + u * hidden);
    }
    feed_forward(pool, experts[e], grouped.data(), users.size(), out.data(), false);
    for (std::size_t u = 0; u < users.size(); ++u) {
      float* to = y + users[u].first * hidden;
      for (std::size_t i = 0; i < hidden; ++i) to[i] += users[u].second * out[u * hidden + i];
    }
  }
}

}  // namespace fathom::cpu
