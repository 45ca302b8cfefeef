// Grammars as llama.cpp's users write them (GBNF, grammars/README.md there): rules of literals,
// character classes, groups and repetitions, beginning with the rule `root`.
#pragma once

#include <memory>
#include <string_view>

#include "grammar/grammar.h"

namespace fathom::grammar {

/// Throws Error(InvalidArgument) naming the line, Error(ResourceLimit).
std::shared_ptr<const Grammar> gbnf_grammar(std::string_view text);

}  // namespace fathom::grammar
