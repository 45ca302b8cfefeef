// What expressions match, by hand and against std::regex.
#include "grammar/grammar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <regex>

#include "base/error.h"
#include "grammar/gbnf.h"
#include "grammar/grammar_helpers.h"
#include "grammar/json_text.h"
#include "grammar/regex.h"

namespace fathom::grammar {
namespace {

using ::testing::HasSubstr;
using testing::matches;

std::shared_ptr<const Grammar> compiled(const std::function<Builder::Expr(Builder&)>& build) {
  Builder b;
  const Builder::Rule root = b.declare("root");
  b.define(root, build(b));
  return b.compile(root);
}

std::string utf8(std::uint32_t c) {
  const auto byte = [](std::uint32_t x) { return static_cast<char>(x); };
  if (c < 0x80) return {byte(c)};
  if (c < 0x800) return {byte(0xC0 | c >> 6), byte(0x80 | (c & 63))};
  if (c < 0x10000) return {byte(0xE0 | c >> 12), byte(0x80 | (c >> 6 & 63)), byte(0x80 | (c & 63))};
  return {byte(0xF0 | c >> 18), byte(0x80 | (c >> 12 & 63)), byte(0x80 | (c >> 6 & 63)),
          byte(0x80 | (c & 63))};
}

TEST(Grammar, RangesOfCharactersAreExactlyTheirUtf8) {
  std::mt19937 random(1);
  const std::uint32_t edges[] = {0,       1,       0x7E,     0x7F,    0x80,   0x7FF,
                                 0x800,   0xFFF,   0x1000,   0xD7FF,  0xE000, 0xFFFF,
                                 0x10000, 0x3FFFF, 0x10FFFE, 0x10FFFF};
  for (int round = 0; round < 40; ++round) {
    const auto pick = [&]() -> std::uint32_t {
      return static_cast<std::uint32_t>(random() % 2 == 0 ? edges[random() % std::size(edges)]
                                                          : random() % 0x110000);
    };
    std::vector<CodeRange> ranges;
    for (int i = 0; i < 3; ++i) {
      std::uint32_t a = pick();
      std::uint32_t b = pick();
      if (a > b) std::swap(a, b);
      ranges.push_back({a, b});
    }
    Automaton automaton(compiled([&](Builder& b) { return b.chars(ranges); }), 4);
    for (int i = 0; i < 3000; ++i) {
      const std::uint32_t c = pick();
      const bool surrogate = c >= 0xD800 && c <= 0xDFFF;
      const bool inside = std::ranges::any_of(
          ranges, [&](const CodeRange& r) { return r.first <= c && c <= r.last; });
      ASSERT_EQ(matches(automaton, utf8(c)), inside && !surrogate) << std::hex << c;
    }
    EXPECT_FALSE(matches(automaton, "\xC0\x80")) << "overlong";
    EXPECT_FALSE(matches(automaton, "\xED\xA0\x80")) << "a surrogate";
    EXPECT_FALSE(matches(automaton, "\xF4\x90\x80\x80")) << "past the last";
  }
}

TEST(Grammar, RepetitionsCountExactly) {
  for (const auto& [least, most] :
       {std::pair{0U, 3U}, {1U, 1U}, {2U, 5U}, {3U, kUnbounded}, {0U, kUnbounded}}) {
    Automaton automaton(compiled([&, lo = least, hi = most](Builder& b) {
                          return b.sequence({b.repeat(b.literal("ab"), lo, hi), b.literal("c")});
                        }),
                        4);
    for (unsigned n = 0; n < 9; ++n) {
      std::string text;
      for (unsigned i = 0; i < n; ++i) text += "ab";
      EXPECT_EQ(matches(automaton, text + "c"), n >= least && n <= most) << n;
      EXPECT_FALSE(matches(automaton, text + "a"));
    }
  }
}

TEST(Grammar, ARepetitionOfWhatMayBeEmptyEnds) {
  const auto grammar = compiled([](Builder& b) {
    return b.sequence({b.repeat(b.optional(b.literal("a")), 2, 4), b.literal("!")});
  });
  for (const char* text : {"!", "a!", "aaaa!"}) EXPECT_TRUE(matches(grammar, text)) << text;
  EXPECT_FALSE(matches(grammar, "aaaaa!"));
}

TEST(Grammar, RulesMayContainThemselves) {
  Builder b;
  const Builder::Rule root = b.declare("root");
  b.define(root,
           b.optional(b.sequence({b.literal("("), b.use(root), b.literal(")"), b.use(root)})));
  const auto grammar = b.compile(root);
  for (const char* text : {"", "()", "(())()", "((()())())"}) EXPECT_TRUE(matches(grammar, text));
  for (const char* text : {"(", ")", "())", "(()"}) EXPECT_FALSE(matches(grammar, text));
}

TEST(Grammar, WhatNothingSatisfiesIsLeftOut) {
  // "x" followed by nothing possible must not be begun.
  const auto grammar = compiled([](Builder& b) {
    return b.choice({b.sequence({b.literal("x"), b.bytes({})}), b.literal("y")});
  });
  Automaton automaton(grammar, 4);
  EXPECT_EQ(automaton.next(automaton.start(), 'x'), Automaton::kDead);
  EXPECT_TRUE(matches(automaton, "y"));
  EXPECT_THROW(compiled([](Builder& b) { return b.bytes({}); }), Error);
}

TEST(Grammar, RefusesWhatCannotBeWalked) {
  Builder b;
  const Builder::Rule root = b.declare("expr");
  b.define(root, b.choice({b.sequence({b.use(root), b.literal("+")}), b.literal("1")}));
  try {
    b.compile(root);
    FAIL() << "a rule that begins with itself";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("'expr' begins with itself"));
  }
  Builder other;
  const Builder::Rule undefined = other.declare("missing");
  const Builder::Rule start = other.declare("root");
  other.define(start, other.optional(other.use(undefined)));
  EXPECT_THROW(other.compile(start), Error);
}

TEST(Gbnf, ReadsWhatItsUsersWrite) {
  const auto grammar = gbnf_grammar(R"gbnf(
# A list of moves.
root   ::= (move " " move "\n")+ end?   # at least one
move   ::= ( pawn | nonpawn | castle ) [+#]?
pawn   ::= ([a-h] "x")? [a-h] [1-8] ("=" [NBKQR])?
nonpawn ::= [NBKQR] [a-h]? [1-8]? "x"? [a-h] [1-8]
castle ::= "O-O" "-O"?
end ::= "\u0031-0"
      | "\x30-1"
)gbnf");
  EXPECT_TRUE(matches(grammar, "e4 e5\n"));
  EXPECT_TRUE(matches(grammar, "e4 e5\nNf3 Nc6\nO-O O-O-O\n1-0"));
  EXPECT_TRUE(matches(grammar, "exd5 Qxd5+\n0-1"));
  EXPECT_FALSE(matches(grammar, "e4 e9\n"));
  EXPECT_FALSE(matches(grammar, ""));
  EXPECT_TRUE(matches(gbnf_grammar("root ::= [^\\n]{2,4} . \"é\"*"), "日本語é"));
  EXPECT_FALSE(matches(gbnf_grammar("root ::= [^\\n]{2,4}"), "a"));
}

TEST(Gbnf, SaysWhichLineIsWrong) {
  const std::pair<const char*, const char*> wrong[] = {
      {"root ::= \"a", "line 1"},
      {"root ::= a\n", "does not define"},
      {"x ::= \"a\"", "no rule 'root'"},
      {"root ::= (\"a\"", "line 1: a ( without"},
      {"\nroot := \"a\"", "line 2"},
      {"root ::= [a", "a [ without"},
      {"root ::= \"a\"{3,1}", "more than"},
      {"root ::= \"a\"\nroot ::= \"b\"", "defined twice"},
      {"root ::= \"\\uD800\"", "no character's code"}};
  for (const auto& [text, word] : wrong) {
    try {
      gbnf_grammar(text);
      FAIL() << text;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr(word)) << text;
    }
  }
}

/// std::regex is the oracle: ECMAScript's notation, on ASCII.
TEST(Regex, MatchesWhatStdRegexMatches) {
  const char* patterns[] = {"^a+b?$",
                            "abc",
                            "^(ab|cd)*$",
                            "^[a-c]{2,3}x?$",
                            "[^ab]c",
                            "^\\d{1,3}(,\\d{3})*$",
                            "a|^b$|c$",
                            "^\\w+@\\w+\\.com$",
                            "^(?:a|b|ab)(c|bcd)$",
                            "^a.c$",
                            "^\\s*\\S$",
                            "^[\\w.-]+$",
                            "^[a\\-z]]$",
                            "^(a?){0,3}b$",
                            "",
                            "^$",
                            "^\\x41\\u0042[\\D]$",
                            "^a{2}b{0}c{1,}$"};
  std::mt19937 random(3);
  for (const char* pattern : patterns) {
    Builder b;
    JsonText json(b);
    const Builder::Rule root = b.declare("root");
    b.define(root, string_matching(json, pattern));
    Automaton automaton(b.compile(root), 8);
    const std::regex oracle(pattern, std::regex::ECMAScript);
    int matched = 0;
    for (int i = 0; i < 4000; ++i) {
      std::string text;
      const std::string_view letters = "abcxdz019,@.-_ AB]com";
      for (auto n = random() % 8; n > 0; --n) text += letters[random() % letters.size()];
      const bool expected = std::regex_search(text, oracle);
      ASSERT_EQ(matches(automaton, "\"" + text + "\""), expected) << pattern << " on " << text;
      matched += expected ? 1 : 0;
    }
    EXPECT_TRUE(matched > 0 || std::string(pattern).find("com") != std::string::npos ||
                std::string(pattern).size() > 9)
        << pattern;
  }
}

TEST(Regex, EscapesWhatAJsonStringMustEscape) {
  Builder b;
  JsonText json(b);
  const Builder::Rule root = b.declare("root");
  b.define(root, string_matching(json, "^[\"\\\\\\n/]+$"));
  Automaton automaton(b.compile(root), 8);
  EXPECT_TRUE(matches(automaton, R"("\"\\\n/")"));
  EXPECT_FALSE(matches(automaton, "\"\n\""));
}

TEST(Regex, RefusesWhatItCannotKeepTo) {
  const auto refused = [](const char* pattern, ErrorCode code) {
    Builder b;
    JsonText json(b);
    try {
      string_matching(json, pattern);
      FAIL() << pattern;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
    }
  };
  for (const char* pattern : {"a(?=b)", "(a)\\1", "\\bword", "\\p{L}", "a^b", "(^a)", "(?<!a)b"}) {
    refused(pattern, ErrorCode::Unsupported);
  }
  for (const char* pattern : {"(a", "a)", "[a", "*a", "a{2,1}", "a**", "\\", "a{99999999}"}) {
    refused(pattern, ErrorCode::InvalidArgument);
  }
}

}  // namespace
}  // namespace fathom::grammar
