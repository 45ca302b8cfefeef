// Reward programs that work, hang, crash and lie.
#include "train/program_reward.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include "base/error.h"
#include "formats/test_files.h"

namespace fathom::train {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class RewardProgram : public ::testing::Test {
 protected:
  std::string script(const std::string& text) {
    const auto path = folder_.write("reward" + std::to_string(++scripts_), text);
    ::chmod(path.c_str(), 0755);
    return path;
  }
  static std::string failure_of(const Reward& reward, const Attempt& attempt) {
    try {
      reward.of(attempt);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::InvalidArgument);
      return error.what();
    }
    return "";
  }
  static Attempt attempt(const std::string& text) { return {"1+1=", text, "2", true, 7}; }
  static ProgramOptions impatient() { return {{}, std::chrono::milliseconds(300)}; }

  testing::ScratchFolder folder_;
  int scripts_ = 0;
};

TEST_F(RewardProgram, JudgesOneAnswerALine) {
  // The same process all along: it counts.
  const Reward reward = parse_reward(
      "program=" +
          script("#!/bin/bash\n"
                 "n=0\n"
                 "while read -r line; do\n"
                 "  n=$((n + 1))\n"
                 "  case $line in *'\"text\":\"two\\n\"'*) echo \"$n.5\";; *) echo -1e-1;; esac\n"
                 "done\n") +
          "*0.5",
      1);
  EXPECT_EQ(reward.weight, 0.5);
  EXPECT_EQ(reward.of(attempt("two\n")), 1.5);
  EXPECT_EQ(reward.of(attempt("three")), -0.1);
  EXPECT_EQ(reward.of(attempt("two\n")), 3.5);
}

TEST_F(RewardProgram, TakesLongAnswersAndBrokenText) {
  const Reward reward =
      program_reward(script("#!/bin/bash\nwhile read -r line; do echo ${#line}; done\n"), {});
  EXPECT_GT(reward.of(attempt(std::string(1 << 20, 'x'))), 1 << 20);
  EXPECT_GT(reward.of(attempt("\xFF\xFE")), 0);
}

TEST_F(RewardProgram, ThatHangsIsKilled) {
  const auto start = std::chrono::steady_clock::now();
  const std::string said =
      failure_of(program_reward(script("#!/bin/bash\nsleep 600\n"), impatient()), attempt("x"));
  EXPECT_THAT(said, AllOf(HasSubstr("within 300 ms"), HasSubstr("answer 7")));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60));
}

TEST_F(RewardProgram, ThatNeverReadsIsKilled) {
  const std::string said =
      failure_of(program_reward(script("#!/bin/bash\nsleep 600\n"), impatient()),
                 attempt(std::string(8 << 20, 'x')));
  EXPECT_THAT(said, HasSubstr("within 300 ms"));
}

TEST_F(RewardProgram, ThatCrashesIsNamedWithItsLastWords) {
  const std::string said = failure_of(
      program_reward(script("#!/bin/bash\nread line\necho 'no module named torch' >&2\nexit 3\n"),
                     {}),
      attempt("x"));
  EXPECT_THAT(said, AllOf(HasSubstr("status 3"), HasSubstr("no module named torch")));
  EXPECT_THAT(failure_of(program_reward(script("#!/bin/bash\nread line\nkill -SEGV $$\n"), {}),
                         attempt("x")),
              HasSubstr("signal"));
}

TEST_F(RewardProgram, ThatLiesAboutItsFormatIsNamed) {
  const auto says = [&](const std::string& text) {
    return failure_of(
        program_reward(script("#!/bin/bash\nwhile read -r line; do printf '" + text + "'; done\n"),
                       impatient()),
        attempt("x"));
  };
  EXPECT_THAT(says("good\\n"), HasSubstr("said \"good\", expected a number"));
  EXPECT_THAT(says("nan\\n"), HasSubstr("expected a number"));
  EXPECT_THAT(says("1 2\\n"), HasSubstr("expected a number"));
  EXPECT_THAT(says("\\n"), HasSubstr("expected a number"));
  EXPECT_THAT(says("1"), HasSubstr("within 300 ms"));  // no line's end
}

TEST_F(RewardProgram, ThatSaysTooMuchIsNamed) {
  const Reward together = program_reward(
      script("#!/bin/bash\nwhile read -r line; do echo $'1\\n2'; done\n"), impatient());
  const Reward later = program_reward(
      script("#!/bin/bash\nwhile read -r line; do echo 1; sleep 0.05; echo 2; done\n"),
      impatient());
  for (const Reward* reward : {&together, &later}) {
    // The second line may come after the first was taken: then it is found before the next
    // question.
    std::string said;
    for (int i = 0; i < 3 && said.empty(); ++i) {
      said = failure_of(*reward, attempt("x"));
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
    }
    EXPECT_THAT(said, HasSubstr("more than one line"));
  }
}

TEST_F(RewardProgram, ThatIsNotThereIsNamed) {
  EXPECT_THAT(failure_of(program_reward("/nowhere/reward", {}), attempt("x")),
              HasSubstr("/nowhere/reward cannot be started"));
}

}  // namespace
}  // namespace fathom::train
