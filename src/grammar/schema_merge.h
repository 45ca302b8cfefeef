// Two JSON schemas: one that says what both say, where that can be written, and whether they
// exclude each other.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

namespace fathom::grammar {

using Json = nlohmann::ordered_json;

/// Whether a keyword says nothing about which values are valid.
bool is_annotation(const std::string& keyword);

/// `a` and `b` are schemas: objects, true or false. Their references stay as they are, in `allOf`.
/// Throws Error(Unsupported) naming the keyword that cannot be merged and `path`.
Json merged(const Json& a, const Json& b, const std::string& path);

/// The schema that a `$ref`'s value leads to.
using Resolve = std::function<const Json&(const Json&)>;
/// Whether it is certain that no value satisfies both. Throws as type_bits() and `resolve`.
bool disjoint(const Json& a, const Json& b, const Resolve& resolve, const std::string& path,
              int depth = 0);

/// Types as bits: null, boolean, integer, number (that is no integer), string, array, object.
enum TypeBit : unsigned {
  kNull = 1,
  kBoolean = 2,
  kInteger = 4,
  kFraction = 8,
  kString = 16,
  kArray = 32,
  kObject = 64,
  kAllTypes = 127
};
/// Of the `type` keyword's value, a word or a list. Throws Error(InvalidArgument).
unsigned type_bits(const Json& type, const std::string& path);
unsigned type_of_value(const Json& value);

}  // namespace fathom::grammar
