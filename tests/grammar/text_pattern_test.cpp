// Regular expressions looked for in a text that comes byte by byte.
#include "grammar/text_pattern.h"

#include <gmock/gmock.h>

#include <chrono>
#include <map>
#include <random>
#include <regex>
#include <string>

#include "base/error.h"

namespace fathom::grammar {
namespace {

using ::testing::HasSubstr;

struct Found {
  std::size_t begin = 0, end = 0;
  bool operator==(const Found&) const = default;
};

std::optional<Found> find(const TextPattern& pattern, const std::string& text) {
  TextSearch search(std::make_shared<TextPattern>(pattern));
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (const auto match = search.step(static_cast<std::uint8_t>(text[i]), i)) {
      return Found{match->begin, match->before ? i : i + 1};
    }
  }
  const auto match = search.finish();
  if (!match) return std::nullopt;
  return Found{match->begin, text.size()};
}

/// What was found, or "-".
std::string found(const std::string& pattern, const std::string& text, bool ignore_case = false) {
  const auto match = find(TextPattern(pattern, ignore_case), text);
  return match ? text.substr(match->begin, match->end - match->begin) : "-";
}

TEST(TextPattern, FindsTheFirstMatchToEnd) {
  EXPECT_EQ(found("b+", "aabbb"), "b");
  EXPECT_EQ(found("b|ab", "xab"), "ab") << "of those that end together, the first to begin";
  EXPECT_EQ(found("abcd|bc", "abcd"), "bc");
  EXPECT_EQ(found("a.*c|b", "axbc"), "b");
  EXPECT_EQ(found("\\d{3}-\\d{2}", "12-34, 123-456"), "123-45");
  EXPECT_EQ(found("(ab){2,3}c", "abc abababababc"), "abababc");
  EXPECT_EQ(found("(ab){2,}c", "abc abababababc"), "abababababc");
  EXPECT_EQ(found("x(|y)z", "xyxz"), "xz");
  EXPECT_EQ(found("a", "bcd"), "-");
}

TEST(TextPattern, AnchorsAndWordEdgesStandAnywhere) {
  EXPECT_EQ(found("^ab", "ab"), "ab");
  EXPECT_EQ(found("^ab", "xab"), "-");
  EXPECT_EQ(found("ab$", "abab"), "ab");
  EXPECT_EQ(find(TextPattern("ab$", false), "abab"), (Found{2, 4}));
  EXPECT_EQ(found("ab$", "abc"), "-");
  EXPECT_EQ(found("(^|,)a(,|$)", "xa,a"), ",a");
  EXPECT_EQ(found("(^|,)a(,|$)", "xa,ab"), "-");
  EXPECT_EQ(found("\\bcat\\b", "concat catalogue cat"), "cat");
  EXPECT_EQ(find(TextPattern("\\bcat\\b", false), "concat catalogue cat"), (Found{17, 20}));
  EXPECT_EQ(found("\\bcat\\b", "concat catalogue"), "-");
  EXPECT_EQ(found("\\bcat\\b", "(cat)"), "cat");
  EXPECT_EQ(found("\\Bcat", "cat concat"), "cat");
  EXPECT_EQ(find(TextPattern("\\Bcat", false), "cat concat"), (Found{7, 10}));
  EXPECT_EQ(found("(\\ba|b)+c", "bac bbc"), "bbc") << "no edge between b and a";
  EXPECT_EQ(found("a\\b", "a"), "a");
  EXPECT_EQ(found("a\\B", "a"), "-");
  EXPECT_EQ(found("a$b", "ab"), "-");
}

TEST(TextPattern, AMatchThatEndsBeforeTheByteIsFirst) {
  TextSearch search(std::make_shared<TextPattern>("a\\b|a-", false));
  EXPECT_FALSE(search.step('a', 0));
  EXPECT_EQ(search.earliest(), 0U);
  const auto match = search.step('-', 1);
  ASSERT_TRUE(match);
  EXPECT_TRUE(match->before);
}

TEST(TextPattern, CharactersAreCharactersNotBytes) {
  EXPECT_EQ(found("s.r", "sür"), "sür");
  EXPECT_EQ(found("[^a]x", "äx"), "äx");
  EXPECT_EQ(found("[ä-ü]{2}", "aöü"), "öü");
  EXPECT_EQ(found("\\u{1F600}", "x😀"), "😀");
  EXPECT_EQ(found(".", "\n\xFE\xC3"), "-") << "no characters at all";
  EXPECT_EQ(found("\\xFE", "\xFE"), "-") << "a byte is no character";
}

TEST(TextPattern, CaseIsIgnoredInAllScripts) {
  EXPECT_EQ(found("straße", "STRAßE", true), "STRAßE");
  EXPECT_EQ(found("привет", "ПРИВЕТ", true), "ПРИВЕТ");
  EXPECT_EQ(found("[a-c]+z", "ABCZ", true), "ABCZ");
  EXPECT_EQ(found("σ{3}", "Σσς", true), "Σσς");
  EXPECT_EQ(found("[^k]", "K\u212A", true), "-") << "not even the Kelvin sign";
  EXPECT_EQ(found("\\W", "s", true), "-");
  EXPECT_EQ(found("\\x41", "a", true), "a");
  EXPECT_EQ(found("abc", "ABC"), "-");
}

TEST(TextPattern, WhatIsNoPatternIsRefused) {
  const auto refused = [](const std::string& pattern, ErrorCode code, const char* words) {
    try {
      const TextPattern made(pattern, false);
      FAIL() << pattern;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << pattern;
      EXPECT_THAT(error.what(), HasSubstr(words)) << pattern;
    }
  };
  refused("(a", ErrorCode::InvalidArgument, "( without its )");
  refused("a)", ErrorCode::InvalidArgument, ") without its (");
  refused("[a", ErrorCode::InvalidArgument, "[ without its ]");
  refused("*a", ErrorCode::InvalidArgument, "nothing to repeat");
  refused("a*", ErrorCode::InvalidArgument, "empty text");
  refused("", ErrorCode::InvalidArgument, "empty text");
  refused("^$", ErrorCode::InvalidArgument, "empty text");
  refused("\\b", ErrorCode::InvalidArgument, "empty text");
  refused("a|(b|c?)", ErrorCode::InvalidArgument, "empty text");
  refused("(a)\\1", ErrorCode::Unsupported, "back reference");
  refused("a(?=b)", ErrorCode::Unsupported, "looking ahead");
  refused("[]", ErrorCode::InvalidArgument, "no text");
  refused("(a{100}){200}", ErrorCode::ResourceLimit, "places");
  refused("a{9999999}", ErrorCode::ResourceLimit, "places");
}

// ---- against a search by trial ----------------------------------------------------------------

const char* const kPatterns[] = {"ab",        "a+b",          "a|bc",         "a(b|c)*a",
                                 "(ab|ba)+c", "[ab]{2,3}c",   "c(a|b){2}c",   "a[^b]a",
                                 "(a|ab)c",   "b(ab){0,2}cc", "(aa|bb){2,}c", "ca*b*c"};

std::string random_text(std::mt19937& random, std::size_t most) {
  std::string text(random() % (most + 1), ' ');
  for (char& c : text) c = static_cast<char>('a' + random() % 3);
  return text;
}

/// Which texts match, by another library.
class Oracle {
 public:
  explicit Oracle(const std::string& pattern) : regex_(pattern) { grow({}, 5); }

  bool matches(const std::string& text) const { return std::regex_match(text, regex_); }
  /// Some text that begins so matches. What is left of these patterns is never longer than five.
  bool lives(const std::string& text) {
    const auto [found, fresh] = lives_.try_emplace(text, false);
    if (fresh) {
      for (const std::string& end : ends_) {
        found->second = found->second || (!end.empty() && matches(text + end));
      }
    }
    return found->second;
  }

  std::optional<Found> first(const std::string& text) const {
    for (std::size_t end = 1; end <= text.size(); ++end) {
      for (std::size_t begin = 0; begin < end; ++begin) {
        if (matches(text.substr(begin, end - begin))) return Found{begin, end};
      }
    }
    return std::nullopt;
  }

 private:
  void grow(const std::string& end, std::size_t more) {
    ends_.push_back(end);
    if (more == 0) return;
    for (const char c : {'a', 'b', 'c'}) grow(end + c, more - 1);
  }

  std::regex regex_;
  std::vector<std::string> ends_;
  std::map<std::string, bool> lives_;
};

TEST(TextPattern, FindsWhatASearchByTrialFinds) {
  std::mt19937 random(1);
  for (const char* pattern : kPatterns) {
    const TextPattern made(pattern, false);
    const Oracle oracle(pattern);
    for (int i = 0; i < 100; ++i) {
      const std::string text = random_text(random, 12);
      EXPECT_EQ(find(made, text), oracle.first(text)) << pattern << " in " << text;
    }
  }
}

TEST(TextPattern, KnowsTheEarliestMatchThatIsUnderWay) {
  std::mt19937 random(2);
  for (const char* pattern : kPatterns) {
    const auto made = std::make_shared<TextPattern>(pattern, false);
    Oracle oracle(pattern);
    for (int i = 0; i < 12; ++i) {
      const std::string text = random_text(random, 9);
      TextSearch search(made);
      for (std::size_t end = 1; end <= text.size(); ++end) {
        if (search.step(static_cast<std::uint8_t>(text[end - 1]), end - 1)) break;
        std::optional<std::uint64_t> earliest;
        for (std::size_t begin = 0; begin < end && !earliest; ++begin) {
          if (oracle.lives(text.substr(begin, end - begin))) earliest = begin;
        }
        EXPECT_EQ(search.earliest(), earliest) << pattern << " in " << text.substr(0, end);
      }
    }
  }
}

TEST(TextPattern, HostileTextTakesLinearTime) {
  // Backtracking would take forever, and a search that began anew at each byte a day.
  for (const char* pattern : {"(a|a)*b", "(a*)*b", "a{0,50}a{0,50}b", "(.*a){3}b", "a.*b.*c.*d"}) {
    const auto made = std::make_shared<TextPattern>(pattern, false);
    const auto time = [&](std::size_t bytes) {
      TextSearch search(made);
      const auto begin = std::chrono::steady_clock::now();
      for (std::size_t i = 0; i < bytes; ++i) EXPECT_FALSE(search.step('a', i));
      return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    };
    EXPECT_LT(time(300'000), 20) << pattern;
  }
}

}  // namespace
}  // namespace fathom::grammar
