#include "server/schema_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <regex>
#include <set>
#include <stdexcept>

namespace fathom::test {
namespace {

using server::Json;

// By what their values are.
const std::set<std::string> kWords{"title", "description"};
const std::set<std::string> kOneSchema{"items", "additionalProperties"};
const std::set<std::string> kManySchemas{"anyOf", "oneOf", "allOf"};
const std::set<std::string> kNamedSchemas{"properties", "patternProperties"};
const std::set<std::string> kValues{"$ref",      "type",     "enum",     "const",
                                    "required",  "minItems", "maxItems", "minLength",
                                    "maxLength", "pattern",  "minimum",  "maximum"};

bool is_type(const std::string& type, const Json& value) {
  if (type == "null") return value.is_null();
  if (type == "boolean") return value.is_boolean();
  if (type == "string") return value.is_string();
  if (type == "array") return value.is_array();
  if (type == "object") return value.is_object();
  if (type == "number") return value.is_number();
  if (type == "integer") {
    return value.is_number_integer() ||
           (value.is_number() && std::trunc(value.get<double>()) == value.get<double>());
  }
  throw std::runtime_error("'" + type + "' is no type");
}

/// Of code points, as JSON Schema counts.
std::size_t length(const std::string& text) {
  return static_cast<std::size_t>(
      std::ranges::count_if(text, [](char c) { return (c & '\xC0') != '\x80'; }));
}

/// In a schema, "pattern" is searched for.
bool matches(const std::string& pattern, const std::string& text) {
  return std::regex_search(text, std::regex(pattern));
}

std::string shortened(const Json& value) {
  const std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  return text.size() > 300 ? text.substr(0, 300) + "..." : text;
}

std::string of_number(const Json& schema, const Json& value, const std::string& path) {
  const auto bound = [&](const char* name) { return schema.at(name).get<double>(); };
  const double number = value.get<double>();
  if (schema.contains("minimum") && number < bound("minimum")) {
    return fmt::format("{} is {}, below {}", path, number, bound("minimum"));
  }
  if (schema.contains("maximum") && number > bound("maximum")) {
    return fmt::format("{} is {}, above {}", path, number, bound("maximum"));
  }
  return {};
}

std::string of_string(const Json& schema, const Json& value, const std::string& path) {
  const std::string text = value.get<std::string>();
  const bool fits =
      length(text) >= schema.value("minLength", std::size_t{0}) &&
      length(text) <= schema.value("maxLength", std::numeric_limits<std::size_t>::max());
  if (!fits) return fmt::format("{} has a length of {}", path, length(text));
  if (schema.contains("pattern") && !matches(schema.at("pattern"), text)) {
    return fmt::format("{} is '{}', not of the pattern {}", path, text, shortened(schema));
  }
  return {};
}

}  // namespace

const Json& SchemaCheck::target(const std::string& ref) const {
  if (!ref.starts_with("#/")) throw std::runtime_error("'" + ref + "' is not of this document");
  const Json::json_pointer pointer(ref.substr(1));
  if (!document_.contains(pointer)) throw std::runtime_error("there is no " + ref);
  return document_.at(pointer);
}

void SchemaCheck::check_schema(const Json& schema) const {
  if (schema.is_boolean()) return;
  for (const auto& [keyword, value] : schema.items()) {
    if (keyword == "$ref") target(value);
    if (kOneSchema.contains(keyword)) {
      check_schema(value);
    } else if (kManySchemas.contains(keyword) || kNamedSchemas.contains(keyword)) {
      for (const Json& each : value) check_schema(each);
    } else if (!kWords.contains(keyword) && !kValues.contains(keyword)) {
      throw std::runtime_error("unknown keyword '" + keyword + "' in " + shortened(schema));
    }
  }
}

std::string SchemaCheck::complaint(const Json& schema, const Json& value) const {
  return at(schema, value, "$");
}

std::string SchemaCheck::of_any(const Json& schemas, const Json& value, const std::string& path,
                                bool exactly_one) const {
  std::string why;
  std::size_t valid = 0;
  for (const Json& each : schemas) {
    const std::string wrong = at(each, value, path);
    if (wrong.empty()) ++valid;
    why += "\n  or " + wrong;
  }
  if (valid == 0) return fmt::format("{} is none of what it may be:{}", path, why);
  if (exactly_one && valid > 1) return fmt::format("{} is {} things at once", path, valid);
  return {};
}

std::string SchemaCheck::of_object(const Json& schema, const Json& value,
                                   const std::string& path) const {
  for (const Json& name : schema.value("required", Json::array())) {
    if (!value.contains(name.get<std::string>()))
      return fmt::format("{} has no {}", path, name.dump());
  }
  const Json named = schema.value("properties", Json::object());
  const Json patterns = schema.value("patternProperties", Json::object());
  for (const auto& [name, member] : value.items()) {
    const std::string where = path + "." + name;
    bool known = named.contains(name);
    std::string wrong = known ? at(named.at(name), member, where) : std::string();
    for (const auto& [pattern, of_pattern] : patterns.items()) {
      if (!matches(pattern, name)) continue;
      known = true;
      if (wrong.empty()) wrong = at(of_pattern, member, where);
    }
    if (!known && schema.contains("additionalProperties")) {
      wrong = at(schema.at("additionalProperties"), member, where);
    }
    if (!wrong.empty()) return wrong;
  }
  return {};
}

std::string SchemaCheck::of_array(const Json& schema, const Json& value,
                                  const std::string& path) const {
  const bool fits =
      value.size() >= schema.value("minItems", std::size_t{0}) &&
      value.size() <= schema.value("maxItems", std::numeric_limits<std::size_t>::max());
  if (!fits) return fmt::format("{} has {} items", path, value.size());
  if (!schema.contains("items")) return {};
  for (std::size_t i = 0; i < value.size(); ++i) {
    std::string wrong = at(schema.at("items"), value[i], fmt::format("{}[{}]", path, i));
    if (!wrong.empty()) return wrong;
  }
  return {};
}

std::string SchemaCheck::at(const Json& schema, const Json& value, const std::string& path) const {
  if (schema.is_boolean()) {
    return schema.get<bool>() ? std::string() : fmt::format("{} should not be there", path);
  }
  if (schema.contains("type")) {
    const Json& type = schema.at("type");
    const bool one_of_them =
        type.is_array()
            ? std::ranges::any_of(type, [&](const Json& t) { return is_type(t, value); })
            : is_type(type, value);
    if (!one_of_them)
      return fmt::format("{} is {}, but no {}", path, shortened(value), type.dump());
  }
  if (schema.contains("const") && value != schema.at("const")) {
    return fmt::format("{} is {}, not {}", path, shortened(value), schema.at("const").dump());
  }
  if (schema.contains("enum") &&
      std::ranges::find(schema.at("enum"), value) == schema.at("enum").end()) {
    return fmt::format("{} is {}, none of {}", path, shortened(value), schema.at("enum").dump());
  }
  std::string wrong;
  const auto also = [&](std::string more) {
    if (wrong.empty()) wrong = std::move(more);
  };
  if (schema.contains("$ref")) also(at(target(schema.at("$ref")), value, path));
  for (const Json& each : schema.value("allOf", Json::array())) also(at(each, value, path));
  if (schema.contains("anyOf")) also(of_any(schema.at("anyOf"), value, path, false));
  if (schema.contains("oneOf")) also(of_any(schema.at("oneOf"), value, path, true));
  if (value.is_number()) also(of_number(schema, value, path));
  if (value.is_string()) also(of_string(schema, value, path));
  if (value.is_object()) also(of_object(schema, value, path));
  if (value.is_array()) also(of_array(schema, value, path));
  return wrong;
}

}  // namespace fathom::test
