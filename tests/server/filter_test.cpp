// Rules, and texts under them.
#include "server/filter.h"

#include <gmock/gmock.h>

#include <map>
#include <random>
#include <regex>

#include "base/error.h"
#include "server/answer_filter.h"
#include "server/json_escapes.h"

namespace fathom::server {
namespace {

using ::testing::HasSubstr;

Filter::Rules rules(const std::vector<std::string>& patterns) {
  Filter::Rules made;
  for (const std::string& pattern : patterns) {
    FilterRule rule;
    rule.name = pattern;
    rule.pattern = std::make_shared<grammar::TextPattern>(pattern, false);
    made.push_back(std::make_shared<const FilterRule>(std::move(rule)));
  }
  return made;
}

/// What was given of the text, and which rule ended it: "-" if none.
struct Passed {
  std::string text, rule;
  bool operator==(const Passed&) const = default;
};
void PrintTo(const Passed& passed, std::ostream* out) {
  *out << '"' << passed.text << "\" " << passed.rule;
}

Passed pass(const Filter::Rules& rules, const std::vector<std::string>& pieces,
            Screen::Form form = Screen::Form::Plain) {
  Screen screen(rules, form);
  Passed passed;
  for (const std::string& piece : pieces) passed.text += screen.push(piece);
  passed.text += screen.finish();
  passed.rule = screen.caught() ? screen.caught()->name : "-";
  return passed;
}

std::vector<std::string> cut(const std::string& text, std::mt19937& random) {
  std::vector<std::string> pieces;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t size = std::min<std::size_t>(1 + random() % 4, text.size() - at);
    pieces.push_back(text.substr(at, size));
    at += size;
  }
  return pieces;
}

// ---- the file -----------------------------------------------------------------------------------

TEST(FilterFile, RulesSayWhatTheyApplyTo) {
  const Filter filter = Filter::parse(R"({"rules": [
      {"name": "both", "pattern": "a"},
      {"name": "in.1", "pattern": "b", "applies_to": ["input"], "reason": "no b"},
      {"name": "out_2", "pattern": "c", "applies_to": ["output"], "ignore_case": true}]})",
                                      "f.json");
  const auto names = [](const Filter::Rules& list) {
    std::vector<std::string> all;
    for (const auto& rule : list) all.push_back(rule->name);
    return all;
  };
  EXPECT_EQ(names(filter.input()), (std::vector<std::string>{"both", "in.1"}));
  EXPECT_EQ(names(filter.output()), (std::vector<std::string>{"both", "out_2"}));
  EXPECT_EQ(filter.input()[1]->reason, "no b");
  EXPECT_EQ(Finder(filter.output()).find("bC"), filter.output()[1]);
  EXPECT_EQ(Finder(filter.input()).find("B"), nullptr);
}

TEST(FilterFile, JudgesHaveDefaults) {
  const Filter filter = Filter::parse(R"({"judges": [
      {"name": "a", "model": "m"},
      {"name": "b", "model": "n", "question": "Is {text} bad?", "flag_word": "unsafe",
       "pass_word": "safe", "threshold": 0.2, "every": 50, "applies_to": ["output"],
       "reason": "why"}]})",
                                      "f.json");
  ASSERT_EQ(filter.judges().size(), 2U);
  const JudgeRule& a = filter.judges()[0];
  EXPECT_EQ(a.flag_word + a.pass_word + a.question, "YesNo");
  EXPECT_TRUE(a.input && a.output);
  const JudgeRule& b = filter.judges()[1];
  EXPECT_EQ(b.rule->name + b.model + b.rule->reason, "bnwhy");
  EXPECT_EQ(b.flag_word + b.pass_word, "unsafesafe");
  EXPECT_EQ(b.threshold, 0.2);
  EXPECT_EQ(b.every, 50U);
  EXPECT_FALSE(b.input);
}

TEST(FilterFile, EachMistakeIsNamedWithItsPlace) {
  const auto refused = [](const std::string& file, const std::vector<const char*>& words) {
    try {
      Filter::parse(file, "f.json");
      FAIL() << file;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("f.json")) << file;
      for (const char* word : words) EXPECT_THAT(error.what(), HasSubstr(word)) << file;
    }
  };
  const auto rule = [&](const std::string& members, const std::vector<const char*>& words) {
    refused(R"({"rules": [{"name": "ok", "pattern": "a"}, {)" + members + "}]}", words);
  };
  refused("{", {"no JSON"});
  refused("[]", {"an object", "array"});
  refused("{}", {"'rules' is missing"});
  refused(R"({"rules": []})", {"rules", "one at least"});
  refused(R"({"rules": {}})", {"rules", "a list"});
  refused(R"({"rules": ["x"]})", {"rules[0]", "an object", "string"});
  refused(R"({"rules": [{"name": "a", "pattern": "a"}], "mode": 1})", {"'mode'", "rules"});
  rule(R"("pattern": "a")", {"rules[1]", "'name' is missing"});
  rule(R"("name": "x")", {"rules[1] 'x'", "'pattern' is missing"});
  rule(R"("name": "a b", "pattern": "a")", {"rules[1]", "name", "letters", "\"a b\""});
  rule(R"("name": 7, "pattern": "a")", {"rules[1]", "name", "a string", "7"});
  rule(R"("name": "ok", "pattern": "a")", {"rules[1] 'ok'", "another rule"});
  rule(R"("name": "x", "patern": "a")", {"rules[1]", "'patern'", "pattern"});
  rule(R"("name": "x", "pattern": "(a")", {"rules[1] 'x'", "pattern", "( without its )"});
  rule(R"("name": "x", "pattern": "a*")", {"rules[1] 'x'", "empty text"});
  rule(R"("name": "x", "pattern": "(a)\\1")", {"rules[1] 'x'", "back reference"});
  rule(R"("name": "x", "pattern": "a", "pattern": "b")", {"'pattern' stands twice"});
  rule(R"("name": "x", "pattern": "a", "applies_to": "input")", {"'x'", "applies_to", "a list"});
  const auto judge = [&](const std::string& members, const std::vector<const char*>& words) {
    refused(R"({"judges": [{"name": "j", "model": "m", )" + members + "}]}", words);
  };
  refused(R"({"judges": []})", {"judges", "one at least"});
  refused(R"({"judges": [{"name": "j"}]})", {"judges[0] 'j'", "'model' is missing"});
  refused(R"({"rules": [{"name": "j", "pattern": "a"}], "judges": [{"name": "j", "model": "m"}]})",
          {"judges[0] 'j'", "another rule"});
  judge(R"("question": "is it bad?")", {"judges[0] 'j'", "question", "{text} in it"});
  judge(R"("flag_word": "")", {"flag_word", "a word"});
  judge(R"("flag_word": "nay", "pass_word": "none")", {"'nay'", "'none'", "first letter"});
  judge(R"("threshold": 1)", {"threshold", "between 0 and 1"});
  judge(R"("every": 0)", {"every", "1 to 1000000"});
  judge(R"("pattern": "a")", {"there is no member 'pattern'"});
  rule(R"("name": "x", "pattern": "a", "applies_to": [])", {"'x'", "applies_to", "[]"});
  rule(R"("name": "x", "pattern": "a", "applies_to": ["answer"])", {"'x'", "\"output\"", "answer"});
  rule(R"("name": "x", "pattern": "a", "ignore_case": 1)", {"'x'", "ignore_case", "true or false"});
  rule(R"("name": "x", "pattern": "a", "reason": null)", {"'x'", "reason", "a string", "null"});
}

// ---- texts --------------------------------------------------------------------------------------

TEST(Screen, GivesWhatStandsBeforeTheMatchAndNothingAfterIt) {
  EXPECT_EQ(pass(rules({"bad"}), {"so b", "ad it", "s"}), (Passed{"so ", "bad"}));
  EXPECT_EQ(pass(rules({"bad"}), {"so ba", "ck"}), (Passed{"so back", "-"}));
  EXPECT_EQ(pass(rules({"x", "bad"}), {"a bad x"}), (Passed{"a ", "bad"}));
  EXPECT_EQ(pass(rules({"bc", "abc"}), {"abc"}), (Passed{"", "abc"})) << "it begins first";
  EXPECT_EQ(pass(rules({"c", "[c]"}), {"abc"}), (Passed{"ab", "c"})) << "the first in the file";
  EXPECT_EQ(pass(rules({"a\\b", "-"}), {"ba-"}), (Passed{"b", "a\\b"})) << "it ends first";
  EXPECT_EQ(pass(rules({"bad$"}), {"bad b", "ad"}), (Passed{"bad ", "bad$"}));
  EXPECT_EQ(pass(rules({"bad$"}), {"bad", "!"}), (Passed{"bad!", "-"}));
}

TEST(Screen, HoldsBackNoMoreThanWhatMayBecomeAMatch) {
  Screen screen(rules({"abcd", "bx"}));
  EXPECT_EQ(screen.push("za"), "z");
  EXPECT_EQ(screen.push("b"), "");
  EXPECT_EQ(screen.push("c"), "") << "abc may go on, though bx no longer does";
  EXPECT_EQ(screen.push("a"), "abc");
  EXPECT_EQ(screen.push("bb"), "ab");
  EXPECT_EQ(screen.push("."), "b.");
  EXPECT_EQ(screen.finish(), "");
}

TEST(Screen, CharactersMayBeCutAnywhere) {
  const Filter::Rules made = rules({"größe [€-₿]", "😀{2}"});
  for (const std::string text : {"die größe € ist", "größe £", "x😀😁😀😀y", "grö"}) {
    const Passed whole = pass(made, {text});
    for (std::size_t a = 0; a <= text.size(); ++a) {
      for (std::size_t b = a; b <= text.size(); ++b) {
        EXPECT_EQ(pass(made, {text.substr(0, a), text.substr(a, b - a), text.substr(b)}), whole);
      }
    }
  }
  EXPECT_EQ(pass(made, {"x😀😁😀😀y"}), (Passed{"x😀😁", "😀{2}"}));
}

/// All rules, at each end from the first on, by another library.
Passed by_trial(const std::vector<std::string>& patterns, const std::string& text) {
  for (std::size_t end = 1; end <= text.size(); ++end) {
    for (std::size_t begin = 0; begin < end; ++begin) {
      for (const std::string& pattern : patterns) {
        if (std::regex_match(text.substr(begin, end - begin), std::regex(pattern))) {
          return {text.substr(0, begin), pattern};
        }
      }
    }
  }
  return {text, "-"};
}

TEST(Screen, HowATextIsCutMakesNoDifferenceAndItIsWhatASearchByTrialFinds) {
  const std::vector<std::vector<std::string>> sets = {{"abca"},
                                                      {"ab+c", "cc"},
                                                      {"a(b|c)*a", "bbb"},
                                                      {"(ab|ba)+c", "aca", "b{3,4}a"},
                                                      {"a[^b]c", "bcb"}};
  std::mt19937 random(3);
  for (const auto& patterns : sets) {
    const Filter::Rules made = rules(patterns);
    for (int i = 0; i < 60; ++i) {
      std::string text(random() % 14, ' ');
      for (char& c : text) c = static_cast<char>('a' + random() % 3);
      const Passed expected = by_trial(patterns, text);
      EXPECT_EQ(pass(made, {text}), expected) << text;
      for (int k = 0; k < 5; ++k) EXPECT_EQ(pass(made, cut(text, random)), expected) << text;
    }
  }
}

TEST(Screen, AfterEachPieceIsHeldExactlyWhatBeginsTheEarliestMatchUnderWay) {
  const std::vector<std::string> patterns = {"abca", "(ab|ba)+c", "b\\b.c", "c{3,5}a", "aab$"};
  const Filter::Rules made = rules(patterns);
  std::mt19937 random(4);
  for (int i = 0; i < 300; ++i) {
    std::string text(40, ' ');
    for (char& c : text) c = "abc-"[random() % 4];
    Screen screen(made);
    std::vector<grammar::TextSearch> searches;
    for (const auto& rule : made) searches.emplace_back(rule->pattern);
    std::string given;
    std::size_t taken = 0;
    for (const std::string& piece : cut(text, random)) {
      given += screen.push(piece);
      if (screen.caught()) break;
      std::uint64_t earliest = taken + piece.size();
      for (grammar::TextSearch& search : searches) {
        for (std::size_t k = 0; k < piece.size(); ++k) {
          search.step(static_cast<std::uint8_t>(piece[k]), taken + k);
        }
        earliest = std::min(earliest, search.earliest().value_or(earliest));
      }
      taken += piece.size();
      EXPECT_EQ(given, text.substr(0, earliest)) << text.substr(0, taken);
    }
  }
}

TEST(Finder, TextsAreSearchedEachForItself) {
  Finder finder(rules({"^a", "b\\b", "cd"}));
  EXPECT_EQ(finder.find("xb")->name, "b\\b");
  EXPECT_EQ(finder.find("a")->name, "^a");
  EXPECT_EQ(finder.find("xc"), nullptr);
  EXPECT_EQ(finder.find("d"), nullptr);
  EXPECT_EQ(finder.find("cd")->name, "cd");
  EXPECT_EQ(finder.find("ab")->name, "^a") << "the first of the file";
}

TEST(Screen, HostileTextIsTakenInLinearTime) {
  Screen screen(rules({"(a|aa)+b", "(a*)*c", "\\ba{3,40}-"}));
  std::string given;
  for (int i = 0; i < 200'000; ++i) given += screen.push("a");
  EXPECT_EQ(given, "") << "all of it may be the beginning of a match";
  given += screen.push(".");
  EXPECT_EQ(given.size(), 200'001U);
}

// ---- JSON ---------------------------------------------------------------------------------------

TEST(Screen, OfJsonItSearchesWhatIsMeant) {
  const auto in_json = [](const std::string& pattern, const std::string& text) {
    const Passed whole = pass(rules({pattern}), {text}, Screen::Form::JsonText);
    for (std::size_t at = 0; at <= text.size(); ++at) {
      EXPECT_EQ(
          pass(rules({pattern}), {text.substr(0, at), text.substr(at)}, Screen::Form::JsonText),
          whole)
          << text << " cut at " << at;
    }
    return whole;
  };
  EXPECT_EQ(in_json("größe", R"({"a": "die gr\u00f6\u00dfe"})"),
            (Passed{R"({"a": "die )", "größe"}));
  EXPECT_EQ(in_json("ö", R"({"a": "die gr\u00f6\u00dfe"})"), (Passed{R"({"a": "die gr)", "ö"}));
  EXPECT_EQ(in_json("a\\s+b", R"(["a\n\tb"])"), (Passed{R"([")", "a\\s+b"}));
  EXPECT_EQ(in_json("😀", R"(["x\ud83d\ude00"])"), (Passed{R"(["x)", "😀"}));
  EXPECT_EQ(in_json("\\uFFFD.", R"(["\ud83dx"])"), (Passed{R"([")", "\\uFFFD."})) << "half of one";
  EXPECT_EQ(in_json("nb", R"(["a\nb"])"), (Passed{R"(["a\nb"])", "-"})) << "the n is no n";
  EXPECT_EQ(in_json("x", R"(["a\u00)"), (Passed{R"(["a\u00)", "-"})) << "cut off";
  EXPECT_EQ(in_json("\"b", R"(["a\"b"])"), (Passed{R"(["a)", "\"b"}));
}

// ---- an answer ----------------------------------------------------------------------------------

TEST(AnswerFilter, EachCallsArgumentsAreATextOfTheirOwn) {
  using Kind = ToolPiece::Kind;
  const Filter::Rules made = rules({"^b", "ab", "q$"});
  AnswerFilter filter(made);
  // a|b: not one text; "b" begins no text but the second call's.
  const auto first =
      filter.pass({{Kind::Text, "xa"}, {Kind::Begin, "f"}, {Kind::Arguments, "a"}}, false);
  EXPECT_EQ(first,
            (std::vector<ToolPiece>{{Kind::Text, "x"}, {Kind::Text, "a"}, {Kind::Begin, "f"}}));
  EXPECT_EQ(filter.pass({{Kind::End, ""}, {Kind::Begin, "g"}}, false),
            (std::vector<ToolPiece>{{Kind::Arguments, "a"}, {Kind::End, ""}, {Kind::Begin, "g"}}));
  EXPECT_FALSE(filter.caught());
  EXPECT_EQ(filter.pass({{Kind::Arguments, "b"}, {Kind::End, ""}, {Kind::Text, "x"}}, true),
            (std::vector<ToolPiece>{}));
  ASSERT_TRUE(filter.caught());
  EXPECT_EQ(filter.caught()->place, AnswerFilter::Place::Call);
  EXPECT_EQ(filter.caught()->rule->name, "^b");
}

TEST(AnswerFilter, ATextThatEndsWithAMatchHasNoCallAfterIt) {
  using Kind = ToolPiece::Kind;
  const Filter::Rules made = rules({"q$"});
  AnswerFilter filter(made);
  EXPECT_EQ(filter.pass({{Kind::Text, "xq"}, {Kind::Begin, "f"}}, false),
            (std::vector<ToolPiece>{{Kind::Text, "x"}}));
  EXPECT_EQ(filter.caught()->place, AnswerFilter::Place::Text);
}

}  // namespace
}  // namespace fathom::server
