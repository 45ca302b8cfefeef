// Which characters differ in case only.
#pragma once

#include <vector>

#include "grammar/grammar.h"

namespace fathom::grammar {

/// These and all that differ from one of them in case only: of k, also K and the Kelvin sign.
/// Characters for characters: no ss for a sharp s. Thread-safe.
std::vector<CodeRange> with_other_cases(std::vector<CodeRange> ranges);

}  // namespace fathom::grammar
