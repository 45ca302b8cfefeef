// JSON Schema (drafts 4 to 2020-12) as grammar: every text of it is valid against the schema.
//
// Not every valid text is one of it: members come in the order in which `properties` names them, an
// object with `properties` or `patternProperties` has no others unless `additionalProperties` says
// which, and white space, digits and exponents are bounded (json_text.h). A keyword that could not
// be kept to is refused by name; one that no draft knows is ignored, as the drafts say.
//
// Kept to: type, enum, const; properties, required, additionalProperties, patternProperties,
// propertyNames; items, prefixItems, minItems, maxItems; minLength, maxLength, pattern, format
// (those of string_formats.h); minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf;
// anyOf, allOf where its parts can be merged, oneOf where no text can satisfy two of them; $ref
// within the schema, also recursive.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "grammar/grammar.h"
#include "grammar/json_text.h"

namespace fathom::grammar {

/// Throws Error(InvalidArgument) for what is no schema or what nothing satisfies,
/// Error(Unsupported) naming the keyword and where it stands, Error(ResourceLimit).
std::shared_ptr<const Grammar> json_schema_grammar(const nlohmann::ordered_json& schema);

/// A schema as part of a larger grammar. `name`: what complaints call the schema's root. Throws as
/// json_schema_grammar(); but that nothing satisfies it shows only when the whole is compiled.
Builder::Expr json_schema_expr(JsonText& json, const nlohmann::ordered_json& schema,
                               const std::string& name);

/// Any JSON object.
std::shared_ptr<const Grammar> json_object_grammar();

}  // namespace fathom::grammar
