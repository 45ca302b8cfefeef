#include "train/torch/ops.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "config/rope.h"
#include "train/torch/fused.h"

namespace fathom::train {

Tensor project(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  const auto type = x.scalar_type();
  return at::linear(x, weight.to(type), bias.defined() ? bias.to(type) : bias);
}

RotaryTable::RotaryTable(const RopeConfig& rope, std::int64_t positions, const at::Device& device) {
  const std::vector<float> frequencies = rope_frequencies(rope);
  const auto pairs = static_cast<std::int64_t>(frequencies.size());
  cosines_ = at::empty({positions, pairs}, at::kFloat);
  sines_ = at::empty({positions, pairs}, at::kFloat);
  auto* cosine = cosines_.data_ptr<float>();
  auto* sine = sines_.data_ptr<float>();
  const auto factor = static_cast<float>(rope.attention_factor);
  for (std::int64_t position = 0; position < positions; ++position) {
    for (const float frequency : frequencies) {
      // The angle is rounded to F32, as the engine does; its cosine is then exact to F32.
      const double angle = static_cast<double>(static_cast<float>(position) * frequency);
      *cosine++ = static_cast<float>(std::cos(angle)) * factor;
      *sine++ = static_cast<float>(std::sin(angle)) * factor;
    }
  }
  cosines_ = cosines_.to(device);
  sines_ = sines_.to(device);
}

std::pair<Tensor, Tensor> RotaryTable::at(const Tensor& positions) const {
  const Tensor here = positions.to(cosines_.device());
  return {at::embedding(cosines_, here), at::embedding(sines_, here)};
}

// --- one pass where it can be, else PyTorch's
// ------------------------------------------------------

Tensor rms_norm(const Tensor& x, const Tensor& weight, double epsilon) {
  return fused::fits(x) ? fused::rms_norm(x, weight, epsilon) : plain::rms_norm(x, weight, epsilon);
}

Tensor swiglu(const Tensor& gate, const Tensor& up) {
  return fused::fits(gate) ? fused::swiglu(gate, up) : plain::swiglu(gate, up);
}

Tensor rotate(const Tensor& x, const std::pair<Tensor, Tensor>& angles, RopePairing pairing,
              std::int64_t plain) {
  return fused::fits(x) ? fused::rotate(x, angles, pairing, plain)
                        : plain::rotate(x, angles, pairing, plain);
}

namespace plain {

Tensor rms_norm(const Tensor& x, const Tensor& weight, double epsilon) {
  const Tensor wide = x.to(at::kFloat);
  const Tensor scale = at::rsqrt(wide.square().mean(-1, true) + epsilon);
  return (wide * scale * weight).to(x.scalar_type());
}

Tensor swiglu(const Tensor& gate, const Tensor& up) { return at::silu(gate) * up; }

Tensor rotate(const Tensor& x, const std::pair<Tensor, Tensor>& angles, RopePairing pairing,
              std::int64_t plain) {
  const Tensor cosine = angles.first.unsqueeze(2), sine = angles.second.unsqueeze(2);
  const std::int64_t pairs = (x.size(-1) - plain) / 2;
  const Tensor wide = x.narrow(-1, plain, 2 * pairs).to(at::kFloat);
  Tensor turned;
  if (pairing == RopePairing::Interleaved) {
    const Tensor split = wide.unflatten(-1, {pairs, 2});
    const Tensor a = split.select(-1, 0), b = split.select(-1, 1);
    turned = at::stack({a * cosine - b * sine, a * sine + b * cosine}, -1).flatten(-2);
  } else {
    const Tensor a = wide.narrow(-1, 0, pairs), b = wide.narrow(-1, pairs, pairs);
    turned = at::cat({a * cosine - b * sine, a * sine + b * cosine}, -1);
  }
  turned = turned.to(x.scalar_type());
  return plain == 0 ? turned : at::cat({x.narrow(-1, 0, plain), turned}, -1);
}

}  // namespace plain

// --- attention -----------------------------------------------------------------------------------

Tensor join_keys(const Tensor& nope, const Tensor& rope) {
  return at::cat({nope, rope.expand({-1, -1, nope.size(2), -1})}, -1);
}

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
/// Scores of a block of queries against all keys should stay in a core's cache.
constexpr std::int64_t kLongestFused = 2048;

}  // namespace

Sight sight_of(const Tensor& tokens, const Tensor& documents, const Tensor& prefixes,
               at::ScalarType type, const at::Device& device) {
  const std::int64_t rows = tokens.size(0), length = tokens.size(1);
  Sight sight;
  sight.starts = at::zeros({rows, length}, at::kLong);
  std::int64_t longest = length;
  if (prefixes.defined()) sight.prefixes = prefixes.to(at::kCPU).contiguous();
  if (documents.defined()) {
    const Tensor host = documents.to(at::kCPU).contiguous();
    const auto* document = host.const_data_ptr<std::int64_t>();
    auto* start = sight.starts.data_ptr<std::int64_t>();
    longest = 0;
    for (std::int64_t r = 0; r < rows; ++r, document += length, start += length) {
      for (std::int64_t t = 0; t < length; ++t) {
        start[t] = t > 0 && document[t] == document[t - 1] ? start[t - 1] : t;
        longest = std::max(longest, t + 1 - start[t]);
      }
    }
  }
  const bool fits = type == at::kFloat || type == at::kBFloat16;
  sight.fused = device.is_cpu() && fits && longest <= kLongestFused;
  if (documents.defined() && !sight.fused) {
    const Tensor start = sight.starts.to(device);
    Tensor seen = (start.unsqueeze(1) == start.unsqueeze(2)).tril();
    if (prefixes.defined()) {
      seen = seen.logical_or(prefixes.to(device).unsqueeze(2) == start.unsqueeze(1));
    }
    sight.mask = at::zeros(seen.sizes(), at::device(device).dtype(type))
                     .masked_fill_(seen.logical_not(), -kInfinity)
                     .unsqueeze(1);
  }
  return sight;
}

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const Sight& sight,
                 double scale) {
  return sight.fused ? fused::attention(q, k, v, sight.starts, sight.prefixes, scale)
                     : plain::attention(q, k, v, sight.mask, scale);
}

Tensor plain::attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask,
                        double scale) {
  // PyTorch's kernels want values as wide as keys; what is added is zero.
  const std::int64_t width = std::max(q.size(-1), v.size(-1));
  const auto heads_first = [&](const Tensor& x) {
    const std::int64_t missing = width - x.size(-1);
    return (missing > 0 ? at::constant_pad_nd(x, {0, missing}) : x).transpose(1, 2);
  };
  std::optional<Tensor> seen;
  if (mask.defined()) seen = mask;
  const Tensor out = at::scaled_dot_product_attention(
      heads_first(q), heads_first(k), heads_first(v), seen, 0.0, /*is_causal=*/!seen.has_value(),
      scale, /*enable_gqa=*/q.size(2) != k.size(2));
  return out.narrow(-1, 0, v.size(-1)).transpose(1, 2).flatten(2);
}

}  // namespace fathom::train
