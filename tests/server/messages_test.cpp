// /v1/messages as Anthropic's clients read it.
#include <gmock/gmock.h>

#include "server/test_server.h"

namespace fathom {
namespace {

using namespace test;  // NOLINT
using ::testing::HasSubstr;

Reply ask(TestServer& server, const Json& more, const std::string& headers = {}) {
  Json body{{"model", "fake"},
            {"max_tokens", 50},
            {"messages", Json::array({{{"role", "user"}, {"content", "u"}}})}};
  if (!more.is_null()) body.update(more);
  return server.ask(post("/v1/messages", body.dump(), headers));
}

TEST(Messages, AnswersWithBlocksAndUsage) {
  TestServer server;
  const Reply reply = ask(server, {});
  ASSERT_EQ(reply.status, 200) << reply.body;
  const Json json = reply.json();
  EXPECT_EQ(json.at("type"), "message");
  EXPECT_EQ(json.at("role"), "assistant");
  EXPECT_TRUE(json.at("id").get<std::string>().starts_with("msg_"));
  EXPECT_EQ(json.at("content"), (Json::array({{{"type", "text"}, {"text", "vwxyz"}}})));
  EXPECT_EQ(json.at("stop_reason"), "end_turn");
  EXPECT_TRUE(json.at("stop_sequence").is_null());
  EXPECT_EQ(json.at("usage").at("input_tokens"), 1);
  EXPECT_EQ(json.at("usage").at("output_tokens"), 6);
}

TEST(Messages, StreamsBlockByBlock) {
  TestServer server({}, {}, {}, thinker);
  const Json asked{{"stream", true}, {"thinking", {{"type", "enabled"}, {"budget_tokens", 1024}}}};
  const auto events = events_of(ask(server, asked));
  std::vector<std::string> types;
  std::string thinking, text;
  std::size_t blocks = 0;
  for (const Json& event : events) {
    const std::string type = event.at("type");
    if (types.empty() || types.back() != type) types.push_back(type);
    if (type == "content_block_start") {
      EXPECT_EQ(event.at("index"), blocks);
      EXPECT_EQ(event.at("content_block").at("type"), blocks == 0 ? "thinking" : "text");
    } else if (type == "content_block_stop") {
      EXPECT_EQ(event.at("index"), blocks++);
    } else if (type == "content_block_delta") {
      EXPECT_EQ(event.at("index"), blocks);
      const Json& delta = event.at("delta");
      if (delta.at("type") == "thinking_delta") {
        thinking += delta.at("thinking");
      } else {
        text += delta.at("text");
      }
    }
  }
  EXPECT_EQ(types, (std::vector<std::string>{
                       "message_start", "content_block_start", "content_block_delta",
                       "content_block_stop", "content_block_start", "content_block_delta",
                       "content_block_stop", "message_delta", "message_stop"}));
  EXPECT_EQ(thinking, "ab");
  EXPECT_EQ(text, "yz");
  EXPECT_EQ(events[0].at("message").at("content"), Json::array());
  const Json& last = events[events.size() - 2];
  EXPECT_EQ(last.at("delta").at("stop_reason"), "end_turn");
  EXPECT_GT(last.at("usage").at("output_tokens"), 4);
}

TEST(Messages, SaysWhyItStopped) {
  TestServer server;
  const Json cut = ask(server, {{"max_tokens", 2}}).json();
  EXPECT_EQ(cut.at("stop_reason"), "max_tokens");
  EXPECT_EQ(cut.at("content")[0].at("text"), "vw");
  const Json stopped = ask(server, {{"stop_sequences", {"y"}}}).json();
  EXPECT_EQ(stopped.at("stop_reason"), "stop_sequence");
  EXPECT_EQ(stopped.at("stop_sequence"), "y");
  EXPECT_EQ(stopped.at("content")[0].at("text"), "vwx");
}

TEST(Messages, SystemBlocksAndPrefillMakeThePrompt) {
  TestServer server;
  const Json asked{
      {"system", Json::array({{{"type", "text"}, {"text", "A"}}})},
      {"messages",
       Json::array({{{"role", "user"},
                     {"content", Json::array({{{"type", "text"}, {"text", "B"}},
                                              {{"type", "text"}, {"text", "C"}}})}},
                    {{"role", "assistant"},
                     {"content", Json::array({{{"type", "thinking"}, {"thinking", "no"}},
                                              {{"type", "text"}, {"text", "x"}}})}}})}};
  const Json json = ask(server, asked).json();
  EXPECT_EQ(json.at("content")[0].at("text"), "yz");
  EXPECT_EQ(json.at("usage").at("input_tokens"), 4);
}

TEST(Messages, WhatTheCacheHadIsNoInput) {
  TestServer server;
  const Json asked{
      {"messages", Json::array({{{"role", "user"}, {"content", std::string(200, 'A') + "u"}}})}};
  ask(server, asked);
  const Json usage = ask(server, asked).json().at("usage");
  EXPECT_GE(usage.at("cache_read_input_tokens"), 64);
  EXPECT_EQ(usage.at("input_tokens").get<int>() + usage.at("cache_read_input_tokens").get<int>(),
            201);
}

TEST(Messages, ErrorsHaveTheirOwnForm) {
  server::ApiOptions api;
  api.keys = {"a-key-of-some-length"};
  TestServer locked({}, api);
  const Reply stranger = ask(locked, {});
  EXPECT_EQ(stranger.status, 401);
  EXPECT_EQ(stranger.json().at("type"), "error");
  EXPECT_EQ(stranger.json().at("error").at("type"), "authentication_error");
  EXPECT_EQ(ask(locked, {}, "x-api-key: a-key-of-some-length\r\n").status, 200);

  TestServer server;
  const auto refused = [&](const Json& more, const char* type, const char* words) {
    const Json json = ask(server, more).json();
    EXPECT_EQ(json.at("type"), "error");
    EXPECT_EQ(json.at("error").at("type"), type);
    EXPECT_THAT(json.at("error").at("message").get<std::string>(), HasSubstr(words));
  };
  refused({{"max_tokens", nullptr}}, "invalid_request_error", "max_tokens");
  refused({{"model", "claude-9"}}, "not_found_error", "claude-9");
  refused({{"messages", Json::array({{{"role", "system"}, {"content", "u"}}})}},
          "invalid_request_error", "system");
  refused({{"messages",
            Json::array({{{"role", "user"}, {"content", Json::array({{{"type", "image"}}})}}})}},
          "invalid_request_error", "image");
  refused({{"messages", Json::array({{{"role", "user"}, {"content", std::string(2000, 'A')}}})}},
          "invalid_request_error", "context");  // by the engine, not by the reader
  refused({{"tools", Json::array({{{"type", "web_search_20250305"}, {"name", "f"}}})}},
          "invalid_request_error", "web_search");
}

TEST(Messages, WhatIsWrongWithTheRequestItselfIsSaidInTheSameForm) {
  server::ListenerOptions options;
  options.max_body_bytes = 1000;
  TestServer server(options);
  const auto type_of = [&](const std::string& bytes, int status) {
    const Reply reply = server.ask(bytes);
    EXPECT_EQ(reply.status, status) << reply.body;
    EXPECT_EQ(reply.json().at("type"), "error");
    return reply.json().at("error").at("type");
  };
  const std::string start = "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\n";
  EXPECT_EQ(type_of(start + "Content-Length: -1\r\n\r\n", 400), "invalid_request_error");
  EXPECT_EQ(type_of(start + "X: " + std::string(100'000, 'x'), 431), "invalid_request_error");
  EXPECT_EQ(type_of(start + "Content-Length: 1001\r\n\r\n", 413), "request_too_large");
  EXPECT_EQ(type_of(get("/v1/messages"), 405), "invalid_request_error");
  EXPECT_EQ(type_of(get("/v1/messages", "Origin: https://evil.example\r\n"), 403),
            "permission_error");
}

}  // namespace
}  // namespace fathom
