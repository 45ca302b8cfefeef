// How the filters of two files come together: a table of names and functions each.
#pragma once

#include <span>
#include <string_view>

#include "tokenizer/jinja_runtime.h"

namespace fathom::jinja {

struct Filter {
  std::string_view name;
  Value (*run)(Runtime&, const Value& value, Args& args);
};

std::span<const Filter> text_filters();  // jinja_filters.cpp: of one text, number or value
std::span<const Filter> item_filters();  // jinja_filters_items.cpp: of many items

/// value|name(args) for the string method `name`, the value turned into text first.
Value through_method(Runtime& runtime, std::string_view name, const Value& value, Args& args);

}  // namespace fathom::jinja
