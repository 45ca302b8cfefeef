// Connections: who may ask, limits, hostile bytes, clients that leave, an end in order.
#include <gmock/gmock.h>

#include "server/process.h"
#include "server/test_server.h"

namespace fathom {
namespace {

using namespace test;  // NOLINT
using std::chrono::milliseconds;
using ::testing::HasSubstr;

TEST(Routes, OperationsAnswer) {
  TestServer server;
  EXPECT_EQ(server.ask(get("/health")).json().at("status"), "ok");
  EXPECT_EQ(server.ask(get("/ready")).json().at("model"), "fake");
  for (const char* path : {"/v1/models", "/models", "/v1/models?page=2"}) {
    EXPECT_EQ(server.ask(get(path)).json().at("data")[0].at("id"), "fake") << path;
  }
  const Json tokens =
      server.ask(post("/tokenize", R"({"content": "ab<think>", "parse_special": true})")).json();
  EXPECT_EQ(tokens.at("tokens"), (Json{3, 4, 1}));
  EXPECT_EQ(server.ask(post("/detokenize", R"({"tokens": [3, 4]})")).json().at("content"), "ab");
  EXPECT_EQ(server.ask(post("/detokenize", R"({"tokens": [99999]})")).status, 400);
  server.chat({});
  const Reply metrics = server.ask(get("/metrics"));
  EXPECT_THAT(metrics.headers.at("content-type"), HasSubstr("text/plain"));
  EXPECT_THAT(metrics.body, HasSubstr("fathom_completion_tokens_total 6\n"));
  EXPECT_THAT(metrics.body, HasSubstr("fathom_answers_total{reason=\"stop\"} 1\n"));
  EXPECT_THAT(metrics.body, HasSubstr("fathom_first_token_seconds_count 1\n"));
  EXPECT_THAT(metrics.body, HasSubstr("fathom_step_requests_bucket{le=\"1\"} "));
  EXPECT_THAT(metrics.body, testing::ContainsRegex("process_resident_memory_bytes [1-9][0-9]+\n"));
}

TEST(Routes, WhatIsNotThereIsSaid) {
  TestServer server;
  EXPECT_EQ(server.ask(get("/nothing")).status, 404);
  const Reply wrong = server.ask(get("/v1/chat/completions"));
  EXPECT_EQ(wrong.status, 405);
  EXPECT_EQ(wrong.headers.at("allow"), "POST");
  for (const char* path : {"/..", "/%2e%2e/etc/passwd", "/v1/../health", "/v1%2fmodels"}) {
    EXPECT_EQ(server.ask(get(path)).status, 404) << path;
  }
}

TEST(Access, EveryRouteWantsTheKeyOnceThereIsOne) {
  server::ApiOptions api;
  api.keys = {"a-key-of-some-length", "another-long-key-here"};
  TestServer server({}, api);
  for (const char* path : {"/health", "/ready", "/metrics", "/openapi.json", "/v1/models",
                           "/models", "/user/balance", "/nothing", "/v1/../health", "/%2e%2e"}) {
    EXPECT_EQ(server.ask(get(path)).status, 401) << path;
    EXPECT_EQ(server.ask(get(path, "Authorization: Bearer a-key-of-some-lengtH\r\n")).status, 401);
    EXPECT_EQ(server.ask(get(path, "Authorization: Basic a-key-of-some-length\r\n")).status, 401);
    EXPECT_NE(server.ask(get(path, "Authorization: Bearer another-long-key-here\r\n")).status, 401);
    EXPECT_NE(server.ask(get(path, "x-api-key: a-key-of-some-length\r\n")).status, 401);
  }
  for (const char* path : {"/v1/chat/completions", "/chat/completions", "/beta/chat/completions",
                           "/v1/completions", "/completions", "/beta/completions", "/v1/messages",
                           "/v1/responses", "/tokenize", "/detokenize", "/apply-template"}) {
    const Reply reply = server.ask(post(path, "{}"));
    EXPECT_EQ(reply.status, 401) << path;
    EXPECT_EQ(reply.headers.at("www-authenticate"), "Bearer");
    EXPECT_EQ(reply.json().at("error").at("type"), "authentication_error");
    EXPECT_EQ(server.ask(post(path, "{}", "x-api-key: a-key-of-some-lengt\r\n")).status, 401);
    EXPECT_NE(server.ask(post(path, "{}", "x-api-key: a-key-of-some-length\r\n")).status, 401);
  }
}

TEST(Access, ABodyIsNotTakenFromAStranger) {
  server::ApiOptions api;
  api.keys = {"a-key-of-some-length"};
  TestServer server({}, api);
  Client client(server.port());
  client.send(
      "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
      "Content-Type: application/json\r\nContent-Length: 30000000\r\n\r\n");
  EXPECT_EQ(client.reply().status, 401) << "without a byte of the body";
}

TEST(Access, ForeignHostsOriginsAndFormsAreRefused) {
  server::ApiOptions api;
  api.hosts = {"fathom.lan"};
  api.origins = {"https://chat.example.org"};
  TestServer server({}, api);
  const auto with_host = [&](const std::string& host) {
    return server.ask("GET /health HTTP/1.1\r\nHost: " + host + "\r\n\r\n").status;
  };
  for (const char* host : {"localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:99", "[::1]:80",
                           "fathom.lan", "fathom.lan:8080"}) {
    EXPECT_EQ(with_host(host), 200) << host;
  }
  for (const char* host : {"evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "",
                           "[evil]", "fathom.lan.evil.example"}) {
    EXPECT_EQ(with_host(host), 403) << host;
  }
  EXPECT_EQ(server.ask(get("/health", "Origin: https://evil.example\r\n")).status, 403);
  EXPECT_EQ(server.ask(get("/health", "Origin: null\r\n")).status, 403);
  EXPECT_EQ(server.ask(get("/health", "Origin: http://localhost\r\n")).status, 200);
  const Reply allowed = server.ask(get("/health", "Origin: https://chat.example.org\r\n"));
  EXPECT_EQ(allowed.headers.at("access-control-allow-origin"), "https://chat.example.org");
  const Reply before = server.ask(
      "OPTIONS /v1/models HTTP/1.1\r\nHost: localhost\r\n"
      "Origin: https://chat.example.org\r\n\r\n");
  EXPECT_EQ(before.status, 204);
  const std::string form = "messages=x";
  EXPECT_EQ(server
                .ask("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                     "application/x-www-form-urlencoded\r\nContent-Length: 10\r\n\r\n" +
                     form)
                .status,
            415);
  EXPECT_EQ(server
                .ask("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                     "text/plain\r\nContent-Length: 2\r\n\r\n{}")
                .status,
            415);
}

TEST(Limits, LargeHeadersAndBodiesAreRefusedEarly) {
  server::ListenerOptions options;
  options.max_body_bytes = 1000;
  TestServer server(options);
  Client header(server.port());
  header.send("GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + std::string(100'000, 'x'));
  EXPECT_EQ(header.reply().status, 431);
  EXPECT_TRUE(header.closed());
  Client body(server.port());
  body.send(
      "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
      "Content-Length: 2147483648\r\n\r\n");
  EXPECT_EQ(body.reply().status, 413);
  Client chunked(server.port());
  chunked.send(
      "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
      "Transfer-Encoding: chunked\r\n\r\n");
  for (int i = 0; i < 20 && chunked.send("64\r\n" + std::string(100, 'x') + "\r\n"); ++i) {
  }
  EXPECT_EQ(chunked.reply().status, 413);
}

TEST(Limits, SlowClientsAreDroppedAndOthersDoNotNotice) {
  server::ListenerOptions options;
  options.header_timeout = milliseconds(300);
  options.body_timeout = milliseconds(300);
  TestServer server(options);
  std::vector<std::unique_ptr<Client>> slow;
  for (int i = 0; i < 200; ++i) {
    slow.push_back(std::make_unique<Client>(server.port()));
    slow.back()->send(i % 2 == 0 ? "GET /health HT"
                                 : "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                                   "application/json\r\nContent-Length: 100\r\n\r\n{");
  }
  EXPECT_EQ(server.ask(get("/health")).status, 200);
  EXPECT_EQ(server.chat({}).status, 200);
  EXPECT_TRUE(slow[0]->closed());
  EXPECT_TRUE(slow[1]->closed());
  EXPECT_TRUE(soon([&] { return server.api().metrics().connections == 0; }));
}

TEST(Http, AmbiguousLengthsAreNoRequests) {
  TestServer server;
  const std::string start =
      "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
      "application/json\r\n";
  for (const char* lengths :
       {"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ", "Content-Length: -1\r\n\r\n",
        "Content-Length: 99999999999999999999999\r\n\r\n", "Content-Length: 0x2\r\n\r\n{}",
        "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"}) {
    Client client(server.port());
    client.send(start + lengths);
    EXPECT_EQ(client.reply().status, 400) << lengths;
    EXPECT_TRUE(client.closed()) << lengths;
  }
  for (const char* garbage : {"\r\n\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n",
                              "\x16\x03\x01\x02\x05\x01\r\n\r\n"}) {
    Client client(server.port());
    client.send(garbage);
    EXPECT_TRUE(client.closed()) << garbage;
  }
  EXPECT_EQ(server.ask(get("/health")).status, 200);
}

TEST(Http, AConnectionCarriesRequestsOneAfterTheOther) {
  TestServer server;
  Client client(server.port());
  // Also two at once, the second while the first is being answered.
  client.send(get("/health") +
              post("/v1/chat/completions", R"({"messages": [{"role": "user", "content": "w"}]})"));
  EXPECT_EQ(client.reply().json().at("status"), "ok");
  EXPECT_EQ(client.reply().json().at("choices")[0].at("message").at("content"), "xyz");
  client.send(post("/v1/chat/completions",
                   R"({"stream": true, "messages": [{"role": "user", "content": "x"}]})"));
  EXPECT_EQ(client.reply().events().back(), "[DONE]");
  client.send(get("/health", "Connection: close\r\n"));
  EXPECT_EQ(client.reply().status, 200);
  EXPECT_TRUE(client.closed());
}

TEST(Http, HeadGetsNoBodyThatWouldBeTakenForTheNextAnswer) {
  TestServer server;
  Client client(server.port());
  client.send("HEAD /health HTTP/1.1\r\nHost: localhost\r\n\r\n" + get("/health"));
  const Reply head = client.reply();
  EXPECT_EQ(head.status, 405);
  EXPECT_NE(head.headers.at("content-length"), "0");
  EXPECT_EQ(client.reply().json().at("status"), "ok");
}

TEST(Http, OldClientsGetAStreamThatEndsWithTheConnection) {
  TestServer server;
  const std::string body = R"({"stream": true, "messages": [{"role": "user", "content": "x"}]})";
  Client client(server.port());
  client.send(
      "POST /chat/completions HTTP/1.0\r\nHost: localhost\r\nContent-Type: "
      "application/json\r\nContent-Length: " +
      std::to_string(body.size()) + "\r\n\r\n" + body);
  const Reply reply = client.reply();
  EXPECT_EQ(reply.events().back(), "[DONE]");
  EXPECT_THAT(reply.raw, ::testing::Not(HasSubstr("chunked")));
}

/// Goes round for ever.
TokenId endless(TokenId, std::size_t) { return ids("a")[0]; }

TEST(Clients, OneThatLeavesFreesItsPlace) {
  for (const bool stream : {false, true}) {
    TestServer server({}, {}, milliseconds(5), endless);
    {
      Client client(server.port());
      client.send(
          post("/v1/chat/completions",
               std::string(R"({"messages": [{"role": "user", "content": "x"}], "stream": )") +
                   (stream ? "true}" : "false}")));
      ASSERT_TRUE(soon([&] { return server.stats().active == 1; }));
    }
    EXPECT_TRUE(soon([&] { return server.stats().active == 0; })) << stream;
  }
}

TEST(Clients, AReaderThatStopsIsDropped) {
  server::ListenerOptions options;
  options.write_timeout = milliseconds(300);
  TestServer server(options, {}, {}, endless);
  Client client(server.port(), 4096);
  // Some 30 MB of answer, more than the sockets hold between them.
  client.send(post("/v1/chat/completions",
                   R"({"messages": [{"role": "user", "content": "x"}], "stream": true, "n": 16,
                       "logprobs": true, "top_logprobs": 20})"));
  EXPECT_TRUE(soon([&] { return server.api().metrics().dropped_readers == 1; }));
  EXPECT_TRUE(soon([&] { return server.stats().active == 0; }));
  EXPECT_TRUE(soon([&] { return server.api().metrics().connections == 0; }));
  EXPECT_EQ(server.ask(get("/health")).status, 200);
}

TEST(Clients, TooManyWaitingAreTurnedAway) {
  server::ApiOptions api;
  api.max_waiting = 0;
  TestServer server({}, api);
  const Reply reply = server.chat({});
  EXPECT_EQ(reply.status, 429);
  EXPECT_EQ(reply.headers.at("retry-after"), "1");
}

TEST(Clients, AStreamThatWaitsIsKeptAlive) {
  server::ListenerOptions options;
  options.comment_interval = milliseconds(20);
  TestServer server(options, {}, milliseconds(150));
  const Reply reply = server.chat({{"stream", true}, {"max_tokens", 2}});
  EXPECT_THAT(reply.body, HasSubstr(": keep-alive\n\n"));
  EXPECT_EQ(reply.events().back(), "[DONE]");
}

TEST(End, RunningAnswersAreFinishedAndNewOnesRefused) {
  TestServer server({}, {}, milliseconds(20));
  Client running(server.port());
  running.send(post("/v1/chat/completions",
                    R"({"messages": [{"role": "user", "content": "a"}], "stream": true})"));
  ASSERT_TRUE(soon([&] { return server.stats().active == 1; }));
  Client idle(server.port());
  idle.send(get("/health"));
  EXPECT_EQ(idle.reply().status, 200);
  std::thread stopper([&] { server.stop(); });
  EXPECT_TRUE(idle.closed());
  const Reply reply = running.reply();
  EXPECT_EQ(reply.events().back(), "[DONE]") << reply.body;
  stopper.join();
}

TEST(End, AnswersThatTakeTooLongAreCut) {
  server::ListenerOptions options;
  options.drain_timeout = milliseconds(100);
  TestServer server(options, {}, milliseconds(20), endless);
  Client running(server.port());
  running.send(post("/v1/chat/completions", R"({"messages": [{"role": "user", "content": "a"}]})"));
  ASSERT_TRUE(soon([&] { return server.stats().active == 1; }));
  server.stop();  // returns
}

TEST(End, AModelThatFailsIsSaidInTheStream) {
  // The engine ends a request whose model fails with an error, which must reach the client.
  const auto broken = [](TokenId, std::size_t) -> TokenId { fail(ErrorCode::Internal, "broke"); };
  TestServer bad({}, {}, {}, broken);
  const Reply whole = bad.chat({});
  EXPECT_EQ(whole.status, 500);
  EXPECT_THAT(whole.body, HasSubstr("broke"));
  const Reply stream = bad.chat({{"stream", true}});
  EXPECT_EQ(stream.status, 200);
  EXPECT_THAT(stream.body, HasSubstr("broke"));
  EXPECT_EQ(stream.events().back(), "[DONE]");
}

TEST(Listener, APortThatIsTakenIsSaid) {
  TestServer server;
  server::ListenerOptions options;
  options.port = server.port();
  try {
    const server::Listener second(server.api(), options);
    ADD_FAILURE() << "listens twice";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::Io);
    EXPECT_THAT(error.what(), HasSubstr(std::to_string(server.port())));
  }
}

}  // namespace
}  // namespace fathom
