#include "cli/eval_tasks.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "cli/run_program.h"

namespace fathom {
namespace {

using test::TemporaryFolder;
using test::write_text;

std::vector<Task> read(const std::string& text, std::size_t limit = 100) {
  const TemporaryFolder folder;
  write_text(folder / "tasks.jsonl", text);
  return read_tasks(folder / "tasks.jsonl", limit);
}

TEST(EvalTasks, ReadsBothKinds) {
  const auto tasks = read(
      "{\"question\": \"2+2?\", \"answer\": \"#### 4\"}\n\n"
      "{\"prompt\": \"Sky?\", \"choices\": [\"red\", \"blue\"], \"label\": 1}\n"
      "{\"input\": \"Sky?\", \"options\": [\"red\", \"blue\"], \"gold\": \"A\"}\n"
      "{\"input\": \"Sky?\", \"options\": [\"red\", \"blue\"], \"answer\": \"blue\"}\n");
  ASSERT_EQ(tasks.size(), 4U);
  EXPECT_EQ(tasks[0].answer, "#### 4");
  EXPECT_EQ(tasks[1].correct, 1U);
  EXPECT_EQ(tasks[2].correct, 0U);
  EXPECT_EQ(tasks[3].correct, 1U);
}

TEST(EvalTasks, NamesTheLineThatIsNoTask) {
  const std::string good = "{\"question\": \"q\", \"answer\": \"a\"}\n";
  for (const char* bad :
       {"{", "[]", "{\"question\": 1, \"answer\": \"a\"}", "{\"question\": \"q\"}",
        "{\"question\": \"q\", \"choices\": [\"a\", \"b\"], \"answer\": 2}",
        "{\"question\": \"q\", \"choices\": [\"a\", \"b\"], \"answer\": -1}",
        "{\"question\": \"q\", \"choices\": [\"a\"], \"answer\": 0}"}) {
    try {
      read(good + bad + "\n");
      ADD_FAILURE() << "accepted " << bad;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::Corrupt);
      EXPECT_NE(std::string(error.what()).find("line 2"), std::string::npos) << error.what();
    }
  }
  EXPECT_THROW(read(""), Error);
  EXPECT_EQ(read(good + good + "{", 2).size(), 2U);
}

TEST(EvalTasks, FindsTheFinalAnswer) {
  EXPECT_EQ(exact_answer("so 3 and 4,\n#### 1,234.", true), "1234");
  EXPECT_EQ(exact_answer("thus \\boxed{-7} it is", true), "-7");
  EXPECT_EQ(exact_answer("First 12, then 3.50 dollars.", true), "3.50");
  EXPECT_EQ(exact_answer("the top-10", true), "10");
  EXPECT_EQ(exact_answer("  Paris. ", false), "paris");
}

TEST(EvalTasks, ComparesNumbersAsNumbers) {
  const Task task{"q", {}, 0, "work...\n#### 18"};
  EXPECT_TRUE(answers_exactly(task, "She makes $18.00 a day."));
  EXPECT_FALSE(answers_exactly(task, "She makes 18 or 19"));
  EXPECT_FALSE(answers_exactly(task, "no idea"));
  EXPECT_TRUE(answers_exactly({"q", {}, 0, "Paris"}, " paris."));
  EXPECT_FALSE(answers_exactly({"q", {}, 0, "Paris"}, "Paris, of course"));
}

TEST(EvalTasks, WilsonsIntervalIsTheTextbooks) {
  // Newcombe 1998, table I: 81 of 263 has (0.2553, 0.3662) without continuity correction.
  const Interval some = wilson_interval(81, 263);
  EXPECT_NEAR(some.low, 0.2553, 5e-5);
  EXPECT_NEAR(some.high, 0.3662, 5e-5);
  EXPECT_NEAR(wilson_interval(0, 20).low, 0, 1e-12);
  EXPECT_NEAR(wilson_interval(0, 20).high, 0.1611, 5e-5);
}

}  // namespace
}  // namespace fathom
