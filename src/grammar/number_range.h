// Numbers within bounds, as grammar: JSON's notation without exponents, digit by digit along both
// bounds.
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
};

/// Nothing matches if no number lies between the bounds. Of numbers that are not integers, those
/// with at most 15 digits: what a reader takes for a double stays within the bounds.
Builder::Expr number_range(Builder& builder, const NumberBounds& bounds);

}  // namespace fathom::grammar
