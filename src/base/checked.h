// Arithmetic on numbers that came from a file or the network: it throws instead of wrapping.
#pragma once

#include <concepts>
#include <limits>
#include <utility>

#include "base/error.h"

namespace fathom {

/// a * b, or Error(Corrupt) naming `what` if the product does not fit T.
template <std::integral T>
T checked_mul(T a, T b, const char* what = "product") {
  T result;
  if (__builtin_mul_overflow(a, b, &result)) {
    fail(ErrorCode::Corrupt, "{}: {} * {} does not fit {} bits", what, a, b, sizeof(T) * 8);
  }
  return result;
}

/// a + b, or Error(Corrupt) naming `what` if the sum does not fit T.
template <std::integral T>
T checked_add(T a, T b, const char* what = "sum") {
  T result;
  if (__builtin_add_overflow(a, b, &result)) {
    fail(ErrorCode::Corrupt, "{}: {} + {} does not fit {} bits", what, a, b, sizeof(T) * 8);
  }
  return result;
}

/// `value` as type To, or Error(Corrupt) naming `what` if it is out of To's range.
template <std::integral To, std::integral From>
To checked_cast(From value, const char* what = "value") {
  if (!std::in_range<To>(value)) {
    fail(ErrorCode::Corrupt, "{}: {} is out of range ({} to {})", what, value,
         std::numeric_limits<To>::min(), std::numeric_limits<To>::max());
  }
  return static_cast<To>(value);
}

/// `value` rounded up to a multiple of `alignment` (a power of two), checked.
template <std::unsigned_integral T>
T checked_align_up(T value, T alignment, const char* what = "aligned size") {
  return static_cast<T>(checked_add(value, static_cast<T>(alignment - 1), what) & ~(alignment - 1));
}

}  // namespace fathom
