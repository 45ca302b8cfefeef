// A server with a filter, as the clients of its APIs meet it.
#include <gmock/gmock.h>

#include "server/scripted.h"

namespace fathom {
namespace {

using namespace test;  // NOLINT
using ::testing::HasSubstr;
using ::testing::Not;

std::string rule(const std::string& pattern, const std::string& more = {}) {
  return R"({"rules": [{"name": "r", "reason": "not here", "pattern": ")" + pattern + "\"" + more +
         "}]}";
}
const char* const kInput = R"(, "applies_to": ["input"])";
const char* const kOutput = R"(, "applies_to": ["output"])";

class Filtered {
 public:
  Filtered(const std::string& text, const std::string& filter,
           std::chrono::milliseconds token_time = {})
      : server_({}, {}, token_time, says(text), {}, filter) {}
  TestServer& server() { return server_; }

  Reply chat(const Json& more = Json::object()) { return server_.chat(more); }
  Reply ask(const std::string& path, Json body, const Json& more = Json::object()) {
    body.update(more);
    return server_.ask(post(path, body.dump()));
  }
  Reply text(const Json& more = Json::object()) {
    return ask("/v1/completions", {{"prompt", "u"}}, more);
  }
  Reply messages(const Json& more = Json::object()) {
    return ask("/v1/messages",
               {{"model", "fake"},
                {"max_tokens", 500},
                {"messages", Json::array({{{"role", "user"}, {"content", "u"}}})}},
               more);
  }
  Reply responses(const Json& more = Json::object()) {
    return ask("/v1/responses", {{"model", "fake"}, {"input", "u"}}, more);
  }

 private:
  TestServer server_;
};

Json told(const char* in) { return {{"rule", "r"}, {"reason", "not here"}, {"in", in}}; }

// ---- output: chat -------------------------------------------------------------------------------

TEST(Filtered, AnAnswerEndsBeforeTheMatchAndSaysSo) {
  Filtered on("tell 12-34 now", rule("[0-9]{2}-[0-9]{2}"));
  const Json choice = on.chat().json().at("choices")[0];
  EXPECT_EQ(choice.at("message").at("content"), "tell ");
  EXPECT_EQ(choice.at("finish_reason"), "content_filter");
  EXPECT_EQ(choice.at("filtered"), told("content"));
  const Streamed streamed = joined(on.chat({{"stream", true}}));
  EXPECT_EQ(streamed.content, "tell ");
  EXPECT_EQ(streamed.reason, "content_filter");
  EXPECT_EQ(streamed.filtered, told("content"));
  EXPECT_THAT(on.server().ask(get("/metrics")).body,
              HasSubstr("fathom_filtered_total{rule=\"r\",where=\"output\"} 2\n"));
}

TEST(Filtered, AnAnswerThatDoesNotMatchIsWhatItWas) {
  Filtered on("tell 12-3 now", rule("[0-9]{2}-[0-9]{2}"));
  const Json choice = on.chat().json().at("choices")[0];
  EXPECT_EQ(choice.at("message").at("content"), "tell 12-3 now");
  EXPECT_EQ(choice.at("finish_reason"), "stop");
  EXPECT_FALSE(choice.contains("filtered"));
  EXPECT_EQ(joined(on.chat({{"stream", true}})).content, "tell 12-3 now");
  EXPECT_EQ(joined(on.chat({{"stream", true}, {"max_tokens", 7}})).content, "tell 12")
      << "what was held back is given at the end";
  EXPECT_THAT(on.server().ask(get("/metrics")).body, Not(HasSubstr("fathom_filtered_total")));
}

TEST(Filtered, AStreamIsHeldBackJustLongEnough) {
  Filtered on("vwxyvwzy", rule("vw[a-z]q"));
  EXPECT_EQ(joined(on.chat({{"stream", true}})).deltas, (std::vector<std::string>{"vwxy", "vwzy"}));
  Filtered off("vwxy", rule("vw[a-z]q", kInput));
  EXPECT_EQ(joined(off.chat({{"stream", true}})).deltas,
            (std::vector<std::string>{"v", "w", "x", "y"}))
      << "rules for input hold nothing back";
}

TEST(Filtered, AMatchThatOnlyTheEndCompletesIsOne) {
  Filtered on("so bad", rule("\\\\bbad\\\\b"));
  for (const bool stream : {false, true}) {
    const Reply reply = on.chat({{"stream", stream}});
    if (stream) {
      EXPECT_EQ(joined(reply).content, "so ");
      EXPECT_EQ(joined(reply).filtered, told("content"));
      continue;
    }
    const Json choice = reply.json().at("choices")[0];
    EXPECT_EQ(choice.at("message").at("content"), "so ");
    EXPECT_EQ(choice.at("finish_reason"), "content_filter");
  }
}

TEST(Filtered, TheEngineStopsAndWhatItComputedIsCounted) {
  Filtered on("ab" + std::string(600, 'c'), rule("b"), std::chrono::milliseconds(2));
  const Json json = on.chat().json();
  EXPECT_EQ(json.at("choices")[0].at("message").at("content"), "a");
  const int written = json.at("usage").at("completion_tokens");
  EXPECT_GE(written, 2);
  EXPECT_LT(written, 300) << "it went on";
  EXPECT_THAT(on.server().ask(get("/metrics")).body,
              HasSubstr("fathom_answers_total{reason=\"content_filter\"} 1\n"));
}

TEST(Filtered, ThoughtsAreSearchedToo) {
  Filtered on("plan bad</think>fine", rule("bad"));
  const Json thinks{{"thinking", {{"type", "enabled"}}}};
  const Json choice = on.chat(thinks).json().at("choices")[0];
  EXPECT_EQ(choice.at("message").at("reasoning_content"), "plan ");
  EXPECT_EQ(choice.at("message").at("content"), "");
  EXPECT_EQ(choice.at("filtered"), told("reasoning_content"));
  Json streams = thinks;
  streams["stream"] = true;
  const Streamed streamed = joined(on.chat(streams));
  EXPECT_EQ(streamed.reasoning, "plan ");
  EXPECT_EQ(streamed.content, "");
  EXPECT_EQ(streamed.filtered, told("reasoning_content"));
}

TEST(Filtered, AThoughtAndItsAnswerAreTwoTexts) {
  Filtered on("so ba</think>d x", rule("bad|^x"));
  for (const bool stream : {false, true}) {
    const Reply reply = on.chat({{"thinking", {{"type", "enabled"}}}, {"stream", stream}});
    if (stream) {
      EXPECT_EQ(joined(reply).reasoning, "so ba") << "held back until the thought's end";
      EXPECT_EQ(joined(reply).content, "d x");
    } else {
      const Json message = reply.json().at("choices")[0].at("message");
      EXPECT_EQ(message.at("reasoning_content"), "so ba");
      EXPECT_EQ(message.at("content"), "d x");
    }
  }
}

const char* const kCall =
    "see\n<tool_call>\n{\"name\": \"look\", \"arguments\": {\"at\": \"the bad "
    "sea\"}}\n</tool_call>";
const Json kTools = Json::parse(R"([{"type": "function", "function": {"name": "look"}}])");

TEST(Filtered, ArgumentsOfCallsAreSearchedToo) {
  Filtered on(kCall, rule("bad", kOutput));
  const Json choice = on.chat({{"tools", kTools}}).json().at("choices")[0];
  EXPECT_EQ(choice.at("message").at("content"), "see");
  EXPECT_EQ(choice.at("finish_reason"), "content_filter");
  EXPECT_EQ(choice.at("filtered"), told("tool_calls"));
  const Json& calls = choice.at("message").at("tool_calls");
  ASSERT_EQ(calls.size(), 1U);
  EXPECT_EQ(calls[0].at("function").at("arguments"), "{\"at\": \"the ");
  const Streamed streamed = joined(on.chat({{"tools", kTools}, {"stream", true}}));
  EXPECT_EQ(streamed.content, "see");
  EXPECT_EQ(streamed.arguments, "{\"at\": \"the ");
  EXPECT_EQ(streamed.filtered, told("tool_calls"));
}

TEST(Filtered, TheFormThatCallsAreWrittenInIsNoText) {
  Filtered on(kCall, rule("<[a-z_]+>|name|e\\n", kOutput));
  for (const bool stream : {false, true}) {
    const Reply reply = on.chat({{"tools", kTools}, {"stream", stream}});
    if (stream) {
      EXPECT_EQ(joined(reply).reason, "tool_calls");
      EXPECT_EQ(joined(reply).arguments, "{\"at\": \"the bad sea\"}");
    } else {
      EXPECT_EQ(reply.json().at("choices")[0].at("finish_reason"), "tool_calls") << reply.body;
    }
  }
}

TEST(Filtered, EachChoiceHasItsOwnEnd) {
  // From u, of two requests one goes on to v and ends, the other to w.
  const auto turn = std::make_shared<int>(0);
  TestServer server(
      {}, {}, {},
      [turn](TokenId last, std::size_t) {
        if (last == ids("u")[0]) return ids((*turn)++ % 2 == 0 ? "v" : "w")[0];
        return kEnd;
      },
      {}, rule("w"));
  const Json choices = server.chat({{"n", 2}}).json().at("choices");
  int filtered = 0;
  for (const Json& choice : choices) {
    if (choice.at("finish_reason") == "content_filter") ++filtered;
    EXPECT_EQ(choice.contains("filtered"), choice.at("message").at("content") == "");
  }
  EXPECT_EQ(filtered, 1);
  const Json voted = server.chat({{"self_consistency", 4}}).json().at("choices")[0];
  EXPECT_EQ(voted.at("message").at("content"), "v") << "what was ended does not vote";
}

TEST(Filtered, LogProbabilitiesWouldTellWhatIsHeldBack) {
  Filtered on("abc", rule("b"));
  const Reply refused = on.chat({{"logprobs", true}});
  EXPECT_EQ(refused.status, 400);
  EXPECT_EQ(refused.json().at("error").at("param"), "logprobs");
  EXPECT_EQ(on.text({{"logprobs", 1}}).status, 400);
  Filtered input("abc", rule("z", kInput));
  EXPECT_EQ(input.chat({{"logprobs", true}}).status, 200);
}

// ---- output: the other APIs ---------------------------------------------------------------------

TEST(Filtered, TextCompletionsEndToo) {
  Filtered on("tell 12 now", rule("[0-9]+"));
  const Json choice = on.text().json().at("choices")[0];
  EXPECT_EQ(choice.at("text"), "tell ");
  EXPECT_EQ(choice.at("finish_reason"), "content_filter");
  EXPECT_EQ(choice.at("filtered"), told("text"));
  std::string text;
  Json last;
  for (const std::string& event : on.text({{"stream", true}, {"echo", true}}).events()) {
    if (event == "[DONE]") continue;
    last = Json::parse(event).at("choices")[0];
    text += last.at("text");
  }
  EXPECT_EQ(text, "utell ");
  EXPECT_EQ(last.at("finish_reason"), "content_filter");
  EXPECT_EQ(last.at("filtered"), told("text"));
}

TEST(Filtered, MessagesEndWithARefusal) {
  Filtered on("tell 12 now", rule("[0-9]+"));
  const Json details{{"type", "refusal"},
                     {"category", nullptr},
                     {"explanation", "not here"},
                     {"rule", "r"},
                     {"in", "text"}};
  const Json json = on.messages().json();
  EXPECT_EQ(json.at("content"), (Json::array({{{"type", "text"}, {"text", "tell "}}})));
  EXPECT_EQ(json.at("stop_reason"), "refusal");
  EXPECT_EQ(json.at("stop_details"), details);
  std::string text;
  Json delta;
  for (const Json& event : events_of(on.messages({{"stream", true}}))) {
    if (event.at("type") == "content_block_delta") text += event.at("delta").at("text");
    if (event.at("type") == "message_delta") delta = event.at("delta");
  }
  EXPECT_EQ(text, "tell ");
  EXPECT_EQ(delta.at("stop_reason"), "refusal");
  EXPECT_EQ(delta.at("stop_details"), details);
}

TEST(Filtered, MessagesThinkAndCallUnderTheSameRules) {
  Filtered thinks("plan bad</think>fine", rule("bad"));
  const Json thinking{{"thinking", {{"type", "enabled"}, {"budget_tokens", 1024}}}};
  const Json thought = thinks.messages(thinking).json();
  EXPECT_EQ(thought.at("content")[0].at("thinking"), "plan ");
  EXPECT_EQ(thought.at("stop_details").at("in"), "thinking");
  Filtered calls(kCall, rule("bad", kOutput));
  const Json tools{{"tools", Json::array({{{"name", "look"}, {"input_schema", Json::object()}}})}};
  const Json called = calls.messages(tools).json();
  EXPECT_EQ(called.at("content"), (Json::array({{{"type", "text"}, {"text", "see"}}})))
      << "half of a call's arguments is none";
  EXPECT_EQ(called.at("stop_reason"), "refusal");
  EXPECT_EQ(called.at("stop_details").at("in"), "tool_use");
  Json streams = tools;
  streams["stream"] = true;
  std::string arguments;
  std::string last;
  for (const Json& event : events_of(calls.messages(streams))) {
    last = event.at("type");
    if (last == "content_block_delta") arguments += event.at("delta").value("partial_json", "");
  }
  EXPECT_EQ(arguments, "{\"at\": \"the ");
  EXPECT_EQ(last, "message_stop");
}

TEST(Filtered, ResponsesAreIncomplete) {
  Filtered on("tell 12 now", rule("[0-9]+"));
  const Json details{{"reason", "content_filter"},
                     {"rule", "r"},
                     {"rule_reason", "not here"},
                     {"in", "output_text"}};
  const Json json = on.responses().json();
  EXPECT_EQ(json.at("status"), "incomplete");
  EXPECT_EQ(json.at("incomplete_details"), details);
  EXPECT_EQ(json.at("output")[0].at("content")[0].at("text"), "tell ");
  EXPECT_EQ(json.at("output")[0].at("status"), "incomplete");
  const auto events = events_of(on.responses({{"stream", true}}));
  std::string text;
  for (const Json& event : events) {
    if (event.at("type") == "response.output_text.delta") text += event.at("delta");
  }
  EXPECT_EQ(text, "tell ");
  EXPECT_EQ(events.back().at("type"), "response.incomplete");
  EXPECT_EQ(events.back().at("response").at("incomplete_details"), details);

  Filtered calls(kCall, rule("bad", kOutput));
  const Json tools{{"tools", Json::array({{{"type", "function"}, {"name", "look"}}})}};
  const Json called = calls.responses(tools).json();
  EXPECT_EQ(called.at("incomplete_details").at("in"), "function_call");
  EXPECT_EQ(called.at("output")[1].at("arguments"), "{\"at\": \"the ");
}

// ---- input --------------------------------------------------------------------------------------

/// The request is refused for what it holds at `param`.
void refuses(Filtered& on, const Reply& reply, const std::string& param) {
  EXPECT_EQ(reply.status, 400) << reply.body;
  const Json error = reply.json().at("error");
  EXPECT_EQ(error.at("type"), "invalid_request_error");
  const std::string message = error.at("message");
  EXPECT_THAT(message, HasSubstr(param + " "));
  EXPECT_THAT(message, HasSubstr("rule 'r': not here"));
  EXPECT_THAT(message, Not(HasSubstr("bad"))) << "what matched is not repeated";
  EXPECT_EQ(on.server().stats().active + on.server().stats().waiting, 0U);
  if (error.contains("param")) {
    EXPECT_EQ(error.at("param"), param);
    EXPECT_EQ(error.at("code"), "content_filter");
  }
}

Json message(const char* role, const Json& content) {
  return {{"role", role}, {"content", content}};
}

TEST(FilteredInput, ChatsAreSearchedWhereverTheClientWrites) {
  Filtered on("fine", rule("bad", kInput));
  EXPECT_EQ(on.chat().status, 200);
  const auto asked = [&](const Json& messages) { return on.chat({{"messages", messages}}); };
  refuses(on, asked({message("system", "A"), message("user", "b"), message("user", "a bad one")}),
          "messages[2].content");
  refuses(on, asked({message("system", "bad"), message("user", "b")}), "messages[0].content");
  const Json parts =
      Json::array({{{"type", "text"}, {"text", "so ba"}}, {{"type", "text"}, {"text", "d"}}});
  refuses(on, asked(Json::array({message("user", parts)})), "messages[0].content");
  const Json call = Json::parse(R"({"id": "1", "type": "function",
      "function": {"name": "look", "arguments": "{\"at\": [\"b\\u0061d\"]}"}})");
  Json calls = message("assistant", "");
  calls["tool_calls"] = Json::array({call});
  refuses(on, asked({message("user", "u"), calls, message("user", "u")}),
          "messages[1].tool_calls[0].function.arguments");
  for (const char* written : {R"({"bad": 1})", R"({"type": {"role": "bad"}})"}) {
    calls["tool_calls"][0]["function"]["arguments"] = written;
    refuses(on, asked({message("user", "u"), calls, message("user", "u")}),
            "messages[1].tool_calls[0].function.arguments");
  }
  refuses(on, asked({message("user", "u"), message("tool", "bad")}), "messages[1].content");
  Json tools = kTools;
  tools[0]["function"]["description"] = "does bad";
  refuses(on, on.chat({{"tools", tools}}), "tools[0].function.description");
  tools[0]["function"] = Json::parse(R"({"name": "look", "parameters": {"type": "object",
      "properties": {"type": {"type": "string", "enum": ["bad"]}}}})");
  refuses(on, on.chat({{"tools", tools}}), "tools[0].function.parameters.properties.type.enum[0]");
  EXPECT_THAT(on.server().ask(get("/metrics")).body,
              HasSubstr("fathom_filtered_total{rule=\"r\",where=\"input\"} 9\n"));
  Filtered digits("fine", rule("[0-9]{16}", kInput));
  calls["tool_calls"][0]["function"]["arguments"] = R"({"card": 4111111111111111})";
  EXPECT_EQ(digits.chat({{"messages", {message("user", "u"), calls, message("user", "u")}}}).status,
            400)
      << "a number is text to the model";
}

TEST(FilteredInput, WhatIsNoTextOfTheClientsIsNotSearched) {
  Filtered on("fine bad", rule("user|content|function|bad", kInput));
  Json thought = message("assistant", "x");
  thought["reasoning_content"] = "bad";
  const Json reply = on.chat({{"messages", {message("user", "u"), thought, message("user", "u")}},
                              {"tools", kTools}})
                         .json();
  EXPECT_EQ(reply.at("choices")[0].at("message").at("content"), "fine bad")
      << "thoughts that come back are dropped, and rules for input are not for output: " << reply;
}

TEST(FilteredInput, TextCompletionsAreSearched) {
  Filtered on("fine", rule("bad", kInput));
  EXPECT_EQ(on.text().status, 200);
  refuses(on, on.text({{"prompt", "a bad one"}}), "prompt");
  refuses(on, on.text({{"prompt", {"good", "bad"}}}), "prompt[1]");
  refuses(on, on.text({{"suffix", "bad"}}), "suffix");
  Json list = Json::array();
  for (const TokenId id : ids("bad")) list.push_back(value(id));
  refuses(on, on.text({{"prompt", list}}), "prompt");
  refuses(on, on.text({{"prompt", Json::array({Json::array({5}), list})}}), "prompt[1]");
}

TEST(FilteredInput, MessagesAreSearched) {
  Filtered on("fine", rule("bad", kInput));
  EXPECT_EQ(on.messages().status, 200);
  const auto asked = [&](const Json& messages) { return on.messages({{"messages", messages}}); };
  EXPECT_EQ(asked(Json::array({message("user", "bad")})).json().at("type"), "error");
  refuses(on, on.messages({{"system", "bad"}}), "system");
  refuses(on, asked({message("user", "u"), message("assistant", "x"), message("user", "bad")}),
          "messages[2].content");
  const Json result = Json::parse(R"([{"type": "tool_result", "tool_use_id": "1",
      "content": [{"type": "text", "text": "ba"}, {"type": "text", "text": "d"}]}])");
  refuses(on, asked(Json::array({message("user", result)})), "messages[0].content[0].content");
  const Json use =
      Json::parse(R"([{"type": "tool_use", "id": "1", "name": "look", "input": {"at": "bad"}}])");
  refuses(on, asked({message("user", "u"), message("assistant", use), message("user", "u")}),
          "messages[1].content[0].input.at");
}

TEST(FilteredInput, ResponsesAreSearched) {
  Filtered on("fine", rule("bad", kInput));
  EXPECT_EQ(on.responses().status, 200);
  refuses(on, on.responses({{"input", "bad"}}), "input");
  refuses(on, on.responses({{"instructions", "bad"}}), "instructions");
  const Json items = Json::parse(R"([{"role": "user", "content": "u"},
      {"type": "function_call", "call_id": "1", "name": "look", "arguments": "{}"},
      {"type": "function_call_output", "call_id": "1", "output": "a bad one"}])");
  refuses(on, on.responses({{"input", items}}), "input[2].output");
}

}  // namespace
}  // namespace fathom
