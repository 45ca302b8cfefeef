// Regular expressions (ECMA-262) as expressions of a grammar: over the characters of a JSON string,
// as JSON schemas' `pattern` has them, or over plain text.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "grammar/json_text.h"

namespace fathom::grammar {

/// A JSON string (with its quotes) whose characters match `pattern` somewhere, or where its anchors
/// say. Throws Error(InvalidArgument) for what is no regular expression, Error(Unsupported) for
/// look-around, back references, word boundaries, property classes, and anchors in the middle.
Builder::Expr string_matching(JsonText& json, std::string_view pattern);

/// The same of a text whose characters are what `one_of` makes of these code points.
Builder::Expr text_matching(
    Builder& builder, std::string_view pattern,
    const std::function<Builder::Expr(const std::vector<CodeRange>&)>& one_of);

/// Bytes that UTF-8 has no use for: in what text_part() makes they are no bytes of the text, but
/// say what must hold where they stand.
inline constexpr std::uint8_t kAtBegin = 0xFC, kAtEnd = 0xFD;  // of the text
inline constexpr std::uint8_t kAtWordEdge = 0xFE, kNotAtWordEdge = 0xFF;

/// A part of a text in UTF-8 that `pattern` matches, for text_pattern.h. Words are of ASCII, as in
/// ECMA-262; `ignore_case`: characters that differ in case only are one, in any script. Throws as
/// string_matching(), but anchors may stand anywhere, and word edges too.
Builder::Expr text_part(Builder& builder, std::string_view pattern, bool ignore_case);

}  // namespace fathom::grammar
