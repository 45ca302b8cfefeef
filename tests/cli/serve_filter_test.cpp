// `fathom serve --filter`.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/run_program.h"

namespace fathom::test {
namespace {

using ::testing::HasSubstr;

TEST(ServeFilter, AMistakeInTheFileIsSaidBeforeAnythingElse) {
  const TemporaryFolder folder;
  const std::string file = (folder / "rules.json").string();
  const auto refused = [&](const char* word) {
    const Output output = run({"serve", "no-such-model", "--filter", file});
    EXPECT_NE(output.exit_code, 0);
    EXPECT_THAT(output.err, HasSubstr("rules.json"));
    EXPECT_THAT(output.err, HasSubstr(word));
    EXPECT_EQ(output.error_lines(), 1U) << output.err;
  };
  refused("open");
  write_text(file, R"({"rules": [{"name": "cards", "pattern": "[0-9"}]})");
  refused("rules[0] 'cards'");
  write_text(file, R"({"rules": [{"name": "cards", "pattern": "[0-9]{16}"}]})");
  EXPECT_THAT(run({"serve", "no-such-model", "--filter", file}).err, HasSubstr("no-such-model"));
}

TEST(ServeFilter, AJudgeThatIsNotThereIsSaid) {
  const TemporaryFolder folder;
  const std::string file = (folder / "rules.json").string();
  const std::string model = (folder / "not-read-yet.gguf").string();
  write_text(model, "x");
  write_text(file, R"({"judges": [{"name": "j", "model": "no-such-judge"}]})");
  const Output output = run({"serve", model, "--filter", file, "--port", "0"});
  EXPECT_NE(output.exit_code, 0);
  EXPECT_THAT(output.err, HasSubstr("no-such-judge"));
}

}  // namespace
}  // namespace fathom::test
