// Which texts a schema's grammar has. The public suite is run by scripts/schema_suite.
#include "grammar/json_schema.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <random>

#include "base/error.h"
#include "grammar/grammar_helpers.h"
#include "grammar/number_range.h"

namespace fathom::grammar {
namespace {

using Json = nlohmann::ordered_json;
using ::testing::HasSubstr;
using testing::matches;

std::shared_ptr<const Grammar> of(const char* schema) {
  return json_schema_grammar(Json::parse(schema));
}

struct Case {
  const char* schema;
  std::vector<const char*> valid;
  std::vector<const char*> invalid;
};

TEST(JsonSchema, EveryTextIsValidAndTheUsualOnesArePossible) {
  const Case cases[] = {
      {R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"string"}},
           "required":["a"],"additionalProperties":false})",
       {R"({"a":1})", R"({"a": -3, "b": "x"})", "{\n  \"a\": 0,\n  \"b\": \"\"\n}"},
       {"{}", R"({"b":"x"})", R"({"a":1.5})", R"({"a":1,"c":2})", R"({"a":1,)", R"({"a":01})"}},
      {R"({"type":"object","properties":{"x":{},"y":{},"z":{}}})",
       {"{}", R"({"x":1})", R"({"y":[]})", R"({"x":1,"z":null})", R"({"x":1,"y":2,"z":3})"},
       {R"({,"x":1})", R"({"x":1,})", R"({"y":1,"x":1})"}},
      {R"({"type":"object","properties":{"id":{"type":"integer"}},
           "additionalProperties":{"type":"boolean"}})",
       {R"({"id":1,"i":true,"idx":false,"":true})", R"({"other":true})"},
       {R"({"id":true})", R"({"x":true,"id":false})", R"({"i":1})", R"({"\u0069d":true})"}},
      {R"({"type":"array","items":{"type":"number"},"minItems":1,"maxItems":3})",
       {"[1]", "[1, 2.5, -3e4]"},
       {"[]", "[1,2,3,4]", "[true]", "[1,]"}},
      {R"({"prefixItems":[{"type":"string"},{"type":"integer"}],"items":false})",
       {"[]", R"(["a"])", R"(["a",1])"},
       {R"(["a",1,2])", "[1]"}},
      {R"({"type":"array","prefixItems":[{"const":1}],"items":{"const":2},"minItems":2})",
       {"[1,2]", "[1,2,2]"},
       {"[1]", "[2,2]", "[]"}},
      {R"({"enum":["red",3,null,{"k":[1,true]}]})",
       {R"("red")", "3", "null", R"({"k":[1,true]})", R"({"k": [1, true]})"},
       {R"("blue")", "4", R"({"k":[1]})"}},
      {R"({"type":["string","null"],"minLength":2,"maxLength":3})",
       {R"("ab")", R"("日本")", R"("\né")", R"("\u00e9\"")", "null"},
       {R"("a")", R"("abcd")", R"("a\u00")", "1", R"("\ud83dx")"}},
      {R"({"type":"string","pattern":"^[A-Z]{2}-\\d+$"})",
       {R"("AB-1")", R"("ZZ-900")"},
       {R"("A-1")", R"("AB-")", R"("xAB-1")"}},
      {R"({"type":"string","format":"date"})",
       {R"("2024-02-28")", R"("1999-12-31")"},
       {R"("2024-13-01")", R"("2024-04-31")", R"("today")"}},
      {R"({"type":"string","format":"duration"})",
       {R"("P1Y2M3D")", R"("PT5M")", R"("P3W")", R"("P1DT2H3M4S")", R"("P1M")"},
       {R"("P")", R"("PT")", R"("P1Y2D")", R"("PT1H2S")", R"("P1W1D")", R"("1D")"}},
      {R"({"type":"string","format":"ipv6"})",
       {R"("::")", R"("::1")", R"("2001:db8::8a2e:370:7334")", R"("1:2:3:4:5:6:7:8")", R"("1::")",
        R"("1::2:3:4:5:6:7")", R"("1:2:3:4:5:6::8")", R"("::2:3:4:5:6:7:8")"},
       {R"(":1")", R"("1::2::3")", R"("1:2:3:4:5:6:7")", R"("12345::")", R"("1:2:3:4:5:6:7:8:9")",
        R"(":::")", R"("1:2:3:4::5:6:7:8")"}},
      {R"({"type":"string","format":"hostname"})",
       {R"("www.example.com")", R"("a")", R"("x-1.local")"},
       {R"("-a.com")", R"("a-.com")", R"("xn--a")", R"("a..b")", R"("a_b")", R"("a.")"}},
      {R"({"anyOf":[{"type":"integer"},{"type":"array","items":{"$ref":"#"}}]})",
       {"1", "[]", "[1,[2,[3]]]"},
       {"[true]", "{}"}},
      {R"({"$ref":"#/$defs/node","$defs":{"node":{"type":"object","required":["v"],
           "properties":{"v":{"type":"integer"},"next":{"anyOf":[{"$ref":"#/$defs/node"},
           {"type":"null"}]}},"additionalProperties":false}}})",
       {R"({"v":1})", R"({"v":1,"next":{"v":2,"next":null}})"},
       {R"({"next":null})", R"({"v":1,"next":1})"}},
      {R"({"allOf":[{"properties":{"a":{"type":"integer","minimum":3}},"required":["a"]},
           {"properties":{"a":{"maximum":5},"b":{"const":1}}}],"type":"object"})",
       {R"({"a":4})", R"({"a":3,"b":1})"},
       {R"({"a":2})", R"({"a":6})", R"({"b":1})", R"({"a":4,"b":2})"}},
      {R"({"oneOf":[{"type":"object","properties":{"t":{"const":"x"},"n":{"type":"integer"}},
           "required":["t","n"]},{"type":"object","properties":{"t":{"const":"y"}},
           "required":["t"]}]})",
       {R"({"t":"x","n":1})", R"({"t":"y"})"},
       {R"({"t":"x"})", R"({"t":"y","n":1})"}},
      {R"({"type":"object","properties":{"kind":{"type":"string"},"v":{}},
           "anyOf":[{"required":["kind"]},{"required":["v"]}]})",
       {R"({"kind":"a"})", R"({"v":1})"},
       {"{}"}},
      {R"({"type":"string","pattern":"^[a-z][a-z0-9]*$","minLength":3,"maxLength":5})",
       {R"("abc")", R"("a1234")"},
       {R"("ab")", R"("a12345")", R"("1abc")"}},
      {R"({"type":"string","pattern":"[A-Z]","maxLength":3})",
       {R"("A")", R"("xAy")", R"("éÉZ")"},
       {R"("")", R"("xyz")", R"("xxxA")"}},
      {R"({"type":"string","format":"email","maxLength":8})",
       {R"("a@b.com")"},
       {R"("ab@cd.com")", R"("a")"}},
      {R"({"enum":["abc","ab","b"],"pattern":"^a","minLength":3})",
       {R"("abc")"},
       {R"("ab")", R"("b")"}},
      {R"({"patternProperties":{"^n":{"type":"integer"},"e$":{"type":["integer","null"]}}})",
       {"{}", R"({"n":1})", R"({"me":null})", R"({"ne":2,"we":null})"},
       {R"({"n":null})", R"({"ne":null})", R"({"x":1})", R"({"n":1,})"}},
      {R"({"properties":{"name":{},"id":{"minimum":3}},"required":["id"],
           "patternProperties":{"^[ix]":{"type":"integer"}},"additionalProperties":{"const":0}})",
       {R"({"id":3})", R"({"name":"a","id":4,"x1":7,"other":0})"},
       {R"({"id":2})", R"({"id":3.5})", R"({"id":3,"x":"a"})", R"({"id":3,"other":1})",
        R"({"name":1})"}},
      {R"({"patternProperties":{"^x":{"type":"integer"}},"required":["x1","y"]})",
       {R"({"x1":1,"y":true})", R"({"x1":1,"y":[],"x2":2})"},
       {R"({"x1":true,"y":true})", R"({"x1":1})", R"({"x1":1,"y":1,"z":1})"}},
      {R"({"propertyNames":{"pattern":"^[a-z]+$","maxLength":3},"additionalProperties":{"const":1}})",
       {"{}", R"({"a":1,"abc":1})"},
       {R"({"A":1})", R"({"abcd":1})", R"({"a":2})"}},
      {R"({"propertyNames":{"enum":["a","b"]},"properties":{"a":{"const":1},"c":{}},
           "additionalProperties":{"const":2}})",
       {"{}", R"({"a":1})", R"({"a":1,"b":2})"},
       {R"({"c":1})", R"({"b":1})", R"({"d":2})"}},
      {R"({"allOf":[{"patternProperties":{"^a":{"type":"integer"}}},
                    {"patternProperties":{"^a":{"minimum":2},"b$":{"maximum":5}}}]})",
       {R"({"a":2})", R"({"ab":4})", R"({"b":5})"},
       {R"({"a":1})", R"({"ab":6})", R"({"a":2.5})"}},
      {R"({"type":"object","propertyNames":false})", {"{}"}, {R"({"a":1})"}},
      {"true", {"1", "[{}]", R"({"a":"b"})", "null"}, {"", "nul"}},
      {R"({"properties":{"gone":false,"kept":true}})", {"{}", R"({"kept":1})"}, {R"({"gone":1})"}},
  };
  for (const Case& each : cases) {
    const auto grammar = of(each.schema);
    for (const char* text : each.valid) EXPECT_TRUE(matches(grammar, text)) << each.schema << text;
    for (const char* text : each.invalid) {
      EXPECT_FALSE(matches(grammar, text)) << each.schema << text;
    }
  }
}

TEST(JsonSchema, MultiplesAreThoseOfArithmetic) {
  // In hundredths, so that nothing is rounded.
  struct Multiples {
    const char* step;
    int hundredths;
    bool integer;
    int low, high;  // in hundredths
  };
  const Multiples cases[] = {{"0.25", 25, false, -300, 300},   {"0.5", 50, false, 25, 1275},
                             {"1.5", 150, false, -1000, 1000}, {"7", 700, true, -2500, 9999},
                             {"0.01", 1, false, -12, 208},     {"5", 500, false, 500, 12000},
                             {"0.75", 75, true, -4000, 4000},  {"12", 1200, true, 3600, 3700},
                             {"1e1", 1000, true, 0, 20000},    {"0.04", 4, false, 97, 303}};
  for (const Multiples& c : cases) {
    for (const bool bounded : {true, false}) {
      std::string schema =
          fmt::format(R"({{"type":"{}","multipleOf":{})", c.integer ? "integer" : "number", c.step);
      if (bounded) {
        schema +=
            fmt::format(R"(,"minimum":{},"exclusiveMaximum":{})", c.low / 100.0, c.high / 100.0);
      }
      Automaton automaton(of((schema + "}").c_str()), 16);
      for (int n = -6000; n <= 21000; ++n) {
        const bool valid = n % c.hundredths == 0 && !(c.integer && n % 100 != 0) &&
                           (!bounded || (n >= c.low && n < c.high));
        const std::string text = fmt::format("{}", n / 100.0);
        ASSERT_EQ(matches(automaton, text), valid) << schema << " " << text;
      }
    }
  }
  EXPECT_FALSE(matches(of(R"({"multipleOf":0.5})"), "-0"));
  EXPECT_TRUE(matches(of(R"({"multipleOf":1000})"), "123456789012000"));
  EXPECT_FALSE(matches(of(R"({"multipleOf":1000})"), "123456789012345"));
  try {
    of(R"({"multipleOf":-2})");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::InvalidArgument);
  }
}

TEST(JsonSchema, RefusesByNameWhatItCannotKeepTo) {
  const std::pair<const char*, const char*> refused[] = {
      {R"({"not":{"type":"string"}})", "#: the schema's keyword not is"},
      {R"({"type":"object","properties":{"a":{"type":"object","dependencies":{"x":["y"]}}}})",
       "#/properties/a: the schema's keyword dependencies"},
      {R"({"propertyNames":{"not":{}}})", "#/propertyNames: the schema's keyword not"},
      {R"({"allOf":[{"patternProperties":{"^x":{}},"additionalProperties":false},
                    {"properties":{"y":{}}}]})",
       "patternProperties and additionalProperties beside"},
      {R"({"type":"string","pattern":"^a+(-a+)*$","maxLength":9999})", "more than 4000 states"},
      {R"({"type":"array","uniqueItems":true})", "uniqueItems"},
      {R"({"type":"array","contains":{}})", "contains"},
      {R"({"type":"number","multipleOf":0.12345})", "multipleOf"},
      {R"({"oneOf":[{"type":"string"},{"minLength":3,"type":"string"}]})", "oneOf"},
      {R"({"$ref":"https://example.com/schema"})", "https://example.com/schema"},
      {R"({"if":{},"then":false})", "if"}};
  for (const auto& [schema, word] : refused) {
    try {
      of(schema);
      FAIL() << schema;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::Unsupported) << error.what();
      EXPECT_THAT(error.what(), HasSubstr(word));
    }
  }
  for (const char* wrong :
       {"3", R"({"type":"text"})", R"({"properties":[]})", R"({"$ref":"#/nowhere"})",
        R"({"enum":1})", R"({"minLength":-1,"type":"string"})", R"({"type":"string","enum":[1]})",
        R"({"$ref":"#"})", R"({"type":"object","required":["a"],"properties":{"a":false}})"}) {
    try {
      of(wrong);
      FAIL() << wrong;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::InvalidArgument) << error.what();
    }
  }
}

/// Schemas made to cost much are refused, or cost little: within the time that a request may take.
TEST(JsonSchema, APathologicalSchemaIsRefusedSoon) {
  const auto deep = [](int depth) {
    std::string text;
    for (int i = 0; i < depth; ++i) text += R"({"type":"array","items":)";
    text += "true";
    return text + std::string(static_cast<std::size_t>(depth), '}');
  };
  // Every level merges two copies of the next.
  std::string doubling = R"({"$ref":"#/$defs/d0","$defs":{)";
  for (int i = 0; i < 40; ++i) {
    const std::string next = "#/$defs/d" + std::to_string(i + 1);
    doubling += "\"d" + std::to_string(i) + R"(":{"allOf":[{"properties":{"a":{"$ref":")" + next +
                R"("}}},{"properties":{"a":{"$ref":")" + next + R"("}}}]},)";
  }
  doubling += R"("d40":{"type":"object"}}})";
  std::string wide = R"({"type":"object","additionalProperties":false,"properties":{)";
  for (int i = 0; i < 20000; ++i) wide += "\"p" + std::to_string(i) + R"(":{"type":"string"},)";
  wide += R"("last":{}}})";
  std::string circle = R"({"allOf":[{"$ref":"#"}]})";
  std::string pattern = R"({"type":"string","pattern":"^((((a{0,999}){0,999}){0,999}){0,999})*$"})";
  // A product whose states are as many as sets of places, and names that are told apart by many.
  std::string places = R"({"type":"string","pattern":"a.{40}b","maxLength":90})";
  std::string names = R"({"patternProperties":{"a.{12}b":{},"b.{12}c":{},"c.{9}d":{}}})";
  // Each for itself is cheap.
  std::string priced = R"({"properties":{)";
  std::string named = R"({"patternProperties":{"a.*z":{},"b.*y":{},"[c-e]x":{}},"properties":{)";
  for (int i = 0; i < 3000; ++i) {
    const std::string name = "\"p" + std::to_string(i);
    priced += name + R"(":{"pattern":"a.{3}b|c.{2}d","minLength":9,"maxLength":20},)";
    named += name + R"(":{},)";
  }
  priced += R"("last":{}}})";
  named += R"("last":{}}})";
  std::string many = R"({"enum":[)";
  for (int i = 0; i < 50000; ++i) many += "\"value" + std::to_string(i) + "\",";
  many += "0]}";
  for (const std::string& text : {deep(100), deep(400), doubling, wide, circle, pattern, places,
                                  names, priced, named, many}) {
    const Json schema = Json::parse(text);
    const auto begin = std::chrono::steady_clock::now();
    std::string said = "taken";
    try {
      Automaton automaton(json_schema_grammar(schema), 32);
      Automaton::State state = automaton.start();
      for (const char c : std::string("\"aaaaaaaaaaaaaaaa")) {
        if (state != Automaton::kDead) state = automaton.next(state, static_cast<std::uint8_t>(c));
      }
    } catch (const Error& error) {
      said = error.what();
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    // The limit is 0.1 s on a quiet machine (docs/performance.md); a test must not fail for a
    // neighbour's sake.
    EXPECT_LT(took.count(), 5) << text.substr(0, 60) << ": " << said;
    RecordProperty("took", std::to_string(took.count()) + " s, " + said);
    std::printf("%s...: %.3f s, %s\n", text.substr(0, 40).c_str(), took.count(),
                said.substr(0, 100).c_str());
  }
}

TEST(NumberRange, HasExactlyTheNumbersBetweenItsBounds) {
  std::mt19937 random(5);
  const auto number = [&](bool integer) -> Json {
    const auto whole = static_cast<std::int64_t>(random() % 3000) - 1500;
    if (integer || random() % 3 == 0) return whole / static_cast<std::int64_t>(1 + random() % 400);
    return static_cast<double>(whole) / std::pow(10.0, static_cast<double>(random() % 4));
  };
  for (int round = 0; round < 300; ++round) {
    NumberBounds bounds;
    bounds.integer = random() % 2 == 0;
    if (random() % 5 != 0) bounds.low = {number(false), random() % 3 == 0};
    if (random() % 5 != 0) bounds.high = {number(false), random() % 3 == 0};
    Builder b;
    const Builder::Rule root = b.declare("root");
    // Something else, so that an empty range still compiles.
    b.define(root, b.choice({number_range(b, bounds), b.literal("none")}));
    Automaton automaton(b.compile(root), 8);
    const auto inside = [&](double x) {
      const auto low = bounds.low ? bounds.low->value.get<double>() : -1e300;
      const auto high = bounds.high ? bounds.high->value.get<double>() : 1e300;
      return (bounds.low && bounds.low->exclusive ? x > low : x >= low) &&
             (bounds.high && bounds.high->exclusive ? x < high : x <= high);
    };
    for (int i = 0; i < 300; ++i) {
      const Json value = number(bounds.integer);
      // As we write it: without an exponent.
      std::string text =
          value.is_number_float() ? fmt::format("{:.3f}", value.get<double>()) : value.dump();
      if (text[0] == '-' && std::stod(text) == 0) text.erase(0, 1);
      if (value.is_number_float() && bounds.integer) continue;
      ASSERT_EQ(matches(automaton, text), inside(std::stod(text)))
          << text << " in " << (bounds.low ? bounds.low->value.dump() : "-") << " to "
          << (bounds.high ? bounds.high->value.dump() : "-") << (bounds.integer ? " integer" : "");
    }
  }
}

}  // namespace
}  // namespace fathom::grammar
