// Elementary functions over the lanes of simd_*.h, the same bits on every instruction set.
#pragma once

#include <cstdint>

namespace fathom::cpu {

/// e^x, within 2 units in the last place for x in [-87.3, 88.3]; below it stays at 1.2e-38, above
/// at 2.2e38, and NaN stays NaN. x = n ln 2 + r with |r| <= ln(2) / 2, ln 2 in two parts so that r
/// is exact to F32, and e^r by its Taylor polynomial of degree 7 (remainder under 6e-9).
template <class S>
inline typename S::F exp(typename S::F x) {
  using F = typename S::F;
  // min and max return their second operand if one is NaN.
  x = S::min(S::all(88.3F), x);
  x = S::max(S::all(-87.3F), x);
  const auto n = S::round(S::mul(x, S::all(1.44269504F)));
  const F whole = S::to_float(n);
  F r = S::fma(whole, S::all(-0.693145752F), x);
  r = S::fma(whole, S::all(-1.42860677e-6F), r);
  F p = S::all(1.0F / 5040.0F);
  p = S::fma(p, r, S::all(1.0F / 720.0F));
  p = S::fma(p, r, S::all(1.0F / 120.0F));
  p = S::fma(p, r, S::all(1.0F / 24.0F));
  p = S::fma(p, r, S::all(1.0F / 6.0F));
  p = S::fma(p, r, S::all(0.5F));
  p = S::fma(p, r, S::all(1.0F));
  p = S::fma(p, r, S::all(1.0F));
  // p is in [0.7, 1.42] and n in [-126, 127]: adding n to the exponent stays among normal numbers.
  return S::from_bits(S::add_words(S::bits(p), S::left(n, 23)));
}

/// 2^x within 1e-7 of it, for x in [-126, 126]; below it stays at 2^-126. x = n + r with
/// |r| <= 1/2: adding 1.5 * 2^23 leaves n in the low bits of the sum, and 2^r is a polynomial of
/// degree 6 (its coefficients minimise the largest relative error, 2e-9, and 2^0 is exactly 1).
template <class S>
inline typename S::F exp2(typename S::F x) {
  using F = typename S::F;
  const F magic = S::all(12582912.0F);
  x = S::max(S::all(-126.0F), x);
  const F shifted = S::add(x, magic);
  const F r = S::sub(x, S::sub(shifted, magic));
  F p = S::all(1.5353369e-4F);
  p = S::fma(p, r, S::all(1.3398875e-3F));
  p = S::fma(p, r, S::all(9.618437e-3F));
  p = S::fma(p, r, S::all(5.5503324e-2F));
  p = S::fma(p, r, S::all(0.24022648F));
  p = S::fma(p, r, S::all(0.6931472F));
  p = S::fma(p, r, S::all(1.0F));
  return S::from_bits(S::add_words(S::bits(p), S::exponent(S::bits(shifted))));
}

/// x / (1 + e^-x)
template <class S>
inline typename S::F silu(typename S::F x) {
  const auto e = exp<S>(S::sub(S::zero(), x));
  return S::div(x, S::add(S::all(1.0F), e));
}

}  // namespace fathom::cpu
