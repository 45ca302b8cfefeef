#include "train/torch/ops.h"

#include <cmath>
#include <vector>

#include "config/rope.h"

namespace fathom::train {

Tensor rms_norm(const Tensor& x, const Tensor& weight, double epsilon) {
  const Tensor wide = x.to(at::kFloat);
  const Tensor scale = at::rsqrt(wide.square().mean(-1, true) + epsilon);
  return (wide * scale * weight).to(x.scalar_type());
}

Tensor project(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  const auto type = x.scalar_type();
  return at::linear(x, weight.to(type), bias.defined() ? bias.to(type) : bias);
}

Tensor swiglu(const Tensor& both) {
  const std::int64_t half = both.size(-1) / 2;
  return at::silu(both.narrow(-1, 0, half)) * both.narrow(-1, half, half);
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
  return {at::embedding(cosines_, positions), at::embedding(sines_, positions)};
}

Tensor rotate(const Tensor& x, const std::pair<Tensor, Tensor>& angles, RopePairing pairing) {
  const Tensor cosine = angles.first.unsqueeze(2), sine = angles.second.unsqueeze(2);
  const std::int64_t pairs = x.size(-1) / 2;
  const Tensor wide = x.to(at::kFloat);
  Tensor turned;
  if (pairing == RopePairing::Interleaved) {
    const Tensor split = wide.unflatten(-1, {pairs, 2});
    const Tensor a = split.select(-1, 0), b = split.select(-1, 1);
    turned = at::stack({a * cosine - b * sine, a * sine + b * cosine}, -1).flatten(-2);
  } else {
    const Tensor a = wide.narrow(-1, 0, pairs), b = wide.narrow(-1, pairs, pairs);
    turned = at::cat({a * cosine - b * sine, a * sine + b * cosine}, -1);
  }
  return turned.to(x.scalar_type());
}

}  // namespace fathom::train
