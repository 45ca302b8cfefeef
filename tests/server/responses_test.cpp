// /v1/responses as OpenAI's clients read it.
#include <gmock/gmock.h>

#include "server/test_server.h"

namespace fathom {
namespace {

using namespace test;  // NOLINT
using ::testing::HasSubstr;

Reply ask(TestServer& server, const Json& more) {
  Json body{{"model", "fake"}, {"input", "u"}};
  body.update(more);
  return server.ask(post("/v1/responses", body.dump()));
}

TEST(Responses, AnswersWithItemsAndUsage) {
  TestServer server;
  const Reply reply = ask(server, Json::object());
  ASSERT_EQ(reply.status, 200) << reply.body;
  const Json json = reply.json();
  EXPECT_EQ(json.at("object"), "response");
  EXPECT_EQ(json.at("status"), "completed");
  EXPECT_TRUE(json.at("id").get<std::string>().starts_with("resp_"));
  ASSERT_EQ(json.at("output").size(), 1U);
  const Json& message = json.at("output")[0];
  EXPECT_EQ(message.at("type"), "message");
  EXPECT_EQ(message.at("status"), "completed");
  EXPECT_EQ(message.at("content")[0].at("type"), "output_text");
  EXPECT_EQ(message.at("content")[0].at("text"), "vwxyz");
  EXPECT_EQ(json.at("usage").at("input_tokens"), 1);
  EXPECT_EQ(json.at("usage").at("output_tokens"), 6);
  EXPECT_EQ(json.at("store"), false) << "nothing is kept";
  EXPECT_EQ(json.at("tool_choice"), "auto");
}

TEST(Responses, StreamsItemByItemAndEndsWithTheWhole) {
  TestServer server({}, {}, {}, thinker);
  const Json asked{{"stream", true}, {"reasoning", {{"effort", "high"}}}};
  const auto events = events_of(ask(server, asked));
  for (std::size_t i = 0; i < events.size(); ++i) {
    EXPECT_EQ(events[i].at("sequence_number"), i);
  }
  ASSERT_GT(events.size(), 8U);
  EXPECT_EQ(events[0].at("type"), "response.created");
  EXPECT_EQ(events[1].at("type"), "response.in_progress");
  std::string thinking, text;
  std::vector<std::string> items;
  std::size_t open = 0;
  for (const Json& event : events) {
    const std::string type = event.at("type");
    if (type == "response.output_item.added") {
      EXPECT_EQ(open++, 0U) << "one at a time";
      EXPECT_EQ(event.at("output_index"), items.size());
      items.push_back(event.at("item").at("type"));
    }
    if (type == "response.output_item.done") {
      --open;
      EXPECT_EQ(event.at("item").at("status"), "completed");
    }
    if (type == "response.reasoning_text.delta") thinking += event.at("delta");
    if (type == "response.output_text.delta") text += event.at("delta");
    if (type == "response.output_text.done") {
      EXPECT_EQ(event.at("text"), text);
    }
  }
  EXPECT_EQ(thinking, "ab");
  EXPECT_EQ(text, "yz");
  EXPECT_EQ(items, (std::vector<std::string>{"reasoning", "message"}));
  const Json& last = events.back();
  EXPECT_EQ(last.at("type"), "response.completed");
  EXPECT_EQ(last.at("response").at("output").size(), 2U);
  EXPECT_EQ(last.at("response").at("output")[1].at("content")[0].at("text"), "yz");
  EXPECT_GT(last.at("response").at("usage").at("output_tokens_details").at("reasoning_tokens"), 0);
}

TEST(Responses, ACutOffAnswerIsIncomplete) {
  TestServer server;
  const Json whole = ask(server, {{"max_output_tokens", 2}}).json();
  EXPECT_EQ(whole.at("status"), "incomplete");
  EXPECT_EQ(whole.at("incomplete_details").at("reason"), "max_output_tokens");
  EXPECT_EQ(whole.at("output")[0].at("status"), "incomplete");
  const auto events = events_of(ask(server, {{"max_output_tokens", 2}, {"stream", true}}));
  EXPECT_EQ(events.back().at("type"), "response.incomplete");
}

TEST(Responses, FunctionsAreCalledAndTheirResultsComeBack) {
  TestServer server;
  const Json tools = Json::parse(R"([{"type": "function", "name": "look", "strict": true,
    "parameters": {"type": "object", "properties": {"at": {"enum": ["sky"]}}, "required": ["at"],
    "additionalProperties": false}}])");
  const Json asked{{"tools", tools}, {"tool_choice", "required"}, {"parallel_tool_calls", false}};
  const Json json = ask(server, asked).json();
  ASSERT_EQ(json.at("output").size(), 1U) << json;
  const Json call = json.at("output")[0];
  EXPECT_EQ(call.at("type"), "function_call");
  EXPECT_EQ(call.at("name"), "look");
  EXPECT_EQ(Json::parse(call.at("arguments").get<std::string>()), (Json{{"at", "sky"}}));
  Json streamed = asked;
  streamed["stream"] = true;
  std::string arguments;
  for (const Json& event : events_of(ask(server, streamed))) {
    if (event.at("type") == "response.function_call_arguments.delta") {
      arguments += event.at("delta");
    }
    if (event.at("type") == "response.function_call_arguments.done") {
      EXPECT_EQ(event.at("arguments"), arguments);
    }
  }
  EXPECT_EQ(arguments, call.at("arguments").get<std::string>());
  const Json input = Json::array(
      {{{"role", "user"}, {"content", "u"}},
       call,
       {{"type", "function_call_output"}, {"call_id", call.at("call_id")}, {"output", "blue"}},
       {{"type", "message"},
        {"role", "user"},
        {"content", Json::array({{{"type", "input_text"}, {"text", "u"}}})}}});
  const Reply again = ask(server, {{"input", input}, {"instructions", "B"}});
  ASSERT_EQ(again.status, 200) << again.body;
  EXPECT_EQ(again.json().at("output")[0].at("content")[0].at("text"), "vwxyz");
  EXPECT_GT(again.json().at("usage").at("input_tokens").get<int>(), 60);
}

TEST(Responses, TextFormatsHoldTheAnswer) {
  TestServer server;
  const Json format = Json::parse(R"({"format": {"type": "json_schema", "name": "n", "strict": true,
    "schema": {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"],
    "additionalProperties": false}}})");
  const Json json = ask(server, {{"text", format}}).json();
  const Json said =
      Json::parse(json.at("output")[0].at("content")[0].at("text").get<std::string>());
  EXPECT_TRUE(said.at("ok").is_boolean());
  EXPECT_EQ(json.at("text"), format);
}

TEST(Responses, WhatIsNotThereIsRefusedByName) {
  TestServer server;
  const auto refused = [&](const Json& more, const char* word) {
    const Reply reply = ask(server, more);
    EXPECT_TRUE(reply.status == 400 || reply.status == 422) << reply.body;
    EXPECT_THAT(reply.body, HasSubstr(word));
  };
  refused({{"previous_response_id", "resp_1"}}, "previous_response_id");
  refused({{"background", true}}, "background");
  refused({{"tools", Json::array({{{"type", "web_search"}}})}}, "web_search");
  refused({{"input", 7}}, "input");
  refused({{"input", Json::array({{{"type", "image_generation_call"}}})}}, "image_generation_call");
  refused({{"input", Json::parse(R"([{"role": "user", "content": [{"type": "input_image"}]}])")}},
          "input_image");
  refused({{"text", {{"format", {{"type", "xml"}}}}}}, "xml");
  refused({{"input", std::string(2000, 'A')}}, "context");
  // What is repeated in the answer has its types too.
  refused({{"metadata", 7}}, "metadata");
  refused({{"user", 7}}, "user");
  refused({{"parallel_tool_calls", 7}}, "parallel_tool_calls");
  refused({{"tool_choice", {{"type", 7}}}}, "tool_choice.type");
  refused({{"tool_choice", {{"type", "custom"}}}}, "custom");
}

}  // namespace
}  // namespace fathom
