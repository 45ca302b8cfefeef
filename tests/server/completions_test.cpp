// Chat and text completions as DeepSeek's and OpenAI's clients read them.
#include <gmock/gmock.h>

#include "server/test_server.h"

namespace fathom {
namespace {

using namespace test;  // NOLINT
using ::testing::HasSubstr;

TEST(Chat, AnswersWithContentUsageAndFinishReason) {
  TestServer server;
  const Reply reply = server.chat({});
  ASSERT_EQ(reply.status, 200) << reply.body;
  EXPECT_EQ(reply.headers.at("content-type"), "application/json");
  const Json json = reply.json();
  EXPECT_EQ(json.at("object"), "chat.completion");
  EXPECT_EQ(json.at("model"), "fake");
  EXPECT_TRUE(json.at("id").get<std::string>().starts_with("chatcmpl-"));
  EXPECT_GT(json.at("created").get<std::int64_t>(), 1'700'000'000);
  EXPECT_EQ(json.at("choices").size(), 1U);
  const Json& choice = json.at("choices")[0];
  EXPECT_EQ(choice.at("message"), (Json{{"role", "assistant"}, {"content", "vwxyz"}}));
  EXPECT_EQ(choice.at("finish_reason"), "stop");
  EXPECT_EQ(choice.at("index"), 0);
  EXPECT_TRUE(choice.at("logprobs").is_null());
  const Json& usage = json.at("usage");
  EXPECT_EQ(usage.at("prompt_tokens"), 1);
  EXPECT_EQ(usage.at("completion_tokens"), 6);  // the end counts
  EXPECT_EQ(usage.at("total_tokens"), 7);
  EXPECT_EQ(usage.at("prompt_cache_hit_tokens"), 0);
  EXPECT_EQ(usage.at("prompt_cache_miss_tokens"), 1);
  EXPECT_EQ(usage.at("completion_tokens_details").at("reasoning_tokens"), 0);
}

TEST(Chat, StreamsTheSameTextInChunks) {
  TestServer server;
  const Reply reply = server.chat({{"stream", true}});
  ASSERT_EQ(reply.status, 200);
  EXPECT_THAT(reply.headers.at("content-type"), HasSubstr("text/event-stream"));
  const auto events = reply.events();
  ASSERT_GE(events.size(), 4U) << reply.body;
  EXPECT_EQ(events.back(), "[DONE]");
  std::string text, id;
  for (std::size_t i = 0; i + 1 < events.size(); ++i) {
    const Json chunk = Json::parse(events[i]);
    EXPECT_EQ(chunk.at("object"), "chat.completion.chunk");
    EXPECT_FALSE(chunk.contains("usage")) << "nobody asked for it";
    if (id.empty()) id = chunk.at("id");
    EXPECT_EQ(chunk.at("id"), id);
    const Json& choice = chunk.at("choices").at(0);
    const bool last = i + 2 == events.size();
    EXPECT_EQ(choice.at("finish_reason"), last ? Json("stop") : Json());
    if (i == 0) {
      EXPECT_EQ(choice.at("delta").at("role"), "assistant");
    }
    if (choice.at("delta").contains("content")) text += choice.at("delta").at("content");
  }
  EXPECT_EQ(text, "vwxyz");
}

TEST(Chat, UsageComesLastIfItIsAskedFor) {
  TestServer server;
  const auto events =
      server.chat({{"stream", true}, {"stream_options", {{"include_usage", true}}}}).events();
  ASSERT_GE(events.size(), 3U);
  const Json last = Json::parse(events[events.size() - 2]);
  EXPECT_TRUE(last.at("choices").empty());
  EXPECT_EQ(last.at("usage").at("completion_tokens"), 6);
  EXPECT_TRUE(Json::parse(events[0]).at("usage").is_null());
}

TEST(Chat, ThinkingIsToldFromTheAnswer) {
  // From <think>: a, b, </think>, then y and z.
  const auto script = [](TokenId last, std::size_t position) {
    if (last == kThink) return ids("a")[0];
    if (last == ids("b")[0]) return kEndThink;
    if (last == kEndThink) return ids("y")[0];
    return alphabet(last, position);
  };
  TestServer server({}, {}, {}, script);
  const Json thinking{{"thinking", {{"type", "enabled"}}}};
  const Json whole = server.chat(thinking).json();
  EXPECT_EQ(whole.at("choices")[0].at("message").at("reasoning_content"), "ab");
  EXPECT_EQ(whole.at("choices")[0].at("message").at("content"), "yz");
  EXPECT_GT(whole.at("usage").at("completion_tokens_details").at("reasoning_tokens"), 0);
  Json streamed = thinking;
  streamed["stream"] = true;
  std::string reasoning, content;
  const Reply reply = server.chat(streamed);
  for (const std::string& event : reply.events()) {
    if (event == "[DONE]") continue;
    const Json delta = Json::parse(event).at("choices").at(0).at("delta");
    if (delta.contains("reasoning_content")) {
      EXPECT_TRUE(delta.at("content").is_null());
      reasoning += delta.at("reasoning_content");
    } else if (delta.contains("content")) {
      content += delta.at("content");
    }
  }
  EXPECT_EQ(reasoning, "ab");
  EXPECT_EQ(content, "yz");
}

TEST(Chat, ABudgetEndsTheThought) {
  const auto script = [](TokenId last, std::size_t position) {
    if (last == ids("\n")[0]) return ids("y")[0];
    return last == ids("y")[0] || last == ids("z")[0] ? alphabet(last, position) : ids("a")[0];
  };
  TestServer server({}, {}, {}, script);
  const Json json =
      server.chat({{"thinking", {{"type", "enabled"}}}, {"max_thinking_tokens", 3}}).json();
  EXPECT_EQ(json.at("choices")[0].at("message").at("reasoning_content"), "aaa\n");
  EXPECT_EQ(json.at("choices")[0].at("message").at("content"), "yz");
  EXPECT_EQ(server.chat({{"max_thinking_tokens", -1}}).status, 400);
}

TEST(Chat, SettingsReachTheSampler) {
  TestServer server;
  EXPECT_EQ(server.chat({{"max_tokens", 2}}).json().at("choices")[0].at("message").at("content"),
            "vw");
  EXPECT_EQ(server.chat({{"max_tokens", 2}}).json().at("choices")[0].at("finish_reason"), "length");
  EXPECT_EQ(server.chat({{"max_completion_tokens", 1}}).json().at("usage").at("completion_tokens"),
            1);
  EXPECT_EQ(server.chat({{"stop", "y"}}).json().at("choices")[0].at("message").at("content"),
            "vwx");
  EXPECT_EQ(
      server.chat({{"stop", {"q", "wx"}}}).json().at("choices")[0].at("message").at("content"),
      "v");
  const int w = value(ids("w")[0]);
  const Json banned =
      server.chat({{"logit_bias", {{std::to_string(w), -100}}}, {"max_tokens", 3}}).json();
  EXPECT_THAT(banned.at("choices")[0].at("message").at("content").get<std::string>(),
              ::testing::Not(HasSubstr("w")));
}

TEST(Chat, SeveralChoicesAreBilledForOnePrompt) {
  TestServer server;
  const Json json = server.chat({{"n", 3}}).json();
  ASSERT_EQ(json.at("choices").size(), 3U);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(json.at("choices")[i].at("index"), i);
    EXPECT_EQ(json.at("choices")[i].at("message").at("content"), "vwxyz");
  }
  EXPECT_EQ(json.at("usage").at("prompt_tokens"), 1);
  EXPECT_EQ(json.at("usage").at("completion_tokens"), 18);
}

TEST(Chat, LogprobsComeWithTheirRivals) {
  TestServer server;
  const Json whole =
      server.chat({{"logprobs", true}, {"top_logprobs", 2}, {"max_tokens", 2}}).json();
  const Json& content = whole.at("choices")[0].at("logprobs").at("content");
  ASSERT_EQ(content.size(), 2U);
  EXPECT_EQ(content[0].at("token"), "v");
  EXPECT_EQ(content[0].at("bytes"), (Json{118}));
  EXPECT_NEAR(content[0].at("logprob"), 0, 1e-3);
  EXPECT_EQ(content[0].at("top_logprobs").size(), 2U);
  EXPECT_EQ(content[0].at("top_logprobs")[0].at("token"), "v");
  std::size_t seen = 0;
  for (const std::string& event :
       server.chat({{"logprobs", true}, {"stream", true}, {"max_tokens", 3}}).events()) {
    if (event == "[DONE]") continue;
    const Json logprobs = Json::parse(event).at("choices").at(0).at("logprobs");
    if (!logprobs.is_null()) seen += logprobs.at("content").size();
  }
  EXPECT_EQ(seen, 3U);
}

TEST(Chat, APrefixIsGoneOnWith) {
  TestServer server;
  const Json messages = Json::array({{{"role", "user"}, {"content", "A"}},
                                     {{"role", "assistant"}, {"content", "p"}, {"prefix", true}}});
  EXPECT_EQ(
      server.chat({{"messages", messages}}).json().at("choices")[0].at("message").at("content"),
      "qrstuvwxyz");
}

TEST(Chat, APromptsEqualBeginningComesFromTheCache) {
  TestServer server;
  const std::string text = std::string(200, 'A') + "u";
  const Json messages = Json::array({{{"role", "user"}, {"content", text}}});
  EXPECT_EQ(server.chat({{"messages", messages}}).json().at("usage").at("prompt_cache_hit_tokens"),
            0);
  const Json usage = server.chat({{"messages", messages}}).json().at("usage");
  EXPECT_GE(usage.at("prompt_cache_hit_tokens"), 64);
  EXPECT_EQ(usage.at("prompt_tokens"), 201);
  EXPECT_EQ(usage.at("prompt_cache_miss_tokens").get<int>(),
            201 - usage.at("prompt_cache_hit_tokens").get<int>());
  EXPECT_EQ(usage.at("prompt_tokens_details").at("cached_tokens"),
            usage.at("prompt_cache_hit_tokens"));
}

TEST(Chat, OneKeysPromptsAreNotAnothersCache) {
  server::ApiOptions api;
  api.keys = {"the-first-long-key-1", "the-second-long-key-2"};
  TestServer server({}, api);
  const Json messages = Json::array({{{"role", "user"}, {"content", std::string(200, 'A') + "u"}}});
  const auto hits = [&](const std::string& key) {
    return server.chat({{"messages", messages}}, "Authorization: Bearer " + key + "\r\n")
        .json()
        .at("usage")
        .at("prompt_cache_hit_tokens")
        .get<int>();
  };
  EXPECT_EQ(hits(api.keys[0]), 0);
  EXPECT_EQ(hits(api.keys[1]), 0);
  EXPECT_GE(hits(api.keys[0]), 64);
  EXPECT_GE(hits(api.keys[1]), 64);
}

TEST(Text, GoesOnWithOneOrSeveralPrompts) {
  TestServer server;
  const auto ask = [&](const Json& body) {
    return server.ask(post("/v1/completions", body.dump())).json();
  };
  Json json = ask({{"prompt", "w"}});
  EXPECT_EQ(json.at("object"), "text_completion");
  EXPECT_EQ(json.at("choices")[0].at("text"), "xyz");
  json = ask({{"prompt", {"w", "x"}}, {"echo", true}});
  EXPECT_EQ(json.at("choices")[0].at("text"), "wxyz");
  EXPECT_EQ(json.at("choices")[1].at("text"), "xyz");
  EXPECT_EQ(json.at("usage").at("prompt_tokens"), 2);
  json = ask({{"prompt", {value(ids("x")[0])}}, {"logprobs", 1}});
  EXPECT_EQ(json.at("choices")[0].at("text"), "yz");
  EXPECT_EQ(json.at("choices")[0].at("logprobs").at("tokens")[0], "y");
  EXPECT_EQ(json.at("choices")[0].at("logprobs").at("text_offset")[1], 1);
  const Reply streamed =
      server.ask(post("/completions", R"({"prompt": "w", "stream": true, "echo": true})"));
  std::string text;
  for (const std::string& event : streamed.events()) {
    if (event != "[DONE]") text += Json::parse(event).at("choices").at(0).at("text");
  }
  EXPECT_EQ(text, "wxyz");
}

struct Bad {
  const char* body;
  int status;
  const char* words;
};
class BadChats : public ::testing::TestWithParam<Bad> {};

TEST_P(BadChats, AreRefusedNamingTheField) {
  static TestServer server;
  const Reply reply = server.ask(post("/v1/chat/completions", GetParam().body));
  EXPECT_EQ(reply.status, GetParam().status) << reply.body;
  const Json error = reply.json().at("error");
  EXPECT_THAT(error.at("message").get<std::string>(), HasSubstr(GetParam().words));
  EXPECT_TRUE(error.contains("type") && error.contains("param") && error.contains("code"));
}

#define MESSAGES R"("messages": [{"role": "user", "content": "u"}])"
INSTANTIATE_TEST_SUITE_P(
    All, BadChats,
    ::testing::Values(
        Bad{"", 400, "JSON"}, Bad{"{", 400, "JSON"}, Bad{"[]", 422, "object"},
        Bad{"{\"messages\": \"\xFF\"}", 400, "JSON"}, Bad{R"({"messages": "\ud800"})", 400, "JSON"},
        Bad{"{}", 422, "messages"}, Bad{R"({"messages": []})", 400, "messages"},
        Bad{R"({"messages": [7]})", 422, "messages[0]"},
        Bad{R"({"messages": [{"content": "u"}]})", 422, "messages[0].role"},
        Bad{R"({"messages": [{"role": "king", "content": "u"}]})", 400, "king"},
        Bad{R"({"messages": [{"role": "user"}]})", 422, "messages[0].content"},
        Bad{R"({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]})", 400,
            "image_url"},
        Bad{R"({"model": "gpt-9", )" MESSAGES "}", 404, "gpt-9"},
        Bad{"{" MESSAGES R"(, "temperature": -1})", 400, "temperature"},
        Bad{"{" MESSAGES R"(, "temperature": "hot"})", 422, "temperature"},
        Bad{"{" MESSAGES R"(, "temperature": 1e999})", 400, ""},
        Bad{"{" MESSAGES R"(, "top_p": 1.5})", 400, "top_p"},
        Bad{"{" MESSAGES R"(, "max_tokens": 0})", 400, "max_tokens"},
        Bad{"{" MESSAGES R"(, "max_tokens": -9223372036854775808})", 400, "max_tokens"},
        Bad{"{" MESSAGES R"(, "max_tokens": 99999999999999999999})", 400, "max_tokens"},
        Bad{"{" MESSAGES R"(, "max_tokens": 1.5})", 422, "max_tokens"},
        Bad{"{" MESSAGES R"(, "n": 1000})", 400, "n is 1000"},
        Bad{"{" MESSAGES R"(, "stop": [1]})", 422, "stop"},
        Bad{"{" MESSAGES R"(, "stop": ""})", 400, "stop"},
        Bad{"{" MESSAGES R"(, "logit_bias": {"x": 1}})", 400, "'x'"},
        Bad{"{" MESSAGES R"(, "logit_bias": {"99999": 1}})", 400, "99999"},
        Bad{"{" MESSAGES R"(, "logit_bias": {"5": 101}})", 400, "logit_bias.5"},
        Bad{"{" MESSAGES R"(, "top_logprobs": 3})", 400, "top_logprobs"},
        Bad{"{" MESSAGES R"(, "stream_options": {"include_usage": true}})", 400, "stream_options"},
        Bad{"{" MESSAGES R"(, "tools": [{"type": "function"}]})", 422, "tools[0].function"},
        Bad{"{" MESSAGES R"(, "chat_template": "{{ x }}"})", 400, "chat_template"},
        Bad{"{" MESSAGES R"(, "response_format": {"type": "xml"}})", 400, "'xml'"},
        Bad{"{" MESSAGES R"(, "response_format": {"type": "json_schema"}})", 422, "json_schema"},
        Bad{"{" MESSAGES R"(, "response_format": {"type": "json_schema",
            "json_schema": {"name": "n", "schema": {"not": {}}}}})",
            400, "keyword not"},
        Bad{"{" MESSAGES R"(, "response_format": {"type": "json_schema",
            "json_schema": {"name": "n", "schema": {"type": "text"}}}})",
            400, "'text' is no type"},
        Bad{"{" MESSAGES R"(, "grammar": "root ::= x"})", 400, "does not define"},
        Bad{"{" MESSAGES R"(, "grammar": "root ::= \"a\"", "response_format": {"type":
            "json_object"}})",
            400, "exclude each other"},
        Bad{"{" MESSAGES R"(, "thinking": {"type": "maybe"}})", 400, "maybe"},
        Bad{"{" MESSAGES R"(, "reasoning_effort": "vast"})", 400, "vast"}));

TEST(Chat, DepthIsBounded) {
  TestServer server;
  const std::string deep = std::string(100'000, '[') + std::string(100'000, ']');
  const Reply reply = server.ask(post("/v1/chat/completions", "{\"messages\": " + deep + "}"));
  EXPECT_EQ(reply.status, 400);
  EXPECT_THAT(reply.body, HasSubstr("nested"));
}

TEST(Chat, APromptLongerThanTheContextIsAClientsError) {
  TestServer server;
  const Json messages = Json::array({{{"role", "user"}, {"content", std::string(2000, 'A')}}});
  const Reply reply = server.chat({{"messages", messages}, {"stream", true}});
  EXPECT_EQ(reply.status, 400) << "before any event";
  EXPECT_THAT(reply.body, HasSubstr("context"));
}

TEST(Chat, ThoughtsThatComeBackAreDroppedOrRefused) {
  const Json messages =
      Json::array({{{"role", "user"}, {"content", "A"}},
                   {{"role", "assistant"}, {"content", "B"}, {"reasoning_content", "secret"}},
                   {{"role", "user"}, {"content", "x"}}});
  TestServer lenient;
  const Json body{{"messages", messages}};
  EXPECT_EQ(lenient.ask(post("/apply-template", body.dump())).json().at("prompt"), "ABx");
  server::ApiOptions api;
  api.rules.refuse_reasoning_content = true;
  TestServer strict({}, api);
  EXPECT_EQ(strict.chat(body).status, 400);
}

TEST(Text, ASuffixMakesTheAnswerFillTheGap) {
  // The model sees the marks: it answers with their order.
  const auto marks = ids("<|fim_prefix|><|fim_suffix|><|fim_middle|>");
  ASSERT_EQ(marks.size(), 3U);
  TestServer server({}, {}, {}, [=](TokenId last, std::size_t position) {
    return last == marks[2] ? ids("f")[0] : alphabet(last, position);
  });
  const Reply reply = server.ask(
      post("/beta/completions", R"({"prompt": "ab<|end|>", "suffix": "yz", "max_tokens": 3})"));
  ASSERT_EQ(reply.status, 200) << reply.body;
  EXPECT_EQ(reply.json().at("choices")[0].at("text"), "fgh");
  // Three marks, a and b, y and z, and <|end|> as seven characters (of which | is none here).
  EXPECT_GE(reply.json().at("usage").at("prompt_tokens").get<int>(), 3 + 2 + 2 + 5);
}

TEST(Constrained, AnswersAreTextsOfTheirSchema) {
  TestServer server;
  const Json schema{{"type", "object"},
                    {"properties", {{"ok", {{"type", "boolean"}}}, {"n", {{"enum", {1, 22}}}}}},
                    {"required", {"ok", "n"}},
                    {"additionalProperties", false}};
  const Json format{{"type", "json_schema"},
                    {"json_schema", {{"name", "reply"}, {"strict", true}, {"schema", schema}}}};
  const Reply reply =
      server.chat({{"response_format", format}, {"n", 3}, {"temperature", 1}, {"max_tokens", 200}});
  ASSERT_EQ(reply.status, 200) << reply.body;
  const Json json = reply.json();
  ASSERT_EQ(json.at("choices").size(), 3U);
  for (const Json& choice : json.at("choices")) {
    const Json said = Json::parse(choice.at("message").at("content").get<std::string>());
    EXPECT_TRUE(said.at("ok").is_boolean());
    EXPECT_TRUE(said.at("n") == 1 || said.at("n") == 22);
    EXPECT_EQ(choice.at("finish_reason"), "stop");
  }
  std::string streamed;
  for (const std::string& event :
       server.chat({{"response_format", format}, {"stream", true}}).events()) {
    if (event == "[DONE]") continue;
    streamed += Json::parse(event).at("choices")[0].at("delta").value("content", "");
  }
  EXPECT_EQ(Json::parse(streamed).size(), 2U) << streamed;
}

TEST(Constrained, JsonObjectAndGrammarAndAPrefixWithinThem) {
  TestServer server;
  const Reply any = server.chat(
      {{"response_format", {{"type", "json_object"}}}, {"temperature", 2}, {"max_tokens", 3000}});
  const Json choice = any.json().at("choices")[0];
  if (choice.at("finish_reason") == "stop") {
    EXPECT_TRUE(Json::parse(choice.at("message").at("content").get<std::string>()).is_object());
  } else {
    EXPECT_TRUE(choice.at("message").at("content").get<std::string>().starts_with("{"));
  }
  const Json begun =
      Json::array({{{"role", "user"}, {"content", "u"}},
                   {{"role", "assistant"}, {"content", "move e"}, {"prefix", true}}});
  const Reply gone_on =
      server.chat({{"messages", begun}, {"grammar", "root ::= \"move \" [a-h] [1-8]"}});
  EXPECT_EQ(gone_on.json().at("choices")[0].at("message").at("content"), "1") << gone_on.body;
  const Reply text =
      server.ask(post("/v1/completions", R"({"prompt": "u", "grammar": "root ::= [0-9]{3}"})"));
  EXPECT_EQ(text.json().at("choices")[0].at("text"), "012") << text.body;
}

}  // namespace
}  // namespace fathom
