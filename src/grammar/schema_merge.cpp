#include "grammar/schema_merge.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include "base/error.h"

namespace fathom::grammar {
namespace {

template <std::size_t N>
bool among(const std::array<std::string_view, N>& words, std::string_view word) {
  return std::ranges::find(words, word) != words.end();
}

Json all_of(const Json& a, const Json& b) {
  if (a == b || b == true) return a;
  if (a == true) return b;
  return {{"allOf", Json::array({a, b})}};
}

/// The types that are left, as a list.
Json types_json(unsigned bits) {
  Json list = Json::array();
  if ((bits & kNull) != 0) list.push_back("null");
  if ((bits & kBoolean) != 0) list.push_back("boolean");
  if ((bits & kFraction) != 0) {
    list.push_back("number");
  } else if ((bits & kInteger) != 0) {
    list.push_back("integer");
  }
  if ((bits & kString) != 0) list.push_back("string");
  if ((bits & kArray) != 0) list.push_back("array");
  if ((bits & kObject) != 0) list.push_back("object");
  return list;
}

/// properties and additionalProperties belong together: what one schema does not name, its
/// additionalProperties judges.
void merge_properties(const Json& a, const Json& b, const std::string& path, Json& out) {
  const auto part = [](const Json& of, const char* name) {
    return of.contains(name) ? of.at(name) : Json();
  };
  const Json in_a = part(a, "properties");
  const Json in_b = part(b, "properties");
  const Json more_a = part(a, "additionalProperties");
  const Json more_b = part(b, "additionalProperties");
  // Which names patterns take from additionalProperties two schemas need not agree on.
  const Json by_a = part(a, "patternProperties"), by_b = part(b, "patternProperties");
  const bool patterns = !by_a.is_null() || !by_b.is_null();
  const bool judged = !more_a.is_null() || !more_b.is_null();
  const auto of_objects = [](const Json& properties, const Json& more, const Json& by) {
    return !properties.is_null() || !more.is_null() || !by.is_null();
  };
  require(
      !patterns || !judged || !of_objects(in_a, more_a, by_a) || !of_objects(in_b, more_b, by_b),
      ErrorCode::Unsupported,
      "{}: patternProperties and additionalProperties beside another schema's properties are "
      "not supported",
      path);
  if (patterns) {
    Json by = by_a.is_null() ? Json::object() : by_a;
    for (const auto& [pattern, schema] : by_b.items()) {
      by[pattern] = by.contains(pattern) ? all_of(by[pattern], schema) : schema;
    }
    out["patternProperties"] = by;
  }
  Json all = Json::object();
  for (const auto& [name, schema] : in_a.items()) {
    if (in_b.contains(name)) {
      all[name] = all_of(schema, in_b.at(name));
    } else {
      all[name] = more_b.is_null() ? schema : all_of(schema, more_b);
    }
  }
  for (const auto& [name, schema] : in_b.items()) {
    if (!in_a.contains(name)) all[name] = more_a.is_null() ? schema : all_of(schema, more_a);
  }
  if (!all.empty()) out["properties"] = all;
  if (!more_a.is_null() || !more_b.is_null()) {
    out["additionalProperties"] = more_a.is_null()   ? more_b
                                  : more_b.is_null() ? more_a
                                                     : all_of(more_a, more_b);
  }
}

Json common_values(const Json& a, const Json& b) {
  Json both = Json::array();
  for (const Json& value : a) {
    if (std::ranges::find(b, value) != b.end()) both.push_back(value);
  }
  return both;
}

}  // namespace

bool is_annotation(const std::string& keyword) {
  constexpr std::array<std::string_view, 20> kWords{
      "title",           "description",   "default",     "examples",
      "example",         "$schema",       "$id",         "id",
      "$comment",        "deprecated",    "readOnly",    "writeOnly",
      "$defs",           "definitions",   "$anchor",     "contentMediaType",
      "contentEncoding", "contentSchema", "$vocabulary", "nullable"};
  return among(kWords, keyword);
}

unsigned type_of_value(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return kNull;
    case Json::value_t::boolean:
      return kBoolean;
    case Json::value_t::number_integer:
    case Json::value_t::number_unsigned:
      return kInteger;
    case Json::value_t::number_float: {
      const double x = value.get<double>();
      return x == std::floor(x) ? kInteger : kFraction;
    }
    case Json::value_t::string:
      return kString;
    case Json::value_t::array:
      return kArray;
    default:
      return kObject;
  }
}

unsigned type_bits(const Json& type, const std::string& path) {
  unsigned bits = 0;
  const auto add = [&](const Json& word) {
    require(word.is_string(), ErrorCode::InvalidArgument, "{}: type is {}, no type's name", path,
            word.dump());
    const std::string name = word.get<std::string>();
    const std::pair<const char*, unsigned> names[] = {
        {"null", kNull},     {"boolean", kBoolean}, {"integer", kInteger},
        {"string", kString}, {"array", kArray},     {"number", kInteger | kFraction},
        {"object", kObject}};
    const auto* found =
        std::ranges::find_if(names, [&](const auto& each) { return name == each.first; });
    require(found != std::end(names), ErrorCode::InvalidArgument, "{}: '{}' is no type", path,
            name);
    bits |= found->second;
  };
  if (type.is_array()) {
    for (const Json& word : type) add(word);
  } else {
    add(type);
  }
  return bits;
}

Json merged(const Json& a, const Json& b, const std::string& path) {
  if (a == false || b == false) return false;
  if (a == true) return b;
  if (b == true) return a;
  require(a.is_object() && b.is_object(), ErrorCode::InvalidArgument, "{}: {} is no schema", path,
          a.is_object() ? b.dump() : a.dump());
  constexpr std::array<std::string_view, 5> kLarger{"minimum", "minLength", "minItems",
                                                    "minProperties", "exclusiveMinimum"};
  constexpr std::array<std::string_view, 5> kSmaller{"maximum", "maxLength", "maxItems",
                                                     "maxProperties", "exclusiveMaximum"};
  // It judges what its own schema has left, which a merged one would not know.
  for (const Json* s : {&a, &b}) {
    require(!s->contains("unevaluatedProperties"), ErrorCode::Unsupported,
            "{}: unevaluatedProperties beside other schemas is not supported", path);
  }
  Json out = Json::object();
  Json further = Json::array();  // for allOf
  merge_properties(a, b, path, out);
  const auto take = [&](const std::string& word, const Json& x, const Json* y) {
    if (word == "properties" || word == "additionalProperties" || word == "patternProperties") {
      return;
    }
    if (word == "allOf") {
      for (const Json& one : x) further.push_back(one);
      if (y != nullptr) {
        for (const Json& one : *y) further.push_back(one);
      }
    } else if (y == nullptr || x == *y || is_annotation(word)) {
      out[word] = x;
    } else if (word == "$ref" || word == "anyOf" || word == "oneOf") {
      out[word] = x;
      further.push_back({{word, *y}});
    } else if (word == "type") {
      out[word] = types_json(type_bits(x, path) & type_bits(*y, path));
    } else if (word == "required") {
      Json both = x;
      for (const Json& name : *y) {
        if (std::ranges::find(both, name) == both.end()) both.push_back(name);
      }
      out[word] = both;
    } else if (word == "enum" && x.is_array() && y->is_array()) {
      out[word] = common_values(x, *y);
    } else if (word == "const") {
      out["enum"] = Json::array();  // two values at once
    } else if (word == "items" && !x.is_array() && !y->is_array() && !a.contains("prefixItems") &&
               !b.contains("prefixItems")) {
      out[word] = all_of(x, *y);
    } else if (among(kLarger, word) && x.is_number() && y->is_number()) {
      out[word] = x.get<double>() < y->get<double>() ? *y : x;
    } else if (among(kSmaller, word) && x.is_number() && y->is_number()) {
      out[word] = x.get<double>() < y->get<double>() ? x : *y;
    } else if (word == "uniqueItems") {
      out[word] = true;
    } else {
      fail(ErrorCode::Unsupported, "{}: two different {} cannot be kept to at once", path, word);
    }
  };
  for (const auto& [word, x] : a.items()) take(word, x, b.contains(word) ? &b.at(word) : nullptr);
  for (const auto& [word, y] : b.items()) {
    if (!a.contains(word)) take(word, y, nullptr);
  }
  // An element's place in one array is judged by the other's items.
  const auto tuple = [](const Json& s) {
    return s.contains("prefixItems") || (s.contains("items") && s.at("items").is_array());
  };
  const auto items = [](const Json& s) {
    return s.contains("items") || s.contains("prefixItems") || s.contains("additionalItems");
  };
  const bool same = (a.contains("prefixItems") ? a.at("prefixItems") : Json()) ==
                    (b.contains("prefixItems") ? b.at("prefixItems") : Json());
  require(!((tuple(a) && items(b)) || (tuple(b) && items(a))) || same, ErrorCode::Unsupported,
          "{}: two different items cannot be kept to at once", path);
  if (!further.empty()) out["allOf"] = further;
  return out;
}

bool disjoint(const Json& a, const Json& b, const Resolve& resolve, const std::string& path,
              int depth) {
  if (a == false || b == false) return true;
  if (!a.is_object() || !b.is_object() || depth > 10) return false;
  if (a.contains("$ref")) return disjoint(resolve(a.at("$ref")), b, resolve, path, depth + 1);
  if (b.contains("$ref")) return disjoint(a, resolve(b.at("$ref")), resolve, path, depth + 1);
  const auto types = [&](const Json& s) {
    unsigned bits = s.contains("type") ? type_bits(s.at("type"), path) : unsigned{kAllTypes};
    if (s.contains("const")) bits &= type_of_value(s.at("const"));
    return bits;
  };
  const unsigned common = types(a) & types(b);
  if (common == 0) return true;
  const auto values = [](const Json& s) {
    return s.contains("const")                             ? Json::array({s.at("const")})
           : s.contains("enum") && s.at("enum").is_array() ? s.at("enum")
                                                           : Json();
  };
  const Json of_a = values(a);
  const Json of_b = values(b);
  if (of_a.is_array() && of_b.is_array()) {
    return std::ranges::none_of(
        of_a, [&](const Json& x) { return std::ranges::find(of_b, x) != of_b.end(); });
  }
  // Objects that must both have a member whose schemas are apart.
  if (common != kObject) return false;
  const auto member = [](const Json& s, const std::string& name) -> const Json* {
    const bool has = s.contains("required") && s.at("required").is_array() &&
                     std::ranges::find(s.at("required"), Json(name)) != s.at("required").end() &&
                     s.contains("properties") && s.at("properties").contains(name);
    return has ? &s.at("properties").at(name) : nullptr;
  };
  if (!a.contains("properties") || !a.at("properties").is_object()) return false;
  for (const auto& [name, unused] : a.at("properties").items()) {
    const Json* x = member(a, name);
    const Json* y = member(b, name);
    if (x != nullptr && y != nullptr && disjoint(*x, *y, resolve, path, depth + 1)) return true;
  }
  return false;
}

}  // namespace fathom::grammar
