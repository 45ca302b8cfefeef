// Real templates against jinja2, and what a template may not do. The golden files' README says how
// they were made.
#include "tokenizer/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/error.h"

namespace fathom {
namespace {

using ::testing::HasSubstr;

std::string golden(const std::string& name) {
  const std::string path = FATHOM_SOURCE_DIR "/tests/golden/chat_templates/" + name;
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

/// What our engine does, in the goldens' form: a text, or {"error": ...}.
Json outcome(const std::string& source, const Json& inputs) {
  try {
    return ChatTemplate(source).render(inputs);
  } catch (const Error& error) {
    return Json{{"error", error.what()}};
  }
}

/// The same text; an error for an error; the template's own words where it raised them.
void expect_as_jinja2(const Json& ours, const Json& wanted, const std::string& what) {
  if (wanted.is_string()) {
    EXPECT_EQ(ours, wanted) << what;
  } else if (wanted.contains("raised")) {
    ASSERT_TRUE(ours.is_object()) << what << " gave " << ours;
    EXPECT_EQ(ours["error"], wanted["raised"]) << what;
  } else {
    EXPECT_TRUE(ours.is_object()) << what << " gave " << ours << ", jinja2 fails with " << wanted;
  }
}

std::string render(std::string_view source, const Json& inputs = Json::object(),
                   const TemplateLimits& limits = {}) {
  return ChatTemplate(source, limits).render(inputs);
}

/// The Error that parsing and rendering `source` ends with.
Error error_of(std::string_view source, const Json& inputs = Json::object(),
               const TemplateLimits& limits = {}) {
  try {
    const std::string text = render(source, inputs, limits);
    ADD_FAILURE() << "rendered " << text.size() << " bytes: " << text.substr(0, 200);
  } catch (const Error& error) {
    return error;
  }
  return {ErrorCode::Internal, "no error"};
}

TEST(ChatTemplate, RendersRealTemplatesAsJinja2) {
  const Json file = Json::parse(golden("expected.json"));
  size_t templates = 0;
  for (const auto& [name, cases] : file["expected"].items()) {
    const std::string source = golden("templates/" + name + ".jinja");
    ++templates;
    for (const auto& [conversation, wanted] : cases.items()) {
      Json inputs = file["cases"][conversation];
      inputs["now"] = file["now"];
      expect_as_jinja2(outcome(source, inputs), wanted, name + " with " + conversation);
    }
  }
  EXPECT_GE(templates, 25U);
}

TEST(ChatTemplate, RendersSnippetsAsJinja2) {
  const Json file = Json::parse(golden("snippets.json"));
  Json inputs = file["inputs"];
  inputs["now"] = "2026-11-21 19:24:05";
  EXPECT_GE(file["snippets"].size(), 300U);
  for (const Json& snippet : file["snippets"]) {
    const auto source = snippet[0].get<std::string>();
    expect_as_jinja2(outcome(source, inputs), snippet[1], source);
  }
}

TEST(ChatTemplate, RenderChatPassesEveryInput) {
  const Json messages = Json::parse(R"([{"role": "user", "content": "Hi"}])");
  const Json tools = Json::parse(R"([{"name": "t"}])");
  const Json extra = Json::parse(R"({"mood": "calm"})");
  const ChatTemplate t(
      "{{ bos_token }}{{ messages[0].content }}{{ tools }}{{ mood }}{{ eos_token }}"
      "{{ add_generation_prompt }}");
  ChatInput input;
  input.messages = &messages;
  input.bos_token = "<s>";
  input.eos_token = "</s>";
  input.extra = &extra;
  EXPECT_EQ(t.render_chat(input), "<s>HiNonecalm</s>True");
  input.tools = &tools;
  input.add_generation_prompt = false;
  EXPECT_EQ(t.render_chat(input), "<s>Hi[{'name': 't'}]calm</s>False");
}

TEST(ChatTemplate, RaiseExceptionGivesTheTemplatesWords) {
  const Error error = error_of("{{ raise_exception('Roles must alternate!') }}");
  EXPECT_EQ(error.code(), ErrorCode::InvalidArgument);
  EXPECT_STREQ(error.what(), "Roles must alternate!");
}

TEST(ChatTemplate, SyntaxErrorNamesItsLine) {
  const Error error = error_of("one\n{% if x %}\n{{ 1 + }}\n{% endif %}");
  EXPECT_EQ(error.code(), ErrorCode::InvalidArgument);
  EXPECT_THAT(error.what(), HasSubstr("line 3"));
}

TEST(ChatTemplate, RuntimeErrorNamesItsLineAndTheMissingValue) {
  const Error error = error_of("one\n{{ absent.field }}");
  EXPECT_EQ(error.code(), ErrorCode::InvalidArgument);
  EXPECT_THAT(error.what(), HasSubstr("line 2"));
  EXPECT_THAT(error.what(), HasSubstr("'absent' is undefined"));
}

TEST(ChatTemplate, TagsThatNeedOtherTemplatesAreUnsupported) {
  for (const char* source : {"{% include 'x' %}", "{% extends 'x' %}", "{% import 'x' as y %}"}) {
    EXPECT_EQ(error_of(source).code(), ErrorCode::Unsupported) << source;
  }
}

TEST(ChatTemplate, StrftimeWithoutTheTimeIsAnError) {
  EXPECT_THAT(error_of("{{ strftime_now('%Y') }}").what(), HasSubstr("now"));
}

TEST(ChatTemplate, FindsNoWayFromAValueToTheMachine) {
  EXPECT_EQ(render("{{ ''.__class__ }}{{ [].__len__ is defined }}{{ x.__init__ }}", {{"x", 1}}),
            "False");
  EXPECT_THROW(render("{{ ''.__class__.__mro__ }}"), Error);
  EXPECT_THROW(render("{{ x.append(1) }}", {{"x", Json::array()}}), Error);
  EXPECT_EQ(render("{{ raise_exception.__globals__ }}{{ range.__self__ }}"), "");
}

TEST(ChatTemplate, CarriesInvalidUtf8Through) {
  const std::string bytes = "a\xFF\xC3z";
  EXPECT_EQ(render("{{ x }}{{ x|length }}{{ x[1:3] }}", {{"x", bytes}}), bytes + "4\xFF\xC3");
}

/// A tenth of the usual limits, so that reaching them is quick.
TemplateLimits small_limits() {
  TemplateLimits limits;
  limits.max_steps /= 10;
  limits.max_output_bytes /= 10;
  limits.max_memory_bytes /= 10;
  return limits;
}

TEST(ChatTemplate, StopsATemplateThatLoops) {
  const char* endless =
      "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}"
      "{% endfor %}{% endfor %}{% endfor %}";
  EXPECT_EQ(error_of(endless, Json::object(), small_limits()).code(), ErrorCode::ResourceLimit);
}

TEST(ChatTemplate, StopsATemplateThatRecurses) {
  EXPECT_EQ(error_of("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}").code(),
            ErrorCode::ResourceLimit);
  const Error loop = error_of(
      "{% set n = namespace(f=none) %}{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}");
  EXPECT_EQ(loop.code(), ErrorCode::ResourceLimit);
}

TEST(ChatTemplate, StopsATemplateThatFillsMemory) {
  for (const char* source : {
           "{{ 'a' * 999999999999 }}",
           "{{ [1] * 999999999999 }}",
           "{% set n = namespace(s='ab') %}{% for i in range(99) %}{% set n.s = n.s ~ n.s %}"
           "{% endfor %}",
           "{% set n = namespace(l=[1]) %}{% for i in range(99) %}{% set n.l = n.l + n.l %}"
           "{% endfor %}",
           "{% set n = namespace(l=[1]) %}{% for i in range(99) %}{% set n.l = [n.l, n.l] %}"
           "{% endfor %}{{ n.l }}",
           "{{ 'a'.ljust(99999999999) }}",
           "{{ '%999999999d' % 1 }}",
           "{{ '{:999999999}'.format(1) }}",
           "{{ range(9999999999) }}",
           "{{ ('a' * 99999).replace('a', 'b' * 99999) }}",
           "{{ ('x' * 9999)|list|join('y' * 99999) }}",
       }) {
    EXPECT_EQ(error_of(source, Json::object(), small_limits()).code(), ErrorCode::ResourceLimit)
        << source;
  }
}

TEST(ChatTemplate, StopsValuesThatNestWithoutEnd) {
  EXPECT_EQ(error_of("{% set n = namespace(l=[]) %}{% for i in range(9999) %}"
                     "{% set n.l = [n.l] %}{% endfor %}{{ n.l }}")
                .code(),
            ErrorCode::ResourceLimit);
  // A namespace may hold itself; printing it must end.
  EXPECT_EQ(error_of("{% set n = namespace() %}{% set n.n = n %}{{ n }}").code(),
            ErrorCode::ResourceLimit);
}

TEST(ChatTemplate, RefusesDeepSyntaxAndLargeTemplates) {
  const std::string nest = std::string(100'000, '(') + "1" + std::string(100'000, ')');
  EXPECT_EQ(error_of("{{ " + nest + " }}").code(), ErrorCode::ResourceLimit);
  std::string sum = "1";
  for (int i = 0; i < 50'000; ++i) sum += "+1";
  EXPECT_EQ(error_of("{{ " + sum + " }}").code(), ErrorCode::ResourceLimit);
  std::string nested;
  for (int i = 0; i < 10'000; ++i) nested += "{% if 1 %}";
  EXPECT_EQ(error_of(nested).code(), ErrorCode::ResourceLimit);
  EXPECT_EQ(error_of(std::string(300 << 10, 'x')).code(), ErrorCode::ResourceLimit);
}

TEST(ChatTemplate, HonoursTheCallersLimits) {
  TemplateLimits limits;
  limits.max_output_bytes = 100;
  EXPECT_EQ(render("{% for i in range(50) %}xy{% endfor %}", Json::object(), limits).size(), 100U);
  EXPECT_EQ(error_of("{% for i in range(51) %}xy{% endfor %}", Json::object(), limits).code(),
            ErrorCode::ResourceLimit);
}

TEST(ChatTemplate, OneTemplateServesManyRenderings) {
  const ChatTemplate t("{% set n = namespace(x=0) %}{% set n.x = n.x + y %}{{ n.x }}");
  EXPECT_EQ(t.render({{"y", 1}}), "1");
  EXPECT_EQ(t.render({{"y", 2}}), "2");
}

}  // namespace
}  // namespace fathom
