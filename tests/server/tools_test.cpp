// Tools, as chat completions and messages have them.
#include <gmock/gmock.h>

#include "server/test_server.h"

namespace fathom {
namespace {

using namespace test;  // NOLINT
using ::testing::HasSubstr;

const Json kTools = Json::parse(R"([
  {"type": "function", "function": {"name": "look", "description": "looks", "parameters": {
    "type": "object", "properties": {"at": {"enum": ["sky", "sea"]}}, "required": ["at"],
    "additionalProperties": false}}},
  {"type": "function", "function": {"name": "wait"}}])");

/// Writes `text` whatever it has read, a character a token, then ends. Under a grammar, what it
/// wants and may not write is passed over.
FakeModel::Script writer(const std::string& text) {
  const auto at = std::make_shared<std::size_t>(0);
  return [at, wanted = ids(text)](TokenId, std::size_t) {
    return *at < wanted.size() ? wanted[(*at)++] : kEnd;
  };
}

TEST(Tools, ARequiredCallIsOneOfThemWithValidArguments) {
  TestServer server;
  const Reply reply = server.chat({{"tools", kTools},
                                   {"tool_choice", "required"},
                                   {"parallel_tool_calls", false},
                                   {"max_tokens", 300}});
  ASSERT_EQ(reply.status, 200) << reply.body;
  const Json choice = reply.json().at("choices")[0];
  EXPECT_EQ(choice.at("finish_reason"), "tool_calls");
  EXPECT_TRUE(choice.at("message").at("content").is_null());
  const Json& calls = choice.at("message").at("tool_calls");
  ASSERT_EQ(calls.size(), 1U) << choice;
  EXPECT_EQ(calls[0].at("type"), "function");
  EXPECT_TRUE(calls[0].at("id").get<std::string>().starts_with("call_"));
  const std::string arguments = calls[0].at("function").at("arguments");
  EXPECT_TRUE(Json::parse(arguments).is_object());
  if (calls[0].at("function").at("name") == "look") {
    EXPECT_EQ(Json::parse(arguments).size(), 1U);
  } else {
    EXPECT_EQ(calls[0].at("function").at("name"), "wait");
  }
}

TEST(Tools, ANamedChoiceIsThatFunction) {
  TestServer server;
  const Json named{{"type", "function"}, {"function", {{"name", "look"}}}};
  const Reply reply = server.chat({{"tools", kTools}, {"tool_choice", named}, {"max_tokens", 300}});
  const Json calls = reply.json().at("choices")[0].at("message").at("tool_calls");
  ASSERT_EQ(calls.size(), 1U) << reply.body;
  EXPECT_EQ(calls[0].at("function").at("name"), "look");
  const Json arguments = Json::parse(calls[0].at("function").at("arguments").get<std::string>());
  EXPECT_TRUE(arguments.at("at") == "sky" || arguments.at("at") == "sea");
}

TEST(Tools, AModelThatCallsByItselfIsHeldToTheFormFromThereOn) {
  // It wants to call a tool that is not there, with arguments that are not valid.
  const std::string wanted =
      "I look.\n<tool_call>\n{\"name\": \"look\", \"arguments\": {\"at\": \"sun\"}}\n";
  TestServer server({}, {}, {}, writer(wanted));
  const Reply reply = server.chat({{"tools", kTools}, {"max_tokens", 300}});
  const Json choice = reply.json().at("choices")[0];
  EXPECT_EQ(choice.at("message").at("content"), "I look.") << reply.body;
  const Json& calls = choice.at("message").at("tool_calls");
  ASSERT_EQ(calls.size(), 1U) << reply.body;
  const Json arguments = Json::parse(calls[0].at("function").at("arguments").get<std::string>());
  EXPECT_TRUE(arguments.at("at") == "sky" || arguments.at("at") == "sea") << arguments;
  EXPECT_EQ(choice.at("finish_reason"), "tool_calls");
}

TEST(Tools, AnAnswerThatCallsNothingIsHeldToTheResponseFormat) {
  const Json format =
      Json::parse(R"({"type": "json_schema", "json_schema": {"name": "n", "schema": {
      "type": "object", "properties": {"n": {"enum": ["yes", "no"]}}, "required": ["n"],
      "additionalProperties": false}}})");
  const Json asked{{"tools", kTools}, {"response_format", format}, {"max_tokens", 300}};
  TestServer words({}, {}, {}, writer("{\"n\": \"maybe\"}"));
  const Json message = words.chat(asked).json().at("choices")[0].at("message");
  EXPECT_FALSE(message.contains("tool_calls"));
  const Json content = Json::parse(message.at("content").get<std::string>());
  EXPECT_TRUE(content == Json({{"n", "yes"}}) || content == Json({{"n", "no"}})) << content;

  TestServer caller({}, {}, {}, writer("<tool_call>\n{\"name\": \"wait\", \"arguments\": {}}\n"));
  const Json choice = caller.chat(asked).json().at("choices")[0];
  EXPECT_EQ(choice.at("finish_reason"), "tool_calls");
  EXPECT_EQ(choice.at("message").at("tool_calls")[0].at("function").at("name"), "wait");
  Json must = asked;
  must["tool_choice"] = "required";
  EXPECT_EQ(words.chat(must).json().at("choices")[0].at("finish_reason"), "tool_calls");
}

TEST(Tools, AnAnswerInWordsIsOne) {
  TestServer server({}, {}, {}, writer("no need"));
  const Json choice = server.chat({{"tools", kTools}}).json().at("choices")[0];
  EXPECT_EQ(choice.at("message").at("content"), "no need");
  EXPECT_FALSE(choice.at("message").contains("tool_calls"));
  EXPECT_EQ(choice.at("finish_reason"), "stop");
}

TEST(Tools, StreamedCallsAreWhatWholeOnesAre) {
  const std::string wanted =
      "hm <tool_call>\n{\"name\": \"look\", \"arguments\": {\"at\":\"sea\"}}\n</tool_call>\n"
      "<tool_call>\n{\"name\": \"wait\", \"arguments\": {\"s\": [1, 2]}}\n</tool_call>";
  TestServer server({}, {}, {}, writer(wanted));
  const auto events =
      server.chat({{"tools", kTools}, {"stream", true}, {"max_tokens", 400}}).events();
  ASSERT_GT(events.size(), 4U);
  std::string content;
  std::string reason;
  std::vector<std::pair<std::string, std::string>> calls;
  for (std::size_t i = 0; i + 1 < events.size(); ++i) {
    const Json choice = Json::parse(events[i]).at("choices")[0];
    const Json& delta = choice.at("delta");
    if (delta.contains("content")) content += delta.at("content").get<std::string>();
    if (delta.contains("tool_calls")) {
      const Json& call = delta.at("tool_calls")[0];
      if (call.contains("id")) {
        EXPECT_EQ(call.at("index"), calls.size());
        calls.emplace_back(call.at("function").at("name"), "");
      }
      calls.at(call.at("index")).second += call.at("function").at("arguments");
    }
    if (!choice.at("finish_reason").is_null()) reason = choice.at("finish_reason");
  }
  EXPECT_EQ(content, "hm");
  EXPECT_EQ(reason, "tool_calls");
  ASSERT_EQ(calls.size(), 2U);
  EXPECT_EQ(calls[0], (std::pair<std::string, std::string>{"look", R"({"at":"sea"})"}));
  EXPECT_EQ(calls[1], (std::pair<std::string, std::string>{"wait", R"({"s": [1, 2]})"}));
}

TEST(Tools, ChoiceNoneTellsTheModelOfNoTool) {
  TestServer server;
  const Json messages = Json::array({{{"role", "user"}, {"content", "u"}}});
  Json body{{"messages", messages}, {"tools", kTools}, {"tool_choice", "none"}};
  EXPECT_EQ(server.ask(post("/apply-template", body.dump())).json().at("prompt"), "u");
  body["tool_choice"] = "auto";
  EXPECT_THAT(server.ask(post("/apply-template", body.dump())).body, HasSubstr("look"));
}

TEST(Tools, EarlierCallsAndResultsReachTheTemplate) {
  TestServer server;
  const Json body = Json::parse(R"({"messages": [
    {"role": "user", "content": "u"},
    {"role": "assistant", "content": null, "tool_calls": [{"id": "1", "type": "function",
      "function": {"name": "look", "arguments": "{\"at\":\"sky\"}"}}]},
    {"role": "tool", "tool_call_id": "1", "content": "blue"}]})");
  EXPECT_EQ(server.ask(post("/apply-template", body.dump())).json().at("prompt"),
            "u<tool_call>\n{\"name\": \"look\", \"arguments\": {\"at\":\"sky\"}}\n</tool_call>"
            "<tool_response>\nblue\n</tool_response>");
}

TEST(Tools, BadOnesAreRefusedByField) {
  TestServer server;
  const auto refused = [&](const Json& more, const char* word) {
    const Reply reply = server.chat(more);
    EXPECT_TRUE(reply.status == 400 || reply.status == 422) << reply.body;
    EXPECT_THAT(reply.body, HasSubstr(word));
  };
  const auto tool = [](Json function) {
    return Json::array({{{"type", "function"}, {"function", std::move(function)}}});
  };
  refused({{"tools", tool({{"name", "bad name"}})}}, "tools[0].function.name");
  refused({{"tools", tool({{"name", std::string(65, 'a')}})}}, "tools[0].function.name");
  refused({{"tools", Json::array({{{"type", "web_search"}}})}}, "web_search");
  refused({{"tools", Json::array({7})}}, "tools[0]");
  refused({{"tools", tool({{"name", "f"}, {"parameters", 3}})}}, "parameters");
  refused({{"tools", tool({{"name", "f"}, {"parameters", {{"type", "text"}}}})}}, "function 'f'");
  refused({{"tools",
            tool({{"name", "f"}, {"strict", true}, {"parameters", {{"not", Json::object()}}}})}},
          "keyword not");
  refused({{"tools", kTools}, {"tool_choice", "always"}}, "tool_choice");
  refused(
      {{"tools", kTools}, {"tool_choice", {{"type", "function"}, {"function", {{"name", "run"}}}}}},
      "'run'");
  refused({{"tool_choice", "required"}}, "tool_choice");
  refused({{"tools", tool({{"name", "f"}, {"description", "<|end|>"}})}}, "control token");
  Json twice = kTools;
  twice.push_back(kTools[0]);
  refused({{"tools", twice}}, "two tools");
  refused({{"messages", Json::parse(R"([{"role": "assistant", "content": "", "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{"}}]}])")}},
          "no JSON");
}

TEST(Tools, MessagesHaveThemAsBlocks) {
  const std::string wanted =
      "hm\n<tool_call>\n{\"name\": \"look\", \"arguments\": {\"at\":\"sea\"}}\n</tool_call>";
  const Json tools = Json::array({{{"name", "look"},
                                   {"description", "looks"},
                                   {"input_schema", kTools[0].at("function").at("parameters")}}});
  const Json body{{"model", "fake"},
                  {"max_tokens", 300},
                  {"messages", Json::array({{{"role", "user"}, {"content", "u"}}})},
                  {"tools", tools}};
  TestServer server({}, {}, {}, writer(wanted));
  const Json whole = server.ask(post("/v1/messages", body.dump())).json();
  EXPECT_EQ(whole.at("stop_reason"), "tool_use") << whole;
  ASSERT_EQ(whole.at("content").size(), 2U) << whole;
  EXPECT_EQ(whole.at("content")[0].at("text"), "hm");
  EXPECT_EQ(whole.at("content")[1].at("type"), "tool_use");
  EXPECT_EQ(whole.at("content")[1].at("name"), "look");
  EXPECT_EQ(whole.at("content")[1].at("input"), (Json{{"at", "sea"}}));

  TestServer other({}, {}, {}, writer(wanted));
  Json streamed = body;
  streamed["stream"] = true;
  std::string json;
  std::vector<std::string> types;
  for (const std::string& event : other.ask(post("/v1/messages", streamed.dump())).events()) {
    const Json data = Json::parse(event);
    const std::string type = data.at("type");
    if (type == "content_block_start") types.push_back(data.at("content_block").at("type"));
    if (type == "content_block_delta" && data.at("delta").contains("partial_json")) {
      EXPECT_EQ(data.at("index"), 1);
      json += data.at("delta").at("partial_json");
    }
    if (type == "message_delta") {
      EXPECT_EQ(data.at("delta").at("stop_reason"), "tool_use");
    }
  }
  EXPECT_EQ(types, (std::vector<std::string>{"text", "tool_use"}));
  EXPECT_EQ(json, R"({"at":"sea"})");

  TestServer forced;
  Json any = body;
  any["tool_choice"] = {{"type", "any"}, {"disable_parallel_tool_use", true}};
  const Json answer = forced.ask(post("/v1/messages", any.dump())).json();
  ASSERT_EQ(answer.at("content").size(), 1U) << answer;
  EXPECT_EQ(answer.at("content")[0].at("type"), "tool_use");
}

TEST(Tools, MessagesTakeResultsBack) {
  TestServer server({}, {}, {}, writer("fine"));
  const Json body = Json::parse(R"({"model": "fake", "max_tokens": 50, "messages": [
    {"role": "user", "content": "u"},
    {"role": "assistant", "content": [{"type": "text", "text": "hm"},
      {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": "sky"}}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1",
      "content": [{"type": "text", "text": "blue"}]}]}]})");
  const Reply reply = server.ask(post("/v1/messages", body.dump()));
  ASSERT_EQ(reply.status, 200) << reply.body;
  EXPECT_EQ(reply.json().at("content")[0].at("text"), "fine");
  // u, the call, and the result, a character a token.
  EXPECT_GT(reply.json().at("usage").at("input_tokens").get<int>(), 80);
}

}  // namespace
}  // namespace fathom
