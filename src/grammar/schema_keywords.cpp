#include "grammar/schema_keywords.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "base/error.h"
#include "grammar/schema_merge.h"
#include "grammar/string_formats.h"

namespace fathom::grammar {
namespace {

/// Each set of patterns that a name may match is a case of its own.
constexpr std::size_t kMostNamePatterns = 4;

void check_names_schema(const Json& schema, const std::string& path) {
  require(schema.is_object(), ErrorCode::Unsupported, "{}: {} is not supported", path,
          schema.dump());
  constexpr std::array<std::string_view, 5> kKnown{"pattern", "minLength", "maxLength", "format",
                                                   "enum"};
  for (const auto& [word, value] : schema.items()) {
    const bool known = is_annotation(word) || std::ranges::find(kKnown, word) != kKnown.end() ||
                       (word == "type" && value == "string");
    require(known, ErrorCode::Unsupported, "{}: the schema's keyword {} is not supported", path,
            word);
  }
}

}  // namespace

double number_of(const Json& schema, const char* keyword, const std::string& path) {
  const Json& value = schema.at(keyword);
  require(value.is_number(), ErrorCode::InvalidArgument, "{}: {} is no number", path, keyword);
  return value.get<double>();
}

std::optional<std::uint32_t> count_of(const Json& schema, const char* keyword,
                                      const std::string& path) {
  if (!schema.contains(keyword)) return std::nullopt;
  const double n = number_of(schema, keyword, path);
  require(n >= 0 && n == static_cast<double>(static_cast<std::int64_t>(std::min(n, 1e15))),
          ErrorCode::InvalidArgument, "{}: {} is {}, no count", path, keyword,
          schema.at(keyword).dump());
  return static_cast<std::uint32_t>(std::min(n, 1e9));
}

TextConditions text_conditions(const Json& schema, const std::string& path) {
  TextConditions all;
  all.least = count_of(schema, "minLength", path).value_or(0);
  all.most = count_of(schema, "maxLength", path).value_or(kUnbounded);
  if (schema.contains("pattern")) {
    const Json& pattern = schema.at("pattern");
    require(pattern.is_string(), ErrorCode::InvalidArgument, "{}: pattern is no string", path);
    all.patterns.push_back(pattern.get<std::string>());
  } else if (schema.contains("format") && schema.at("format").is_string()) {
    const char* pattern = pattern_of_format(schema.at("format").get_ref<const std::string&>());
    if (pattern != nullptr) all.patterns.emplace_back(pattern);
  }
  return all;
}

bool NameRules::allow(const std::string& name, TextWork& work) const {
  if (listed && std::ranges::find(*listed, name) == listed->end()) return false;
  return !narrows() || satisfies(name, all, work);
}

std::vector<const Json*> NameRules::called_for(const std::string& name, TextWork& work) const {
  std::vector<const Json*> schemas;
  for (const Pattern& pattern : patterns) {
    TextConditions matches;
    matches.patterns = {pattern.text};
    if (satisfies(name, matches, work)) schemas.push_back(pattern.schema);
  }
  return schemas;
}

NameRules name_rules(const Json& object, const std::string& path) {
  NameRules rules;
  if (object.contains("patternProperties")) {
    const Json& by_pattern = object.at("patternProperties");
    require(by_pattern.is_object(), ErrorCode::InvalidArgument,
            "{}: patternProperties is no object", path);
    require(by_pattern.size() <= kMostNamePatterns, ErrorCode::Unsupported,
            "{}: more than {} patternProperties are not supported", path, kMostNamePatterns);
    for (const auto& [pattern, schema] : by_pattern.items()) {
      rules.patterns.push_back({pattern, &schema});
    }
  }
  if (!object.contains("propertyNames") || object.at("propertyNames") == true) return rules;
  const Json& names = object.at("propertyNames");
  const std::string at = path + "/propertyNames";
  if (names == false) {  // no member at all
    rules.listed.emplace();
    return rules;
  }
  check_names_schema(names, at);
  rules.all = text_conditions(names, at);
  if (names.contains("enum")) {
    require(names.at("enum").is_array(), ErrorCode::InvalidArgument, "{}: enum is no list", at);
    rules.listed.emplace();
    for (const Json& name : names.at("enum")) {
      if (name.is_string()) rules.listed->push_back(name.get<std::string>());
    }
  }
  return rules;
}

}  // namespace fathom::grammar
