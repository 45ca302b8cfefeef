// Keys, their limits, and what is used with them.
#include "server/books.h"

#include <gmock/gmock.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "server/api_error.h"
#include "server/prices.h"
#include "server/test_server.h"

namespace fathom {
namespace {

using namespace test;  // NOLINT
using server::Books;
using server::Charge;
using server::Key;
using server::KeyLimits;
using ::testing::HasSubstr;
using ::testing::Not;

class BooksTest : public testing::Test {
 protected:
  BooksTest() {
    char name[] = "/tmp/fathom-books-XXXXXX";
    folder = ::mkdtemp(name);
    file = folder / "books.sqlite";
  }
  ~BooksTest() override { std::filesystem::remove_all(folder); }

  std::string raw() const {
    std::string all;
    for (const auto& each : std::filesystem::directory_iterator(folder)) {
      std::ifstream in(each.path(), std::ios::binary);
      std::stringstream text;
      text << in.rdbuf();
      all += text.str();
    }
    return all;
  }
  std::filesystem::path folder, file;
};

TEST_F(BooksTest, AKeyIsKeptAsADigestAndFoundByIt) {
  Books books(file);
  EXPECT_FALSE(books.has_keys());
  const std::string key = books.create_key("alice", {});
  EXPECT_EQ(key.size(), 46U);
  EXPECT_TRUE(key.starts_with("sk-"));
  EXPECT_NE(key, books.create_key("bob", {}));
  ASSERT_TRUE(books.find(key));
  EXPECT_EQ(books.find(key)->name, "alice");
  EXPECT_FALSE(books.find(key.substr(1)));
  EXPECT_FALSE(books.find(""));
  EXPECT_THAT(raw(), Not(HasSubstr(key.substr(12)))) << "not in any file";
  struct stat info{};
  for (const auto& each : std::filesystem::directory_iterator(folder)) {
    ASSERT_EQ(::stat(each.path().c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0600U) << each.path();
  }
  EXPECT_THROW(books.create_key("alice", {}), Error) << "taken";
  EXPECT_THROW(books.create_key("", {}), Error);
  books.revoke_key("alice");
  EXPECT_FALSE(books.find(key));
  EXPECT_TRUE(books.has_keys());
  EXPECT_THROW(books.revoke_key("alice"), Error);
  EXPECT_THROW(books.revoke_key("nobody"), Error);
}

TEST_F(BooksTest, LimitsAreKept) {
  Books books(file);
  KeyLimits limits;
  limits.requests_per_minute = 2;
  limits.tokens_per_day = 100;
  limits.spend_nano = 5000;
  const std::string secret = books.create_key("k", limits);
  const auto status = [&](std::int64_t now) -> unsigned {
    try {
      books.admit(*books.find(secret), now);
      return 200;
    } catch (const server::ApiError& error) {
      return error.status();
    }
  };
  const std::int64_t now = 1'000'000;
  EXPECT_EQ(status(now), 200U);
  EXPECT_EQ(status(now + 1), 200U);
  EXPECT_EQ(status(now + 2), 429U) << "a third within a minute";
  EXPECT_EQ(status(now + 60), 200U);
  const std::int64_t id = books.find(secret)->id;
  books.record(id, {"m", 10, 50, 40, 0, 1000}, now + 61);
  EXPECT_EQ(status(now + 200), 429U) << "100 tokens are used";
  EXPECT_EQ(status(now + 61 + 24 * 60 * 60), 200U) << "a day later";
  books.record(id, {"m", 0, 1, 1, 0, 4000}, now + 100'000);
  EXPECT_EQ(books.find(secret)->spent_nano, 5000);
  EXPECT_EQ(status(now + 900'000), 402U);
}

TEST_F(BooksTest, UsageAddsUpByKeyAndModel) {
  Books books(file);
  books.create_key("a", {});
  books.create_key("b", {});
  const auto id = [&](std::size_t i) { return books.keys()[i].id; };
  books.record(id(0), {"m", 1, 2, 3, 1, 10}, 100);
  books.record(id(0), {"m", 10, 20, 30, 0, 100}, 200);
  books.record(id(0), {"n", 5, 5, 5, 0, 7}, 200);
  books.record(id(1), {"m", 1, 1, 1, 0, 1}, 300);
  books.record(0, {"m", 9, 9, 9, 0, 0}, 300);
  const auto lines = books.usage(150);
  ASSERT_EQ(lines.size(), 4U);
  EXPECT_EQ(lines[0].key, "");
  EXPECT_EQ(lines[1].key, "a");
  EXPECT_EQ(lines[1].model, "m");
  EXPECT_EQ(lines[1].requests, 1);
  EXPECT_EQ(lines[1].cost_nano, 100);
  const auto all_of_a = books.usage(0, "a");
  ASSERT_EQ(all_of_a.size(), 2U);
  EXPECT_EQ(all_of_a[0].cache_hit, 11);
  EXPECT_EQ(all_of_a[0].cache_miss, 22);
  EXPECT_EQ(all_of_a[0].completion, 33);
}

TEST_F(BooksTest, ADamagedOrForeignFileIsSaid) {
  std::ofstream(file) << std::string(5000, 'x');
  try {
    const Books books(file);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::Corrupt);
    EXPECT_THAT(error.what(), HasSubstr(file.string()));
  }
}

/// What record() has returned from is there after kill -9, and the file is whole.
TEST_F(BooksTest, NothingRecordedIsLostToKill9) {
  const std::string secret = Books(file).create_key("k", {});
  std::mt19937 random(1);
  std::int64_t acknowledged = 0;
  for (int round = 0; round < 200; ++round) {
    int pipe_of[2];
    ASSERT_EQ(::pipe(pipe_of), 0);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      ::close(pipe_of[0]);
      try {
        Books books(file);
        const std::int64_t id = books.find(secret)->id;
        for (;;) {
          books.record(id, {"m", 0, 1, 1, 0, 1}, 1000);
          if (::write(pipe_of[1], "x", 1) != 1) ::_exit(1);
        }
      } catch (...) {
        ::_exit(2);
      }
    }
    ::close(pipe_of[1]);
    // However long it takes to begin, it is killed while it writes.
    pollfd begun{pipe_of[0], POLLIN, 0};
    ASSERT_EQ(::poll(&begun, 1, 10'000), 1);
    ::usleep(static_cast<useconds_t>(500 + random() % 4000));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_TRUE(WIFSIGNALED(status)) << "the child could not write";
    char block[4096];
    for (ssize_t count; (count = ::read(pipe_of[0], block, sizeof block)) > 0;) {
      acknowledged += count;
    }
    ::close(pipe_of[0]);
    const Books books(file);
    const auto lines = books.usage(0);
    const std::int64_t found = lines.empty() ? 0 : lines[0].requests;
    ASSERT_GE(found, acknowledged);
    ASSERT_LE(found, acknowledged + round + 1) << "one a round may not have been told of";
    EXPECT_EQ(books.find(secret)->spent_nano, found) << "usage and spending agree";
  }
  EXPECT_GT(acknowledged, 200);
}

/// In a process of its own, which has the limit to itself.
TEST_F(BooksTest, ADiskThatIsFullIsSaidAndUsedAgainOnceThereIsRoom) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    std::signal(SIGXFSZ, SIG_IGN);
    Books books(file);
    const auto records = [&] {
      try {
        books.record(0, {"m", 0, 1, 1, 0, 1}, 1000);
        return true;
      } catch (const Error& error) {
        return error.code() != ErrorCode::Io;
      }
    };
    rlimit room{};
    ::getrlimit(RLIMIT_FSIZE, &room);
    const rlim_t most = std::exchange(room.rlim_cur, 0);  // no file may grow
    bool good = records() && ::setrlimit(RLIMIT_FSIZE, &room) == 0 && !records() && !records();
    room.rlim_cur = most;
    good = good && ::setrlimit(RLIMIT_FSIZE, &room) == 0 && records();
    ::_exit(good && books.usage(0)[0].requests == 2 ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(Books(file).usage(0)[0].requests, 2);
}

TEST(Prices, AreReadAndAppliedExactly) {
  const auto table = server::PriceTable::parse(
      R"({"m": {"cache_hit": 0.07, "cache_miss": 0.27, "output": 1.1},
          "default": {"cache_hit": 0, "cache_miss": 1, "output": 2}})",
      "p.json");
  EXPECT_EQ(table.of("m")->cost_nano(1'000'000, 1'000'000, 1'000'000), 1'440'000'000);
  EXPECT_EQ(table.of("m")->cost_nano(30, 1, 8), 11'170);
  EXPECT_EQ(table.of("other")->cost_nano(5, 1, 1), 3'000);
  EXPECT_FALSE(server::PriceTable().of("m"));
  for (const char* wrong : {"[]", R"({"m": 1})", R"({"m": {"cache_hit": 1, "cache_miss": 1}})",
                            R"({"m": {"cache_hit": -1, "cache_miss": 1, "output": 1}})", "{"}) {
    EXPECT_THROW(server::PriceTable::parse(wrong, "p.json"), Error) << wrong;
  }
}

class BilledTest : public BooksTest {
 protected:
  server::ApiOptions options() {
    books = std::make_shared<Books>(file);
    server::ApiOptions api;
    api.books = books;
    return api;
  }
  static std::string bearer(const std::string& key) {
    return "Authorization: Bearer " + key + "\r\n";
  }
  static constexpr server::Price kPrice{1, 10, 100};  // 1, 10 and 100 microdollars... a token
  std::shared_ptr<Books> books;
};

TEST_F(BilledTest, AnswersTellTheirCostAndTheBooksAddThemUp) {
  TestServer server({}, options(), {}, alphabet, kPrice);
  const std::string key = books->create_key("alice", {});
  EXPECT_EQ(server.chat({}).status, 401) << "once there is a key";
  const Json first = server.chat({}, bearer(key)).json();
  // One token read, six written: 10 + 600 millionths.
  EXPECT_DOUBLE_EQ(first.at("usage").at("cost").get<double>(), 610e-6);
  const auto events =
      server
          .chat({{"stream", true}, {"stream_options", {{"include_usage", true}}}, {"n", 2}},
                bearer(key))
          .events();
  const Json last = Json::parse(events[events.size() - 2]);
  EXPECT_EQ(last.at("usage").at("completion_tokens"), 12);
  EXPECT_DOUBLE_EQ(last.at("usage").at("cost").get<double>(), 1210e-6) << "one prompt for both";
  const auto lines = books->usage(0);
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(lines[0].key, "alice");
  EXPECT_EQ(lines[0].requests, 2);
  EXPECT_EQ(lines[0].completion, 18);
  EXPECT_EQ(lines[0].cost_nano, 1'820'000);
  books->revoke_key("alice");
  EXPECT_EQ(server.chat({}, bearer(key)).status, 401) << "from then on";
}

TEST_F(BilledTest, EveryApiTellsTheCost) {
  TestServer server({}, {}, {}, alphabet, kPrice);
  const auto ask = [&](const std::string& path, Json body, const Json& more) {
    body.update(more);
    return server.ask(post(path, body.dump()));
  };
  const Json message{{"model", "fake"},
                     {"max_tokens", 9},
                     {"messages", Json::array({{{"role", "user"}, {"content", "u"}}})}};
  const Json response{{"model", "fake"}, {"input", "u"}};
  const Json streamed{{"stream", true}};
  EXPECT_DOUBLE_EQ(ask("/v1/messages", message, Json::object()).json().at("usage").at("cost"),
                   610e-6);
  EXPECT_DOUBLE_EQ(ask("/v1/responses", response, Json::object()).json().at("usage").at("cost"),
                   610e-6);
  for (const Json& event : events_of(ask("/v1/messages", message, streamed))) {
    if (event.at("type") != "message_delta") continue;
    EXPECT_DOUBLE_EQ(event.at("usage").at("cost"), 610e-6);
  }
  const Json last = events_of(ask("/v1/responses", response, streamed)).back();
  EXPECT_DOUBLE_EQ(last.at("response").at("usage").at("cost"), 610e-6);
}

TEST_F(BilledTest, LimitsAnswer429And402AndTheBalanceTells) {
  TestServer server({}, options(), {}, alphabet, kPrice);
  KeyLimits limits;
  limits.spend_nano = 1'000'000;
  const std::string key = books->create_key("k", limits);
  const auto balance = [&] { return server.ask(get("/user/balance", bearer(key))).json(); };
  EXPECT_EQ(balance().at("is_available"), true);
  EXPECT_EQ(server.chat({}, bearer(key)).status, 200);
  EXPECT_EQ(server.chat({}, bearer(key)).status, 200) << "610 of 1,000 are spent before it";
  const Reply refused = server.chat({}, bearer(key));
  EXPECT_EQ(refused.status, 402);
  EXPECT_THAT(refused.body, HasSubstr("insufficient_balance"));
  const std::string message =
      R"({"max_tokens": 9, "messages": [{"role": "user", "content": "u"}]})";
  const Reply of_messages = server.ask(post("/v1/messages", message, bearer(key)));
  EXPECT_EQ(of_messages.status, 402);
  EXPECT_EQ(of_messages.json().at("error").at("type"), "billing_error") << "as Anthropic calls it";
  EXPECT_EQ(balance().at("is_available"), false);
  EXPECT_EQ(balance().at("balance_infos")[0].at("total_balance"), "0.00");
  KeyLimits slow;
  slow.requests_per_minute = 1;
  const std::string other = books->create_key("slow", slow);
  EXPECT_EQ(server.chat({}, bearer(other)).status, 200);
  const Reply again = server.chat({}, bearer(other));
  EXPECT_EQ(again.status, 429);
  EXPECT_TRUE(again.headers.contains("retry-after"));
}

TEST_F(BilledTest, AClientThatLeavesPaysForWhatWasWritten) {
  TestServer server({}, options(), std::chrono::milliseconds(20), alphabet, kPrice);
  const std::string key = books->create_key("k", {});
  {
    Client client(server.port());
    const Json body{{"stream", true},
                    {"messages", Json::array({{{"role", "user"}, {"content", "a"}}})}};
    client.send(post("/v1/chat/completions", body.dump(), bearer(key)));
    client.read_until([](const std::string& text) { return text.find("\"d\"") != text.npos; });
  }
  for (int i = 0; i < 200 && books->usage(0).empty(); ++i) ::usleep(20'000);
  const auto lines = books->usage(0);
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_GE(lines[0].completion, 3);
  EXPECT_LT(lines[0].completion, 26);
}

TEST_F(BilledTest, OneKeyDoesNotGetTheWholeQueue) {
  server::ApiOptions api = options();
  api.max_waiting = 4;
  TestServer server({}, api, std::chrono::milliseconds(5));
  const std::string greedy = books->create_key("greedy", {});
  const std::string modest = books->create_key("modest", {});
  Client hog(server.port());
  // 16 run at once, and 2 wait.
  const Json body{{"stream", true},
                  {"n", 9},
                  {"messages", Json::array({{{"role", "user"}, {"content", "a"}}})}};
  hog.send(post("/v1/chat/completions", body.dump(), bearer(greedy)));
  Client second(server.port());
  second.send(post("/v1/chat/completions", body.dump(), bearer(greedy)));
  for (int i = 0; i < 200 && server.stats().waiting < 2; ++i) ::usleep(2'000);
  ASSERT_EQ(server.stats().waiting, 2U);
  const Reply refused = server.chat({}, bearer(greedy));
  EXPECT_EQ(refused.status, 429);
  EXPECT_THAT(refused.body, HasSubstr("of this key"));
  EXPECT_EQ(server.chat({{"max_tokens", 1}}, bearer(modest)).status, 200);
}

/// Disk full, a damaged file, a table that is gone: answers that run are given, nobody new is let
/// in, and the server lives.
TEST_F(BilledTest, BooksThatFailEndNoAnswerAndLetNobodyIn) {
  TestServer server({}, options(), std::chrono::milliseconds(20), alphabet, kPrice);
  const std::string key = books->create_key("k", {});
  Client client(server.port());
  const Json body{{"stream", true},
                  {"messages", Json::array({{{"role", "user"}, {"content", "t"}}})}};
  client.send(post("/v1/chat/completions", body.dump(), bearer(key)));
  client.read_until([](const std::string& text) { return text.find("\"v\"") != text.npos; });
  sqlite3* other = nullptr;
  ASSERT_EQ(sqlite3_open(file.c_str(), &other), SQLITE_OK);
  sqlite3_busy_timeout(other, 5000);
  EXPECT_EQ(sqlite3_exec(other, "DROP TABLE usage; DROP TABLE keys;", nullptr, nullptr, nullptr),
            SQLITE_OK);
  sqlite3_close(other);
  EXPECT_THAT(client.reply().body, HasSubstr("[DONE]"));
  EXPECT_EQ(server.chat({}, bearer(key)).status, 500);
  EXPECT_EQ(server.ask(get("/health", bearer(key))).status, 500) << "and the next as well";
}

TEST_F(BilledTest, WithoutKeysAnybodyMayAskAndUsageIsCounted) {
  TestServer server({}, options(), {}, alphabet, kPrice);
  EXPECT_EQ(server.chat({}).status, 200);
  ASSERT_EQ(books->usage(0).size(), 1U);
  EXPECT_EQ(books->usage(0)[0].key, "");
  EXPECT_TRUE(server.ask(get("/user/balance")).json().at("balance_infos").empty());
}

}  // namespace
}  // namespace fathom
