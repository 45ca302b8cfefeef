// Numbers within bounds, as grammar: JSON's notation without exponents, digit by digit along both
// bounds, with what the digits so far leave over when divided.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>

#include "grammar/grammar.h"

namespace fathom::grammar {

struct NumberBounds {
  struct Bound {
    nlohmann::ordered_json value;
    bool exclusive = false;
  };
  std::optional<Bound> low;
  std::optional<Bound> high;
  bool integer = false;
  /// Only multiples of it: of 0.25, 0.01, 5, 60 or 1000, say, but not 4096 or 997, which have too
  /// many remainders.
  std::optional<nlohmann::ordered_json> multiple_of = {};
};

/// Nothing matches if no number lies between the bounds. Throws Error(InvalidArgument) for a
/// multiple_of that is not above 0, Error(Unsupported) for too fine a one. Of numbers that are not
/// integers, those with at most 15 digits: what a reader takes for a double stays within the
/// bounds.
Builder::Expr number_range(Builder& builder, const NumberBounds& bounds);

}  // namespace fathom::grammar
