#include <gtest/gtest.h>

#include "base/error.h"
#include "cli/privacy_test.h"
#include "cli/run_program.h"

namespace fathom::test {
namespace {

using Json = nlohmann::ordered_json;

/// A sanitizer that looks for leaks cannot do so in a process that is traced, or behind the door.
class SelfTest : public testing::Test {
 protected:
  SelfTest() { ::setenv("ASAN_OPTIONS", "detect_leaks=0", 1); }
  ~SelfTest() override { ::unsetenv("ASAN_OPTIONS"); }
};

bool check_of(const Json& report, const std::string& name) {
  for (const Json& check : report.at("checks")) {
    if (check.at("name") == name) return check.at("ok");
  }
  ADD_FAILURE() << "no check is called " << name;
  return false;
}

TEST_F(SelfTest, PrivacyIsShown) {
  const Output output = run({"self-test", "--privacy", "--json"});
  if (output.exit_code == 1 && output.out.empty() && output.error().at("code") == "unsupported") {
    GTEST_SKIP() << output.err;  // a container that lets nothing be watched
  }
  ASSERT_EQ(output.exit_code, 0) << output.out << output.err;
  const nlohmann::json report = output.json();
  EXPECT_EQ(report.at("ok"), true) << output.out;
  EXPECT_GE(report.at("violations").size(), 20u);
}

TEST_F(SelfTest, AProcessThatFetchesTakesNothingFromIt) {
  const Output output = run({"self-test", "--privacy", "--allow-pull", "--json"});
  if (output.exit_code == 1 && output.out.empty() && output.error().at("code") == "unsupported") {
    GTEST_SKIP() << output.err;
  }
  ASSERT_EQ(output.exit_code, 0) << output.out << output.err;
  const nlohmann::ordered_json report = output.json();
  for (const char* name : {"it does not even try", "deliberate violations are stopped",
                           "another process fetches", "that process can only fetch"}) {
    EXPECT_TRUE(check_of(report, name)) << report.dump(2);
  }
  EXPECT_GE(report.at("violations_of_the_fetching_process").size(), 15u);
}

TEST_F(SelfTest, AServerWithoutItsWallsFails) {
  const TemporaryFolder folder;
  const Output made = run({"make-random", (folder / "m.gguf").string(), "--like", "smollm2-135m",
                           "--layers", "1", "--type", "Q8_0"});
  ASSERT_EQ(made.exit_code, 0) << made.err;
  std::filesystem::create_directory(folder / "scratch");
  try {
    const Json report = run_privacy_test({.program = program(),
                                          .model = folder / "m.gguf",
                                          .scratch = folder / "scratch",
                                          .arguments = {"--without-sandbox"}});
    EXPECT_EQ(report.at("ok"), false);
    EXPECT_TRUE(check_of(report, "it serves without a network")) << report.dump(2);
    EXPECT_FALSE(check_of(report, "the door is closed in every thread"));
    EXPECT_FALSE(check_of(report, "files outside its own are walled off"));
    EXPECT_FALSE(check_of(report, "deliberate violations are stopped"));
  } catch (const Error& error) {
    if (error.code() != ErrorCode::Unsupported) throw;
    GTEST_SKIP() << error.what();
  }
}

}  // namespace
}  // namespace fathom::test
