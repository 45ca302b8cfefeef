// Models that users have fetched: what the server does with what users and the fetching process
// say. The process itself: tests/cli/serve_pull_test.cpp.
#include "server/pull_desk.h"

#include <gmock/gmock.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/process.h"
#include "server/test_server.h"

namespace fathom {
namespace {

using namespace test;  // NOLINT: the tests' own vocabulary
using server::PullDesk;
using server::PullRules;
using ::testing::HasSubstr;

TEST(PullRules, AModelIsAllowedByItsNameOrAPattern) {
  const PullRules rules({"smollm2:135m", "hf:acme/*", "hf:*/tiny:*Q4*.gguf"});
  for (const char* yes : {"smollm2:135m", "hf:acme/", "hf:acme/a", "hf:acme/a@main:b/c.gguf",
                          "hf:x/tiny:Q4.gguf", "hf:x/y/tiny:a-Q4_K-Q4.gguf"}) {
    EXPECT_TRUE(rules.allow(yes)) << yes;
  }
  for (const char* no : {"", "smollm2:135", "smollm2:135mm", "SMOLLM2:135m", "hf:acme",
                         "xhf:acme/a", "hf:x/tiny:Q5.gguf", "hf:x/tiny:Q4.ggu", "*", "hf:acme/a b",
                         "hf:acme/\n", "hf:acme/\xc3\xa4"}) {
    EXPECT_FALSE(rules.allow(no)) << no;
  }
  EXPECT_FALSE(rules.allow("hf:acme/" + std::string(512, 'a')));
  EXPECT_FALSE(PullRules({}).allow("a"));
}

TEST(PullRules, AHostileNameTakesLittleTime) {
  std::string pattern;
  for (int i = 0; i < 100; ++i) pattern += "*a";
  EXPECT_FALSE(PullRules({pattern + "b"}).allow(std::string(512, 'a')));
}

/// The fetching process's end of the socket, in a test's hands.
class Fetcher {
 public:
  Fetcher() {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) std::abort();
    server_ = ends[0];
    socket_ = ends[1];
  }
  ~Fetcher() { close(); }
  int servers_end() const { return server_; }
  void close() {
    if (socket_ >= 0) ::close(socket_);
    socket_ = -1;
  }
  /// The next line; "" if none comes for a while.
  std::string heard(int milliseconds = 5000) {
    std::string line;
    pollfd waiting{socket_, POLLIN, 0};
    char byte = 0;
    while (::poll(&waiting, 1, milliseconds) == 1 && ::recv(socket_, &byte, 1, 0) == 1) {
      if (byte == '\n') return line;
      line += byte;
    }
    return line;
  }
  void say(const std::string& text) {
    ASSERT_EQ(::send(socket_, text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
  }
  /// The server has let go of its end.
  bool let_go() {
    char byte = 0;
    return soon([&] { return ::recv(socket_, &byte, 1, MSG_DONTWAIT) == 0; });
  }

 private:
  int server_ = -1, socket_ = -1;
};

class Pulls : public testing::Test {
 protected:
  Pulls() {
    server::ApiOptions options;
    options.pulls = std::make_shared<PullDesk>(fetcher.servers_end(), PullRules({"m*"}));
    server = std::make_unique<TestServer>(server::ListenerOptions{}, std::move(options));
  }
  Reply start(const std::string& model) { return order("/v1/pulls", model); }
  Reply cancel(const std::string& model) { return order("/v1/pulls/cancel", model); }
  Json list() { return server->ask(get("/v1/pulls")).json(); }
  Json at(std::size_t index) { return list().at("data").at(index); }
  bool becomes(std::size_t index, const std::string& status) {
    return soon([&] { return at(index).at("status") == status; });
  }

  Fetcher fetcher;
  std::unique_ptr<TestServer> server;

 private:
  Reply order(const char* path, const std::string& model) {
    return server->ask(post(path, Json{{"model", model}}.dump()));
  }
};

TEST_F(Pulls, OneIsFetchedAndItsProgressTold) {
  const Reply asked = start("m1");
  EXPECT_EQ(asked.status, 200) << asked.body;
  EXPECT_EQ(asked.json().at("status"), "running");
  EXPECT_EQ(fetcher.heard(), R"({"pull":"m1"})");
  fetcher.say(R"({"progress":{"task":"downloading m1.gguf","done":5,"total":10,"unit":"bytes",)"
              R"("rate":2.5,"eta_seconds":2}})"
              "\n");
  ASSERT_TRUE(soon([&] { return !at(0).at("progress").is_null(); }));
  EXPECT_EQ(at(0).at("progress"),
            Json::parse(R"({"task": "downloading m1.gguf", "done": 5, "total": 10,
                            "unit": "bytes", "rate": 2.5, "eta_seconds": 2.0})"));
  fetcher.say("{\"done\":\"m-one\"}\n");
  ASSERT_TRUE(becomes(0, "done"));
  EXPECT_EQ(at(0).at("name"), "m-one");
  EXPECT_EQ(list().at("allowed"), Json::array({"m*"}));
}

TEST_F(Pulls, OthersWaitTheirTurnAndTheSameOneIsFetchedOnce) {
  start("m1");
  EXPECT_EQ(start("m2").json().at("status"), "waiting");
  EXPECT_EQ(start("m1").json().at("status"), "running");
  EXPECT_EQ(fetcher.heard(), R"({"pull":"m1"})");
  fetcher.say(R"({"failed":{"code":"not_found","message":"m1: no such model"}})"
              "\n");
  EXPECT_EQ(fetcher.heard(), R"({"pull":"m2"})");
  EXPECT_EQ(at(0).at("status"), "failed");
  EXPECT_EQ(at(0).at("error"),
            Json::parse(R"({"code": "not_found", "message": "m1: no such model"})"));
  EXPECT_EQ(start("m1").json().at("status"), "waiting") << "again, after it failed";
  EXPECT_EQ(list().at("data").size(), 2U);
}

TEST_F(Pulls, OneThatWaitsIsCancelledAtOnceAndOneThatRunsWhenItHasStopped) {
  start("m1");
  start("m2");
  EXPECT_EQ(cancel("m2").json().at("status"), "cancelled");
  EXPECT_EQ(fetcher.heard(), R"({"pull":"m1"})");
  EXPECT_EQ(cancel("m1").json().at("status"), "running");
  EXPECT_EQ(fetcher.heard(), R"({"cancel":"m1"})");
  fetcher.say("{\"failed\":{\"code\":\"cancelled\",\"message\":\"interrupted\"}}\n");
  EXPECT_TRUE(becomes(0, "cancelled"));
  EXPECT_EQ(fetcher.heard(100), "") << "m2 is not fetched";
  EXPECT_EQ(cancel("m1").json().at("status"), "cancelled") << "and stays so";
  EXPECT_EQ(cancel("m3").status, 404);
}

TEST_F(Pulls, WhatIsNotAllowedIsRefusedAndNotPassedOn) {
  const Reply refused = start("other");
  EXPECT_EQ(refused.status, 403);
  EXPECT_THAT(refused.body, HasSubstr("'other' is none of the models"));
  for (const char* body : {R"({})", R"({"model": 5})", R"({"model": null})", R"([])"}) {
    EXPECT_EQ(server->ask(post("/v1/pulls", body)).status, 422) << body;
  }
  EXPECT_EQ(start("m" + std::string(600, 'x')).status, 403);
  EXPECT_EQ(fetcher.heard(100), "");
}

TEST_F(Pulls, ManyThatWaitAreTooMany) {
  int taken = 0;
  Reply last;
  for (int i = 0; i < 20 && (i == 0 || last.status == 200); ++i) {
    last = start("m" + std::to_string(i));
    taken += last.status == 200;
  }
  EXPECT_EQ(taken, 9) << "one runs, eight wait";
  EXPECT_EQ(last.status, 429);
  EXPECT_EQ(last.headers.at("retry-after"), "1");
}

TEST_F(Pulls, OfThoseThatHaveEndedTheLastAreKept) {
  for (int i = 0; i < 40; ++i) {
    start("m" + std::to_string(i));
    fetcher.heard();
    fetcher.say("{\"done\":\"x\"}\n");
    ASSERT_TRUE(soon([&] { return list().at("data").back().at("status") == "done"; }));
  }
  EXPECT_EQ(list().at("data").size(), 32U);
  EXPECT_EQ(at(0).at("model"), "m8");
}

TEST_F(Pulls, TheEndOfTheFetchingProcessIsToldAndTheServerGoesOn) {
  start("m1");
  start("m2");
  fetcher.close();
  ASSERT_TRUE(becomes(0, "failed"));
  EXPECT_TRUE(becomes(1, "failed"));
  EXPECT_THAT(at(0).at("error").at("message"), HasSubstr("has ended"));
  EXPECT_EQ(start("m3").status, 503);
  EXPECT_EQ(server->chat({{"max_tokens", 3}}).status, 200);
}

/// The process reads what the network sends: what comes of it may be anything.
TEST_F(Pulls, AFetchingProcessThatSaysSomethingElseIsLetGo) {
  std::string deep = "{\"progress\":";
  for (int i = 0; i < 5000; ++i) deep += "[";
  for (const std::string& line :
       {std::string("what?\n"), std::string("{\"done\":5}\n"), std::string("{}\n"),
        std::string("{\"failed\":{\"code\":\"a\"}}\n"), std::string("{\"done\":\"a\",\"b\":1}\n"),
        std::string("{\"progress\":{\"task\":\"a\",\"unit\":\"b\",\"done\":-1,\"total\":0,"
                    "\"rate\":0}}\n"),
        std::string("{\"progress\":{\"task\":\"a\",\"unit\":\"b\",\"done\":1e300,\"total\":0,"
                    "\"rate\":0}}\n"),
        std::string("{\"done\":\"\xff\"}\n"), deep + "\n", std::string(20'000, 'x')}) {
    Fetcher other;
    PullDesk desk(other.servers_end(), PullRules({"m"}));
    desk.pull("m");
    other.heard();
    other.say(line);
    EXPECT_TRUE(other.let_go()) << line.substr(0, 60);
    EXPECT_TRUE(soon([&] { return desk.list()["data"][0]["status"] == "failed"; }));
  }
  Fetcher early;
  PullDesk desk(early.servers_end(), PullRules({"m"}));
  early.say("{\"done\":\"not asked for\"}\n");
  EXPECT_TRUE(early.let_go());
}

TEST_F(Pulls, ALongTextIsCutBetweenItsCharacters) {
  start("m1");
  fetcher.heard();
  std::string message;
  for (int i = 0; i < 1000; ++i) message += "\u00e4";
  fetcher.say(Json{{"failed", {{"code", "io"}, {"message", "x" + message}}}}.dump() + "\n");
  ASSERT_TRUE(becomes(0, "failed"));
  EXPECT_EQ(at(0).at("error").at("message").get<std::string>().size(), 999U);
}

TEST(PullsOff, NothingIsFetchedUnlessTheOperatorAllowsIt) {
  TestServer server;
  const Reply refused = server.ask(post("/v1/pulls", R"({"model": "smollm2:135m"})"));
  EXPECT_EQ(refused.status, 403);
  EXPECT_THAT(refused.body, HasSubstr("--allow-pull"));
  EXPECT_EQ(server.ask(post("/v1/pulls/cancel", R"({"model": "smollm2:135m"})")).status, 403);
  const Json list = server.ask(get("/v1/pulls")).json();
  EXPECT_TRUE(list.at("allowed").empty());
  EXPECT_TRUE(list.at("data").empty());
}

}  // namespace
}  // namespace fathom
