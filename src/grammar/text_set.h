// Texts that satisfy several conditions at once, as one expression of a grammar: patterns together
// with lengths, names that match one pattern and not another.
//
// Each condition is an automaton over classes of characters, which are those that no condition
// tells apart; their product (Rabin and Scott 1959), with a count beside it where lengths are
// bounded, is written out as rules. What only repeats itself from some state on stays a counted
// repetition.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "grammar/json_text.h"

namespace fathom::grammar {

struct TextConditions {
  std::vector<std::string> patterns;           // each matches, as string_matching() has it
  std::vector<std::string> excluded;           // none of these does
  std::vector<std::string> taken;              // the text is none of these, in UTF-8
  std::uint32_t least = 0, most = kUnbounded;  // characters
};

/// What all conditions of one schema may cost together: a stranger's schema has many. A million is
/// some 50 ms.
struct TextWork {
  std::size_t left = 1'000'000;
  /// Throws Error(ResourceLimit) if there is not so much left.
  void spend(std::size_t work);
};

/// A JSON string (with its quotes) that satisfies them. Nothing matches if no text does. Throws as
/// string_matching(), Error(Unsupported) where the product is too large, and as TextWork does.
Builder::Expr string_of(JsonText& json, const TextConditions& conditions, TextWork& work);

/// Whether a text, in UTF-8, satisfies them. Throws as string_of().
bool satisfies(std::string_view text, const TextConditions& conditions, TextWork& work);

}  // namespace fathom::grammar
