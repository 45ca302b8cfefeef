// The tests' own JSON Schema validator, keyword by keyword.
#include "server/schema_check.h"

#include <gtest/gtest.h>

#include <stdexcept>

namespace fathom {
namespace {

using server::Json;
using test::SchemaCheck;

struct Rule {
  const char* schema;
  const char* valid;    // an array
  const char* invalid;  // an array
};
class Keywords : public ::testing::TestWithParam<Rule> {};

TEST_P(Keywords, TellWhatIsValid) {
  static const Json document = Json::parse(R"({"a": {"b": {"type": "null"}}})");
  const SchemaCheck check(document);
  const Json schema = Json::parse(GetParam().schema);
  check.check_schema(schema);
  const Json valid = Json::parse(GetParam().valid);
  const Json invalid = Json::parse(GetParam().invalid);
  for (const Json& value : valid) EXPECT_EQ(check.complaint(schema, value), "") << schema;
  for (const Json& value : invalid)
    EXPECT_NE(check.complaint(schema, value), "") << schema << value;
}

INSTANTIATE_TEST_SUITE_P(
    All, Keywords,
    ::testing::Values(
        Rule{"{}", R"([1, null, {"a": []}])", "[]"}, Rule{"true", "[1]", "[]"},
        Rule{"false", "[]", "[1, null]"}, Rule{R"({"$ref": "#/a/b"})", "[null]", "[0]"},
        Rule{R"({"$ref": "#/a/b", "const": 1})", "[]", "[null, 1]"},
        Rule{R"({"type": "integer"})", "[1, -1, 2.0, 18446744073709551615]", "[1.5, \"1\", null]"},
        Rule{R"({"type": ["number", "null"]})", "[1, 1.5, null]", "[\"1\", true, [], {}]"},
        Rule{R"({"type": "boolean"})", "[true]", "[0]"},
        Rule{R"({"const": 0})", "[0, 0.0]", "[1, false, null]"},
        Rule{R"({"enum": ["a", null, []]})", "[\"a\", null, []]", "[\"b\", false, [1]]"},
        Rule{R"({"minimum": -1, "maximum": 2})", "[-1, 2, \"x\"]", "[-1.5, 2.5]"},
        Rule{R"({"minLength": 1, "maxLength": 2})", R"(["a", "\u00e4\u00f6", 7])",
             R"(["", "abc"])"},
        Rule{R"({"pattern": "^a+$"})", "[\"aa\", 1]", "[\"ab\", \"\"]"},
        Rule{R"({"items": {"type": "null"}, "minItems": 1, "maxItems": 2})", "[[null], 3]",
             "[[], [1], [null, 1], [null, null, null]]"},
        Rule{R"({"required": ["a"]})", R"([{"a": null}, 1])", "[{}]"},
        Rule{R"({"properties": {"a": {"const": 1}}})", R"([{}, {"a": 1}, {"b": 2}])",
             R"([{"a": 2}])"},
        Rule{R"({"properties": {"a": {}}, "additionalProperties": false})", R"([{}, {"a": 1}])",
             R"([{"b": 1}, {"a": 1, "b": 1}])"},
        Rule{R"({"patternProperties": {"^[0-9]$": {"const": 1}},
                 "additionalProperties": {"const": 2}})",
             R"([{"1": 1, "x": 2}])", R"([{"1": 2}, {"x": 1}])"},
        Rule{R"({"allOf": [{"minimum": 1}, {"maximum": 2}]})", "[1, 2]", "[0, 3]"},
        Rule{R"({"anyOf": [{"minimum": 1}, {"maximum": 2}]})", "[0, 1, 3]", "[]"},
        Rule{R"({"oneOf": [{"minimum": 1}, {"maximum": 2}]})", "[0, 3]", "[1, 2]"}));

TEST(SchemaCheckTest, AnotherKeywordIsAnError) {
  const Json document = Json::object();
  const SchemaCheck check(document);
  for (const char* schema :
       {R"({"not": {}})", R"({"items": {"format": "date"}})", R"({"anyOf": [{"if": {}}]})",
        R"({"properties": {"a": {"multipleOf": 2}}})", R"({"$ref": "#/nothing"})"}) {
    EXPECT_THROW(check.check_schema(Json::parse(schema)), std::runtime_error) << schema;
  }
}

}  // namespace
}  // namespace fathom
