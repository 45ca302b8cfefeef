// Cuts a template into tokens: text between tags, and the words inside them.
//
// White space control happens here, as jinja2 does it with trim_blocks (a newline right after a
// block tag or comment goes) and lstrip_blocks (blanks from the line's start to such a tag go).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/jinja_value.h"

namespace fathom::jinja {

struct Token {
  enum class Type : uint8_t {
    Data,           // text outside of tags
    VariableBegin,  // {{
    VariableEnd,    // }}
    BlockBegin,     // {%
    BlockEnd,       // %}
    Name,
    String,  // `text` is unescaped
    Number,  // `number` is an Int or a Float
    Operator,
    End,
  };
  Type type;
  uint32_t line;
  std::string text;
  Value number;
};

/// The tokens of `source`, an End last. Throws Error(InvalidArgument) that names the line.
std::vector<Token> tokenize(std::string_view source);

}  // namespace fathom::jinja
