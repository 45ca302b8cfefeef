// Encoders of IQ4_NL and IQ4_XS, whose sixteen values are uneven (lattices.h).
//
// As everywhere: trial scales around the one that spans the data, each refitted to the codes it
// gives, the smallest weighted error wins.
#include <algorithm>
#include <array>
#include <cmath>

#include "tensor/block_fit.h"
#include "tensor/encode.h"
#include "tensor/lattices.h"

namespace fathom::encode {
namespace {

constexpr std::size_t kHalves = 512;

/// The code nearest to v, by the half-integer below it: every border between two values is a
/// multiple of a half.
constexpr auto kNearest = [] {
  std::array<std::uint8_t, kHalves> codes{};
  for (std::size_t h = 0; h < kHalves; ++h) {
    const int twice = static_cast<int>(h) - 256;
    std::uint8_t code = 0;
    for (std::size_t c = 0; c + 1 < 16; ++c) {
      if (twice >= lattice::kIq4Values[c] + lattice::kIq4Values[c + 1]) {
        code = static_cast<std::uint8_t>(c + 1);
      }
    }
    codes[h] = code;
  }
  return codes;
}();

std::uint8_t nearest_code(float v) {
  const float halves = std::clamp(2 * v + 256, 0.0F, static_cast<float>(kHalves - 1));
  return kNearest[static_cast<std::size_t>(halves)];
}

struct Fit {
  double scale = 0;
  double gain = 0;  // what the scale explains of the sum of w x x
  double wqq = 0;
};

/// Codes x at 1 / inverse, then fits the scale.
Fit attempt(const float* x, const float* w, float inverse) {
  float wqx[4] = {}, wqq[4] = {};
  for (std::size_t i = 0; i < kBlock; ++i) {
    const float q = lattice::kIq4Values[nearest_code(x[i] * inverse)];
    wqx[i % 4] += w[i] * q * x[i];
    wqq[i % 4] += w[i] * q * q;
  }
  const double product = (wqx[0] + wqx[2]) + (wqx[1] + wqx[3]);
  const double square = (wqq[0] + wqq[2]) + (wqq[1] + wqq[3]);
  if (!(square > 0)) return {};
  return {product / square, product * product / square, square};
}

/// The scale of either sign that fits 32 elements best.
Fit fit_scale(const float* x, const float* w) {
  const auto by_magnitude = [](float a, float b) { return std::fabs(a) < std::fabs(b); };
  const float extreme = *std::max_element(x, x + kBlock, by_magnitude);
  Fit best;
  if (extreme == 0) return best;
  const auto keep = [&](float inverse) {
    const Fit fit = attempt(x, w, inverse);
    if (!(fit.gain > best.gain)) return false;
    best = fit;
    return true;
  };
  for (int k = -9; k <= 12; ++k) {
    const float stretch = 1 + 0.02F * static_cast<float>(k);
    keep(-127 * stretch / extreme);
    keep(113 * stretch / extreme);
  }
  for (int round = 0; round < fit::kPolish && best.scale != 0; ++round) {
    if (!keep(static_cast<float>(1 / best.scale))) break;
  }
  return best;
}

/// Writes the codes and returns the error, less the sum of w x x, for a given scale.
double code(const float* x, const float* w, float scale, std::uint8_t* codes, double& wqx,
            double& wqq) {
  const float inverse = scale != 0 ? 1 / scale : 0;
  wqx = wqq = 0;
  for (std::size_t i = 0; i < kBlock; ++i) {
    codes[i] = nearest_code(x[i] * inverse);
    const double q = lattice::kIq4Values[codes[i]];
    wqx += w[i] * q * x[i];
    wqq += w[i] * q * q;
  }
  return scale * (scale * wqq - 2 * wqx);
}

template <std::size_t N>
float weigh(const float* x, const float* importance, DType dtype, float (&w)[N]) {
  float largest = 0;
  double squares = 0;
  for (std::size_t i = 0; i < N; ++i) {
    largest = std::max(largest, std::fabs(x[i]));
    squares += static_cast<double>(x[i]) * x[i];
  }
  require_codable(largest, dtype);
  if (importance != nullptr) {
    weigh_by_importance(x, importance, w);
    return largest;
  }
  double raw[N];
  for (std::size_t i = 0; i < N; ++i) raw[i] = static_cast<double>(x[i]) * x[i] + squares / N;
  normalise(raw, w);
  return largest;
}

void pack_nibbles(const std::uint8_t* codes, std::uint8_t* out) {
  for (std::size_t i = 0; i < kBlock / 2; ++i) {
    out[i] = static_cast<std::uint8_t>(codes[i] | codes[i + 16] << 4);
  }
}

}  // namespace

void block(const float* x, const float* importance, BlockIQ4_NL& out) {
  out = {};
  float w[kBlock];
  std::uint8_t codes[kBlock];
  if (weigh(x, importance, DType::IQ4_NL, w) < 1e-12F) return;
  out.d = scale_bits(static_cast<float>(fit_scale(x, w).scale), DType::IQ4_NL);
  double wqx, wqq;
  code(x, w, f16_to_f32(out.d), codes, wqx, wqq);
  pack_nibbles(codes, out.q);
}

void block(const float* x, const float* importance, BlockIQ4_XS& out) {
  out = {};
  float w[kSuperBlock];
  if (weigh(x, importance, DType::IQ4_XS, w) < 1e-12F) return;
  Fit best[8];
  double most = 0;
  for (std::size_t s = 0; s < 8; ++s) {
    best[s] = fit_scale(x + 32 * s, w + 32 * s);
    if (std::fabs(best[s].scale) > std::fabs(most)) most = best[s].scale;
  }
  // Factors are -32..31: the largest scale takes the longer side.
  float d = 0;
  double least = HUGE_VAL;
  for (int k = -6; k <= 12; ++k) {
    const double trial = most / (-32 * (1 + 0.02 * k));
    double error = 0;
    for (const Fit& fit : best) {
      const double factor = std::clamp(std::nearbyint(fit.scale / trial), -32.0, 31.0);
      error += fit.wqq * (fit.scale - trial * factor) * (fit.scale - trial * factor);
    }
    if (error < least) {
      least = error;
      d = static_cast<float>(trial);
    }
  }
  int factors[8] = {};
  std::uint8_t codes[kSuperBlock];
  for (int round = 0; round < 2; ++round) {
    out.d = scale_bits(d, DType::IQ4_XS);
    const float unit = f16_to_f32(out.d);
    if (unit == 0) break;
    double sum_wqx = 0, sum_wqq = 0;
    for (std::size_t s = 0; s < 8; ++s) {
      const double wanted = round == 0 ? best[s].scale : unit * static_cast<double>(factors[s]);
      const int middle = static_cast<int>(std::clamp(std::nearbyint(wanted / unit), -32.0, 31.0));
      double smallest = HUGE_VAL, wqx = 0, wqq = 0;
      for (int factor = std::max(-32, middle - 1); factor <= std::min(31, middle + 1); ++factor) {
        std::uint8_t trial[kBlock];
        double a, b;
        const double error =
            code(x + 32 * s, w + 32 * s, unit * static_cast<float>(factor), trial, a, b);
        if (error >= smallest) continue;
        smallest = error;
        factors[s] = factor;
        wqx = a;
        wqq = b;
        std::copy_n(trial, kBlock, codes + 32 * s);
      }
      sum_wqx += factors[s] * wqx;
      sum_wqq += static_cast<double>(factors[s]) * factors[s] * wqq;
    }
    // Codes and factors fixed, the scale once more; the second round rounds to it.
    if (sum_wqx != 0 && sum_wqq > 0) d = static_cast<float>(sum_wqx / sum_wqq);
  }
  unsigned high = 0;
  for (std::size_t s = 0; s < 8; ++s) {
    const auto stored = static_cast<unsigned>(factors[s] + 32);
    out.scales_l[s / 2] =
        static_cast<std::uint8_t>(out.scales_l[s / 2] | (stored & 15U) << (4 * (s % 2)));
    high |= (stored >> 4) << (2 * s);
    pack_nibbles(codes + 32 * s, out.q + 16 * s);
  }
  out.scales_h = static_cast<std::uint16_t>(high);
}

}  // namespace fathom::encode
