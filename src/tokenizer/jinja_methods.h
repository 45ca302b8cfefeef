// The tables of methods that values have; jinja_methods.cpp looks names up in them.
#pragma once

#include <span>
#include <string_view>

#include "tokenizer/jinja_runtime.h"

namespace fathom::jinja {

using MethodBody = Value (*)(Runtime&, const Value& self, Args&);

struct Method {
  std::string_view name;
  MethodBody body;
};

// Of strings, by what they give: a new string (jinja_methods_text.cpp), a list of pieces
// (jinja_methods_split.cpp), an answer (jinja_methods_ask.cpp).
std::span<const Method> text_methods();
std::span<const Method> split_methods();
std::span<const Method> ask_methods();

/// What a method of `self` returns: safe text if its string was.
inline Value like(Runtime& runtime, const Value& self, std::string_view s) {
  return runtime.text(std::string(s), self.is_safe());
}

}  // namespace fathom::jinja
