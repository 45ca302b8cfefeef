// Keywords of a JSON schema, read: numbers, what is said of strings, and of members' names.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "grammar/text_set.h"

namespace fathom::grammar {

using Json = nlohmann::ordered_json;

/// Throws Error(InvalidArgument) if the keyword's value is none.
double number_of(const Json& schema, const char* keyword, const std::string& path);
/// Nothing without the keyword; at most 1e9. Throws Error(InvalidArgument).
std::optional<std::uint32_t> count_of(const Json& schema, const char* keyword,
                                      const std::string& path);

/// minLength, maxLength and pattern, or without one the pattern of a format that is known. Throws
/// Error(InvalidArgument).
TextConditions text_conditions(const Json& schema, const std::string& path);

/// Of an object's members' names: patternProperties and propertyNames.
struct NameRules {
  struct Pattern {
    std::string text;
    const Json* schema;  // of the values of names that match; in the schema that was read
  };
  std::vector<Pattern> patterns;
  TextConditions all;  // that every name satisfies
  /// If not nothing, every name is one of these.
  std::optional<std::vector<std::string>> listed;

  bool none() const { return patterns.empty() && !narrows() && !listed; }
  bool narrows() const { return !all.patterns.empty() || all.least > 0 || all.most != kUnbounded; }
  /// Whether a member may be called so. Throws as satisfies().
  bool allow(const std::string& name, TextWork& work) const;
  /// Schemas of the patterns that the name matches. Throws as satisfies().
  std::vector<const Json*> called_for(const std::string& name, TextWork& work) const;
};
/// `object` outlives them. Throws Error(InvalidArgument), Error(Unsupported) naming what cannot be
/// kept to.
NameRules name_rules(const Json& object, const std::string& path);

}  // namespace fathom::grammar
