// Many clients, slow ones, and ones that send more than they may: what they cost the server and
// the others.
#include <gmock/gmock.h>

#include "server/process.h"
#include "server/test_server.h"

namespace fathom {
namespace {

using namespace test;  // NOLINT
using std::chrono::milliseconds;
using ::testing::HasSubstr;

constexpr const char* kTokenize =
    "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";

std::string declaring(std::size_t length) {
  return kTokenize + ("Content-Length: " + std::to_string(length)) + "\r\n\r\n";
}

/// Runs `body` and sees that it took no more than `most` MiB at any time.
void expect_flat_memory(double most, const std::function<void()>& body) {
  forget_peak_memory();
  const double before = memory_mib("VmRSS");
  body();
  if (kMemoryIsMeasured) {
    EXPECT_LT(memory_mib("VmHWM"), before + most);
  }
}

TEST(Limits, FiveHundredSlowClientsAreHeldAndAGoodOneIsAnswered) {
  allow_many_files();
  TestServer server;
  std::vector<std::unique_ptr<Client>> slow;
  for (int i = 0; i < 500; ++i) {
    slow.push_back(std::make_unique<Client>(server.port()));
    slow.back()->send(i % 2 == 0 ? "GET /health HT" : declaring(100) + "{");
  }
  for (int round = 0; round < 10; ++round) {
    for (const auto& client : slow) ASSERT_TRUE(client->send(round % 2 == 0 ? "T" : " "));
    EXPECT_EQ(server.chat({}).status, 200);
    EXPECT_EQ(server.chat({{"stream", true}}).events().back(), "[DONE]");
  }
  EXPECT_TRUE(soon([&] { return server.api().metrics().connections == 500; })) << "all are held";
}

TEST(Limits, ConnectionsPastTheMostAreClosedAndAPlaceThatIsFreeIsTaken) {
  server::ListenerOptions options;
  options.max_connections = 3;
  TestServer server(options);
  std::vector<std::unique_ptr<Client>> held;
  for (int i = 0; i < 3; ++i) {
    held.push_back(std::make_unique<Client>(server.port()));
    held.back()->send(get("/health"));
    EXPECT_EQ(held.back()->reply().status, 200);
  }
  EXPECT_TRUE(Client(server.port()).closed());
  held.pop_back();
  ASSERT_TRUE(soon([&] { return server.api().metrics().connections == 2; }));
  EXPECT_EQ(server.ask(get("/health")).status, 200);
}

TEST(Limits, TenThousandConnectionsLeaveNothingBehind) {
  TestServer server;
  const auto one = [&](int i) {
    Client client(server.port());
    if (i % 4 != 0) client.send(i % 4 == 1 ? "GARBAGE\r\n\r\n" : get("/health"));
    if (i % 4 == 2) client.reply();
    if (i % 100 == 3) client.send(declaring(9000) + std::string(5000, ' '));
  };
  const auto all_gone = [&] { return server.api().metrics().connections == 0; };
  for (int i = 0; i < 500; ++i) one(i);
  ASSERT_TRUE(soon(all_gone));
  const std::size_t files = open_files();
  const double memory = memory_mib("VmRSS");
  for (int i = 0; i < 10'000; ++i) one(i);
  ASSERT_TRUE(soon(all_gone));
  EXPECT_TRUE(soon([&] { return open_files() <= files; })) << open_files() << ", " << files;
  if (kMemoryIsMeasured) {
    EXPECT_LT(memory_mib("VmRSS"), memory + 4);
  }
}

TEST(Limits, AHeaderOfAHundredMegabytesIsRefusedAndNotKept) {
  TestServer server;
  expect_flat_memory(8, [&] {
    Client client(server.port());
    client.send("GET /health HTTP/1.1\r\nHost: localhost\r\n");
    const std::string line = "X-Filler: " + std::string(10'000, 'x') + "\r\n";
    for (int i = 0; i < 10'000 && client.send(line); ++i) {
    }
    EXPECT_EQ(client.reply().status, 431);
    EXPECT_TRUE(client.closed());
  });
}

TEST(Limits, APromptOfTwoGigabytesIsRefusedAndNotKept) {
  server::ListenerOptions options;
  options.max_body_bytes = 4 << 20;
  TestServer server(options);
  const std::string block(1 << 20, 'x');
  expect_flat_memory(48, [&] {  // the limit, in a string that doubles, and what sockets hold
    Client declared(server.port());
    declared.send(declaring(std::size_t{2} << 30) + R"({"content": ")" + block);
    EXPECT_EQ(declared.reply().status, 413);
    Client chunked(server.port());
    chunked.send(kTokenize + std::string("Transfer-Encoding: chunked\r\n\r\n"));
    int sent = 0;
    while (sent < 2048 && chunked.send("100000\r\n" + block + "\r\n")) ++sent;
    EXPECT_LT(sent, 32) << "it is refused long before its end";
    EXPECT_EQ(chunked.reply().status, 413);
    Client one_chunk(server.port());
    one_chunk.send(kTokenize + std::string("Transfer-Encoding: chunked\r\n\r\n80000000\r\n") +
                   block);
    EXPECT_EQ(one_chunk.reply().status, 413);
  });
}

TEST(Limits, WhatIsDeclaredTakesNoMemory) {
  allow_many_files();
  TestServer server;
  expect_flat_memory(16, [&] {
    std::vector<std::unique_ptr<Client>> clients;
    for (int i = 0; i < 100; ++i) {
      clients.push_back(std::make_unique<Client>(server.port()));
      clients.back()->send(declaring(30 << 20) + "{");
    }
    ASSERT_TRUE(soon([&] { return server.api().metrics().connections == 100; }));
    EXPECT_EQ(server.chat({}).status, 200) << "nor room that others need";
  });
}

TEST(Limits, BodiesHaveTheirRoomTogether) {
  server::ListenerOptions options;
  options.max_total_body_bytes = 100'000;
  TestServer server(options);
  const std::string begin = R"({"content": ")";
  const std::string part = begin + std::string(30'000 - begin.size(), 'x');
  std::vector<std::unique_ptr<Client>> held;
  for (int i = 0; i < 3; ++i) {
    held.push_back(std::make_unique<Client>(server.port()));
    held.back()->send(declaring(part.size() + 2) + part);
  }
  const auto& bytes = server.api().metrics().body_bytes;
  ASSERT_TRUE(soon([&] { return bytes == 90'000; })) << bytes;
  const Reply refused = server.ask(post("/tokenize", part + "\"}"));
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.headers.at("retry-after"), "1");
  EXPECT_THAT(refused.body, HasSubstr("room"));
  EXPECT_EQ(server.ask(post("/tokenize", R"({"content": "ab"})")).status, 200) << "it fits";
  for (const auto& client : held) {
    client->send("\"}");
    EXPECT_EQ(client->reply().status, 200) << "who has the room is answered";
  }
  EXPECT_EQ(bytes, 0) << "it is given back";
  held[0]->send(declaring(part.size()) + part.substr(1));
  ASSERT_TRUE(soon([&] { return bytes == 29'999; })) << bytes;
  held.clear();
  EXPECT_TRUE(soon([&] { return bytes == 0; })) << "also by one who leaves: " << bytes;
}

/// Goes round for ever.
TokenId endless(TokenId, std::size_t) { return ids("a")[0]; }

TEST(Clients, OneThatAsksAgainAndLeavesFreesItsPlace) {
  // Its second request lies unread, in front of the connection's end.
  for (const std::size_t more : {0, 20'000}) {
    TestServer server({}, {}, milliseconds(20), endless);  // by itself it would take 20 s
    {
      Client client(server.port());
      client.send(
          post("/v1/chat/completions", R"({"messages": [{"role": "user", "content": "x"}]})"));
      ASSERT_TRUE(soon([&] { return server.stats().active == 1; }));
      client.send(get("/health", "X-Filler: " + std::string(more, 'x') + "\r\n"));
    }
    EXPECT_TRUE(soon([&] { return server.stats().active == 0; })) << more;
  }
}

TEST(Clients, OneThatAsksAgainAndStaysIsAnsweredTwice) {
  TestServer server({}, {}, milliseconds(100));
  Client client(server.port());
  client.send(post("/v1/chat/completions", R"({"messages": [{"role": "user", "content": "t"}]})"));
  ASSERT_TRUE(soon([&] { return server.stats().active == 1; }));
  client.send(get("/health"));
  EXPECT_EQ(client.reply().json().at("choices")[0].at("message").at("content"), "uvwxyz");
  EXPECT_EQ(client.reply().json().at("status"), "ok");
}

TEST(End, SigtermDrains) {
  server::ListenerOptions options;
  options.stop_on_signals = true;
  TestServer server(options, {}, milliseconds(20));
  Client running(server.port());
  running.send(post("/v1/chat/completions",
                    R"({"messages": [{"role": "user", "content": "a"}], "stream": true})"));
  ASSERT_TRUE(soon([&] { return server.stats().active == 1; }));
  Client idle(server.port());
  idle.send(get("/ready"));
  EXPECT_EQ(idle.reply().status, 200);
  ::kill(::getpid(), SIGTERM);
  EXPECT_TRUE(idle.closed());
  EXPECT_EQ(running.reply().events().back(), "[DONE]");
  EXPECT_TRUE(running.closed());
}

}  // namespace
}  // namespace fathom
