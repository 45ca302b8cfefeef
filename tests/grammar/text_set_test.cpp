// Texts under several conditions, against std::regex over all short texts.
#include "grammar/text_set.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <random>
#include <regex>

#include "base/error.h"
#include "grammar/grammar_helpers.h"

namespace fathom::grammar {
namespace {

using testing::matches;

std::shared_ptr<const Grammar> grammar_of(const TextConditions& conditions) {
  Builder b;
  JsonText json(b);
  TextWork work;
  const Builder::Rule root = b.declare("root");
  b.define(root, string_of(json, conditions, work));
  return b.compile(root);
}
std::string quoted(const std::string& text) { return '"' + text + '"'; }

/// All texts of a, b and c up to this length.
std::vector<std::string> short_texts(std::size_t most) {
  std::vector<std::string> all{""};
  for (std::size_t i = 0; all[i].size() < most; ++i) {
    for (const char c : {'a', 'b', 'c'}) all.push_back(all[i] + c);
  }
  return all;
}

class Patterns {
 public:
  explicit Patterns(unsigned seed) : random_(seed) {}
  std::string any() {
    std::string text = one_in(2) ? "^" : "";
    text += sequence(1);
    if (one_in(2)) text += "$";
    return text;
  }
  bool one_in(unsigned n) { return random_() % n == 0; }
  std::uint32_t below(std::uint32_t n) { return static_cast<std::uint32_t>(random_() % n); }

 private:
  std::string sequence(int depth) {
    std::string text;
    for (std::uint32_t i = 0, n = 1 + below(3); i < n; ++i) {
      text += atom(depth);
      const char* repeats[] = {"", "", "", "*", "+", "?", "{2}", "{1,2}"};
      text += repeats[below(8)];
    }
    return text;
  }
  std::string atom(int depth) {
    const char* simple[] = {"a", "b", "c", "[ab]", "[^a]", "[bc]", "."};
    if (depth == 0 || !one_in(3)) return simple[below(7)];
    return "(?:" + sequence(depth - 1) + "|" + sequence(depth - 1) + ")";
  }
  std::mt19937 random_;
};

TEST(TextSet, HasWhatAllConditionsHave) {
  const std::vector<std::string> texts = short_texts(5);
  Patterns patterns(7);
  int satisfied = 0;
  for (int round = 0; round < 200; ++round) {
    TextConditions all;
    for (std::uint32_t i = 0, n = 1 + patterns.below(2); i < n; ++i) {
      all.patterns.push_back(patterns.any());
    }
    if (patterns.one_in(2)) all.excluded.push_back(patterns.any());
    if (patterns.one_in(3)) all.taken = {"a", "bab", ""};
    if (patterns.one_in(2)) all.least = patterns.below(4);
    if (patterns.one_in(2)) all.most = all.least + patterns.below(4);
    std::string said;
    for (const std::string& p : all.patterns) said += p + " ";
    for (const std::string& p : all.excluded) said += "not " + p + " ";
    said += std::to_string(all.least) + " to " + std::to_string(all.most);
    std::optional<Automaton> automaton;
    TextWork work;
    try {
      automaton.emplace(grammar_of(all), 16);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::InvalidArgument) << said << ": " << error.what();
    }
    std::vector<std::regex> wanted_ones, excluded;
    for (const std::string& p : all.patterns) wanted_ones.emplace_back(p);
    for (const std::string& p : all.excluded) excluded.emplace_back(p);
    for (const std::string& text : texts) {
      bool wanted = text.size() >= all.least && text.size() <= all.most;
      for (const std::regex& p : wanted_ones) wanted = wanted && std::regex_search(text, p);
      for (const std::regex& p : excluded) wanted = wanted && !std::regex_search(text, p);
      wanted = wanted && std::ranges::find(all.taken, text) == all.taken.end();
      satisfied += wanted;
      ASSERT_EQ(automaton && matches(*automaton, quoted(text)), wanted) << said << ": " << text;
      if (text.size() != 3) continue;
      ASSERT_EQ(satisfies(text, all, work), wanted) << said << ": " << text;
    }
  }
  EXPECT_GT(satisfied, 1000);
}

TEST(TextSet, CountsCharactersNotBytesOrEscapes) {
  const auto grammar = grammar_of({{"^[^x]+$"}, {}, {"é"}, 1, 3});
  for (const char* text : {R"("日本語")", R"("a\n\"")", R"("\\")", R"("ée")"}) {
    EXPECT_TRUE(matches(grammar, text)) << text;
  }
  for (const char* text : {R"("")", R"("é")", R"("axb")", R"("abcd")", R"("日本語日")"}) {
    EXPECT_FALSE(matches(grammar, text)) << text;
  }
}

TEST(TextSet, LongOnesCostLittle) {
  // The repetition stays one: as many states as a text has characters would be too many.
  const auto grammar = grammar_of({{"^[a-z][a-z0-9-]*$"}, {}, {}, 3, 100000});
  EXPECT_LT(grammar->nodes.size(), 3000U);
  EXPECT_TRUE(matches(grammar, quoted("a" + std::string(5000, '-'))));
  EXPECT_FALSE(matches(grammar, quoted("a-")));
  EXPECT_FALSE(matches(grammar, quoted("-ab")));
  // Two repetitions have no bound but by counting both.
  EXPECT_TRUE(matches(grammar_of({{"^[a-z]+-[a-z]+$"}, {}, {}, 5, 300}), quoted("abc-defg")));
  try {
    grammar_of({{"^[a-z]+-[a-z]+$"}, {}, {}, 5, 30000});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::Unsupported);
  }
}

}  // namespace
}  // namespace fathom::grammar
