// Rewards, tasks, and the default experiment's language.
#include <gmock/gmock.h>

#include <set>

#include "base/error.h"
#include "formats/test_files.h"
#include "train/chain_arithmetic.h"
#include "train/rewards.h"
#include "train/tasks.h"

namespace fathom::train {
namespace {

using ::testing::HasSubstr;

double worth(const Reward& reward, const std::string& text, const std::string& expected = "7",
             bool finished = true) {
  return reward.of({"2+5=", text, expected, finished, 0});
}

TEST(Rewards, ExactLooksAtWhatFollowsTheThought) {
  const Reward exact = exact_reward();
  EXPECT_EQ(worth(exact, "7"), 1);
  EXPECT_EQ(worth(exact, "8"), 0);
  EXPECT_EQ(worth(exact, "<think>2+5=8;</think>7"), 1);
  EXPECT_EQ(worth(exact, "<think>2+5=7;</think>8"), 0);
  EXPECT_EQ(worth(exact, "<think>2+5=7"), 0) << "the thought has no end";
  EXPECT_EQ(worth(exact, "7", "7", false), 0) << "cut off";
  EXPECT_EQ(worth(exact, "so #### 1,234.", "1234"), 1);
  EXPECT_EQ(worth(exact, "the answer is 7.0"), 1);
}

TEST(Rewards, FormatIsOneThoughtAndThenAnAnswer) {
  const Reward format = format_reward();
  EXPECT_EQ(worth(format, "<think>a</think>7"), 1);
  EXPECT_EQ(worth(format, " <think>\na\n</think>\n7"), 1);
  for (const char* bad :
       {"7", "<think></think>7", "<think>a</think>", "<think>a", "a</think>7", "</think>a<think>7",
        "x<think>a</think>7", "<think>a</think><think>b</think>7"}) {
    EXPECT_EQ(worth(format, bad), 0) << bad;
  }
}

TEST(Rewards, APatternHoldsForTheWholeText) {
  const Reward digit = parse_reward("pattern=[0-9]+|none", 1);
  EXPECT_EQ(worth(digit, "42"), 1);
  EXPECT_EQ(worth(digit, "none"), 1);
  EXPECT_EQ(worth(digit, "42x"), 0);
  EXPECT_EQ(worth(digit, "x42"), 0);
  EXPECT_EQ(worth(digit, ""), 0);
  EXPECT_THROW(parse_reward("pattern=(", 1), Error);
}

TEST(Rewards, LanguageIsAShareOfLetters) {
  const Reward latin = language_reward("latin");
  EXPECT_EQ(worth(latin, "ab cd, 12!"), 1);
  EXPECT_EQ(worth(latin, "ab\xE4\xB8\xAD\xE6\x96\x87"), 0.5);
  EXPECT_EQ(worth(latin, "ab \\boxed{\xE4\xB8\xAD}"), 1);
  EXPECT_EQ(worth(language_reward("han"), "\xE4\xB8\xAD\xE6\x96\x87"), 1);
  EXPECT_EQ(worth(latin, "123"), 1) << "no letter is of another script";
  EXPECT_THROW(language_reward("klingon"), Error);
}

TEST(Rewards, ByChanceTheyDependOnTheAttemptAlone) {
  const Reward random = random_reward(3);
  double sum = 0;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    const double once = random.of({"", "a", "", true, i});
    EXPECT_EQ(once, random.of({"", "b", "", true, i}));
    sum += once;
  }
  EXPECT_NEAR(sum, 500, 60);
}

TEST(Rewards, AreReadWithTheirWeights) {
  EXPECT_EQ(parse_reward("exact", 1).weight, 1);
  EXPECT_EQ(parse_reward("format*0.25", 1).weight, 0.25);
  EXPECT_EQ(worth(parse_reward("pattern=7+", 1), "777"), 1);
  EXPECT_EQ(parse_reward("pattern=7*8*2", 1).weight, 2);
  for (const char* bad : {"", "exactly", "pattern", "language", "exact=3"}) {
    EXPECT_THROW(parse_reward(bad, 1), Error) << bad;
  }
}

TEST(Tasks, AreReadAndWhatIsWrongIsNamed) {
  const testing::ScratchFolder folder;
  const auto read = [&](const std::string& text) {
    return read_rl_tasks(folder.write("tasks.jsonl", text), {"question", "answer"});
  };
  const auto tasks =
      read("{\"question\": \"2+2=\", \"answer\": 4}\n\n{\"question\": \"a\", \"answer\": \"b\"}\n");
  ASSERT_EQ(tasks.size(), 2U);
  EXPECT_EQ(tasks[0].answer, "4");
  const auto told = [&](const std::string& text) {
    try {
      read(text);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_THAT(told("{\"question\": \"a\", \"answer\": \"b\"}\n{\"prompt\": \"a\"}\n"),
              HasSubstr("line 2: expected a text 'question', found none"));
  EXPECT_THAT(told("{\"question\": 3, \"answer\": \"b\"}\n"), HasSubstr("found number"));
  EXPECT_THAT(told("[]\n"), HasSubstr("line 1: expected a JSON object"));
  EXPECT_THAT(told("\n"), HasSubstr("has no task"));
}

TEST(Tasks, EachIsDealtOnceAnEpoch) {
  for (const std::size_t n : {1U, 2U, 5U, 64U, 1000U}) {
    std::vector<std::size_t> first, second;
    for (std::size_t i = 0; i < n; ++i) {
      first.push_back(dealt_task(7, i, n));
      second.push_back(dealt_task(7, n + i, n));
    }
    EXPECT_EQ(std::set<std::size_t>(first.begin(), first.end()).size(), n);
    EXPECT_EQ(std::set<std::size_t>(second.begin(), second.end()).size(), n);
    if (n > 5) {
      EXPECT_NE(first, second);
    }
  }
}

TEST(ChainArithmetic, WorksFromLeftToRightModuloTen) {
  const ChainProblem problem{7, {{'*', 3}, {'+', 4}, {'-', 9}}};
  EXPECT_EQ(problem.question(), "7*3+4-9=");
  EXPECT_EQ(problem.thought(), "7*3=1;1+4=5;5-9=6;");
  EXPECT_EQ(problem.answer(), 6);
}

TEST(ChainArithmetic, TextsThinkAsOftenAsAsked) {
  ChainTextOptions options;
  int thinking = 0;
  std::set<std::size_t> lengths;
  for (std::uint64_t i = 0; i < 2000; ++i) {
    const std::string text = chain_text(options, i);
    EXPECT_EQ(text, chain_text(options, i));
    thinking += text.find("<think>") != std::string::npos;
    lengths.insert(text.find('='));
    // A product's number never loses a digit.
    for (std::size_t at = text.find('*'); at != std::string::npos; at = text.find('*', at + 1)) {
      EXPECT_NE(std::string("379").find(text[at + 1]), std::string::npos) << text;
    }
  }
  EXPECT_NEAR(thinking, 400, 60);
  EXPECT_EQ(lengths, (std::set<std::size_t>{5, 7, 9, 11, 13, 15, 17}));
}

}  // namespace
}  // namespace fathom::train
