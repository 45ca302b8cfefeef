// What a hostile template may cost: memory while it runs, and nothing that a real one needs.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/error.h"
#include "base/peak_memory.h"
#include "tokenizer/chat_template.h"

namespace fathom {
namespace {

/// Each grows something in its own way until a limit stops it.
const char* const kHungry[] = {
    // one long text, by doubling, repeating, padding, joining, replacing
    "{% set n = namespace(s='ab') %}{% for i in range(99) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
    "{{ 'a' * 999999999 }}",
    "{{ 'a'.ljust(99999999) }}",
    "{{ ('a' * 99999).replace('a', 'b' * 99999) }}",
    "{{ ('x' * 9999)|list|join('y' * 99999) }}",
    "{{ ('<' * 3000000)|escape|escape|escape }}",
    "{{ ('\x01' * 3000000)|tojson|tojson|tojson }}",
    "{{ ('%9999s' * 2000) % ((1,) * 2000) }}",
    // the output itself, and what blocks and macros print
    "{% for i in range(99999) %}{{ 'a' * 9999 }}{% endfor %}",
    "{% macro m(d) %}{{ 'a' * 3000000 }}{{ m(d + 1) }}{% endmacro %}{{ m(0) }}",
    // many texts, lists, dicts
    "{% set n = namespace(l=[]) %}{% for i in range(99999) %}{% set n.l = [n.l, 'abc' ~ i] %}"
    "{% endfor %}",
    "{% set n = namespace(l=[1]) %}{% for i in range(99) %}{% set n.l = n.l + n.l %}{% endfor %}",
    "{{ [1] * 99999999 }}",
    "{% set n = namespace(l=[]) %}{% for i in range(99999) %}"
    "{% set n.l = n.l + [range(99999)|list] %}{% endfor %}",
    "{% set n = namespace(l=['']) %}{% for i in range(99) %}"
    "{% set n.l = n.l|map('upper')|list + n.l|map('lower')|list %}{% endfor %}",
    "{% set n = namespace(d={}) %}{% for i in range(99999) %}{% set n.d = dict(n.d, **{'k' ~ i: "
    "i}) %}"
    "{% endfor %}",
    // pieces of a text, which take more than the text
    "{{ ('a,' * 1500000).split(',')|length }}",
    "{{ ('a,' * 1500000).rsplit(',')|length }}",
    "{{ ('a ' * 1500000).split()|length }}",
    "{{ ('a\n' * 1500000).splitlines()|length }}",
    "{{ ('a' * 3000000)|list|length }}",
    "{{ ('a' * 3000000)[::-1]|length }}",
    "{{ ('a' * 3000000)|title|capitalize|wordcount }}",
    "{{ range(99999)|batch(1)|map('list')|list|length * 9 }}{{ range(99999)|list|sort|groupby(0) "
    "}}",
    // scopes that macros keep, variables in every call of a recursion, loops without end
    "{% macro m(a,b,c,d,e,f,g,h) %}{% set i = 1 %}{% set j = 1 %}{% set k = 1 %}{{ m(1,2,3) }}"
    "{% endmacro %}{{ m() }}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% macro m() %}{{ i }}{% endmacro %}"
    "{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{% for j in [1] %}{{ loop.changed('a' * 99) }}{% endfor %}{% "
    "endfor %}"
    "{% for i in range(99999) %}{% for j in range(99) %}{% for k in [1] %}{% endfor %}{% endfor %}"
    "{% endfor %}",
    "{% for x in [1] recursive %}{% set y = range(99999)|list %}{{ loop([1]) }}{% endfor %}",
    "{% for i in range(99999) %}{% set n = namespace(a='b' * 99) %}{% endfor %}",
};

TEST(HostileTemplate, IsStoppedInLittleMemory) {
  if (!testing::kMeasuresMemory) GTEST_SKIP() << "under sanitizers memory says nothing";
  const int before = testing::peak_mib_of([] {});
  for (const char* source : kHungry) {
    const int peak = testing::peak_mib_of([&] {
      try {
        ChatTemplate(source).render({{"messages", Json::array()}});
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::ResourceLimit) << source << "\n" << error.what();
      }
    });
    // A program that has just started holds less than 16 MiB.
    EXPECT_LT(peak - before, 48) << source;
  }
}

std::string golden(const std::string& name) {
  std::ifstream file(FATHOM_SOURCE_DIR "/tests/golden/chat_templates/" + name, std::ios::binary);
  EXPECT_TRUE(file.good()) << name;
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

/// Questions and answers, the reasoning in front, until `bytes` are said in turns of `turn`.
Json long_conversation(size_t bytes, size_t turn) {
  Json messages = Json::array();
  std::string said;
  while (said.size() < turn) said += "The quick brown f\u00f6x, \"quoted\" <b>; ";
  for (size_t total = 0; total < bytes; total += 2 * said.size()) {
    messages.push_back({{"role", "user"}, {"content", said}});
    messages.push_back({{"role", "assistant"}, {"content", "<think>\nHm.\n</think>\n\n" + said}});
  }
  messages.push_back({{"role", "user"}, {"content", "And?"}});
  return messages;
}

TEST(RealTemplates, RenderLongConversationsWithinTheLimits) {
  const Json file = Json::parse(golden("expected.json"));
  // A million tokens in long turns, and as many messages as fit into 128 Ki tokens.
  for (const Json& messages :
       {long_conversation(4 << 20, 256 << 10), long_conversation(512 << 10, 200)}) {
    for (const auto& [name, cases] : file["expected"].items()) {
      if (name == "smolvlm") continue;  // wants lists; walks a text character by character
      Json inputs = cases.empty() ? Json::object() : file["cases"][cases.begin().key()];
      inputs["messages"] = messages;
      inputs["now"] = file["now"];
      inputs["tools"] = nullptr;
      try {
        const std::string text =
            ChatTemplate(golden("templates/" + name + ".jinja")).render(inputs);
        EXPECT_GT(text.size(), 200U) << name;
      } catch (const Error& error) {
        EXPECT_NE(error.code(), ErrorCode::ResourceLimit) << name << ": " << error.what();
      }
    }
  }
}

}  // namespace
}  // namespace fathom
