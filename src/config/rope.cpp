#include "config/rope.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>

namespace fathom {
namespace {

/// The pair, as a real number, that turns `rotations` times over the original context.
double correction_pair(const RopeConfig& rope, double rotations) {
  const double original = static_cast<double>(rope.original_max_position_embeddings);
  return static_cast<double>(rope.dims) * std::log(original / (rotations * 2 * std::numbers::pi)) /
         (2 * std::log(rope.theta));
}

void scale_yarn(const RopeConfig& rope, std::vector<float>& frequencies) {
  const double low = std::max(std::floor(correction_pair(rope, rope.beta_fast)), 0.0);
  double high = std::min(std::ceil(correction_pair(rope, rope.beta_slow)),
                         static_cast<double>(rope.dims - 1));
  if (low == high) high += 0.001;  // as the paper's code does, against dividing by zero
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    const float position = static_cast<float>(static_cast<double>(i) - low);
    const float ramp = std::clamp(position / static_cast<float>(high - low), 0.0F, 1.0F);
    const float keep = 1.0F - ramp;  // 1: fast pairs stay as trained; 0: slow ones are stretched
    const float stretched = frequencies[i] / static_cast<float>(rope.factor);
    frequencies[i] = stretched * (1.0F - keep) + frequencies[i] * keep;
  }
}

void scale_llama3(const RopeConfig& rope, std::vector<float>& frequencies) {
  const double original = static_cast<double>(rope.original_max_position_embeddings);
  const double low_wavelength = original / rope.low_freq_factor;
  const double high_wavelength = original / rope.high_freq_factor;
  for (float& frequency : frequencies) {
    const double wavelength = 2 * std::numbers::pi / static_cast<double>(frequency);
    if (wavelength < high_wavelength) continue;
    if (wavelength > low_wavelength) {
      frequency = static_cast<float>(static_cast<double>(frequency) / rope.factor);
      continue;
    }
    const double smooth = (original / wavelength - rope.low_freq_factor) /
                          (rope.high_freq_factor - rope.low_freq_factor);
    frequency = static_cast<float>((1 - smooth) * static_cast<double>(frequency) / rope.factor +
                                   smooth * static_cast<double>(frequency));
  }
}

}  // namespace

double yarn_mscale(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

std::vector<float> rope_frequencies(const RopeConfig& rope) {
  std::vector<float> frequencies(static_cast<std::size_t>(rope.dims / 2));
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(rope.dims);
    frequencies[i] = 1.0F / static_cast<float>(std::pow(rope.theta, static_cast<double>(exponent)));
  }
  switch (rope.scaling) {
    case RopeScaling::None:
      break;
    case RopeScaling::Linear:
      for (float& frequency : frequencies) frequency /= static_cast<float>(rope.factor);
      break;
    case RopeScaling::Yarn:
      scale_yarn(rope, frequencies);
      break;
    case RopeScaling::Llama3:
      scale_llama3(rope, frequencies);
      break;
  }
  for (std::size_t i = 0; i < rope.frequency_divisors.size(); ++i) {
    frequencies[i] /= rope.frequency_divisors[i];
  }
  return frequencies;
}

}  // namespace fathom
