// Regular expressions, as JSON schemas' `pattern` has them (ECMA-262), over the characters of a
// JSON string.
#pragma once

#include <string_view>

#include "grammar/json_text.h"

namespace fathom::grammar {

/// A JSON string (with its quotes) whose characters match `pattern` somewhere, or where its anchors
/// say. Throws Error(InvalidArgument) for what is no regular expression, Error(Unsupported) for
/// look-around, back references, word boundaries, property classes, and anchors in the middle.
Builder::Expr string_matching(JsonText& json, std::string_view pattern);

}  // namespace fathom::grammar
