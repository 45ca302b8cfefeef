// JSON schema's formats of strings, as patterns.
#pragma once

#include <string_view>

namespace fathom::grammar {

/// A regular expression whose texts are all of that format, and the usual ones of it; null for a
/// format that is not held to.
const char* pattern_of_format(std::string_view name);

}  // namespace fathom::grammar
