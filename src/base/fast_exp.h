// e^x for many numbers: a few instructions that a compiler can do for several of them at once,
// where the C library's function takes one at a time.
#pragma once

#include <bit>
#include <cstdint>

namespace fathom {

/// For x <= 0: within 2 units in the last place, exactly 1 for 0, and 0 below -87 (where the result
/// would be under 1.7e-38). The polynomial is Cephes's (S. Moshier, expf.c), of degree 7 in what is
/// left of x after whole powers of 2.
inline float exp_of_nonpositive(float x) {
  constexpr float kLog2E = 1.44269504088896341F;
  constexpr float kLn2High = 0.693359375F;  // few digits, so that n * kLn2High is exact
  constexpr float kLn2Low = -2.12194440e-4F;
  constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: what is added to it is rounded to integers
  const float bounded = x > -87.0F ? x : -87.0F;
  const float n = (bounded * kLog2E + kRound) - kRound;
  const float r = (bounded - n * kLn2High) - n * kLn2Low;
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  const float fraction = p * r * r + r + 1.0F;
  const float power = std::bit_cast<float>((static_cast<std::int32_t>(n) + 127) << 23);
  return x > -87.0F ? fraction * power : 0.0F;
}

}  // namespace fathom
