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

/// x / (1 + e^-x)
template <class S>
inline typename S::F silu(typename S::F x) {
  const auto e = exp<S>(S::sub(S::zero(), x));
  return S::div(x, S::add(S::all(1.0F), e));
}

}  // namespace fathom::cpu
