// `fathom keys` and `fathom usage`.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ctime>
#include <filesystem>

#include "cli/run_program.h"
#include "server/books.h"

namespace fathom::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class KeysCommand : public testing::Test {
 protected:
  TemporaryFolder folder;
  std::string file = (folder / "b.sqlite").string();
};

TEST_F(KeysCommand, AKeyIsMadeListedAndRevoked) {
  const Output made = run({"keys", "create", "alice", "--requests-per-minute", "60", "--spend",
                           "2.5", "--books", file});
  ASSERT_EQ(made.exit_code, 0) << made.err;
  EXPECT_THAT(made.out, StartsWith("sk-"));
  EXPECT_EQ(made.out.size(), 47U) << "the key alone, for a script";
  EXPECT_THAT(made.err, HasSubstr("not shown again"));
  const std::string key = made.out.substr(0, 46);
  const Output listed = run({"keys", "list", "--books", file});
  EXPECT_THAT(listed.out, HasSubstr("alice"));
  EXPECT_THAT(listed.out, HasSubstr("60 requests/min, $2.50 in all"));
  EXPECT_THAT(listed.out, Not(HasSubstr(key)));
  const Output json = run({"keys", "list", "--books", file, "--json"});
  EXPECT_EQ(json.json()["keys"][0]["spend"], 2.5);
  EXPECT_TRUE(json.json()["keys"][0]["tokens_per_day"].is_null());
  EXPECT_EQ(run({"keys", "revoke", "alice", "--books", file}).exit_code, 0);
  EXPECT_THAT(run({"keys", "list", "--books", file}).out, HasSubstr("(revoked "));
  const Output again = run({"keys", "revoke", "alice", "--books", file});
  EXPECT_EQ(again.exit_code, 1);
  EXPECT_THAT(again.err, HasSubstr("no good key is called 'alice'"));
}

TEST_F(KeysCommand, UsageIsAddedUp) {
  {
    server::Books books(file);
    books.create_key("alice", {});
    const std::int64_t now = std::time(nullptr);
    books.record(books.keys()[0].id, {"m", 10, 20, 30, 0, 1'500'000}, now);
    books.record(0, {"m", 1, 2, 3, 0, 500'000}, now);
    books.record(0, {"m", 1, 2, 3, 0, 500'000}, now - 90 * 24 * 60 * 60);
  }
  const Output table = run({"usage", "--books", file});
  ASSERT_EQ(table.exit_code, 0) << table.err;
  EXPECT_THAT(table.out, HasSubstr("(no key)"));
  EXPECT_THAT(table.out, HasSubstr("$0.002000"));
  const auto json = run({"usage", "--books", file, "--json"}).json();
  EXPECT_EQ(json["total"]["requests"], 2);
  EXPECT_EQ(json["total"]["completion_tokens"], 33);
  EXPECT_EQ(run({"usage", "--days", "365", "--books", file, "--json"}).json()["total"]["requests"],
            3);
  EXPECT_EQ(run({"usage", "--key", "alice", "--books", file, "--json"}).json()["usage"].size(), 1U);
  EXPECT_EQ(run({"usage", "--key", "eve", "--books", file}).exit_code, 1);
}

TEST_F(KeysCommand, WhatIsNotThereIsSaid) {
  const Output none = run({"keys", "list", "--books", file});
  EXPECT_EQ(none.exit_code, 1);
  EXPECT_THAT(none.err, HasSubstr("there are no keys yet"));
  EXPECT_FALSE(std::filesystem::exists(file)) << "looking makes nothing";
  EXPECT_NE(run({"keys"}).exit_code, 0);
  EXPECT_NE(run({"keys", "create", "x", "--spend", "-1", "--books", file}).exit_code, 0);
}

}  // namespace
}  // namespace fathom::test
