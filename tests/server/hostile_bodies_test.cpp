// Values, texts and shapes that no client of good will sends: each gets one clear error, the same
// connection's next request is answered, and nothing is fetched, run or opened.
#include <gmock/gmock.h>

#include "server/process.h"
#include "server/test_server.h"

namespace fathom {
namespace {

using namespace test;  // NOLINT
using ::testing::HasSubstr;
using ::testing::Not;

struct Route {
  const char* path;
  const char* body;  // that is answered with 200
};
constexpr Route kChat{"/v1/chat/completions",
                      R"({"messages": [{"role": "user", "content": "u"}]})"};
constexpr Route kText{"/v1/completions", R"({"prompt": "u"})"};
constexpr Route kMessages{"/v1/messages",
                          R"({"max_tokens": 5, "messages": [{"role": "user", "content": "u"}]})"};
constexpr Route kResponses{"/v1/responses", R"({"input": "u"})"};
constexpr Route kTokenize{"/tokenize", R"({"content": "u"})"};
constexpr Route kDetokenize{"/detokenize", R"({"tokens": [3]})"};
constexpr Route kTemplate{"/apply-template", R"({"messages": [{"role": "user", "content": "u"}]})"};
constexpr Route kRoutes[] = {kChat,     kText,       kMessages, kResponses,
                             kTokenize, kDetokenize, kTemplate};

/// One connection for many requests: that it lives is part of each test.
class Talk {
 public:
  explicit Talk(const TestServer& server) : client_(server.port()) {}
  Reply say(const std::string& path, const std::string& body) {
    client_.send(post(path, body));
    return client_.reply();
  }

 private:
  Client client_;
};

/// `body` with the member at `pointer` replaced by `value`, which need not be JSON.
std::string with(const Route& route, const std::string& pointer, const std::string& value) {
  Json body = Json::parse(route.body);
  body[Json::json_pointer(pointer)] = "@";
  std::string text = body.dump();
  return text.replace(text.find("\"@\""), 3, value);
}

// --- numbers ---------------------------------------------------------------------------------

struct NumberField {
  Route route;
  const char* pointer;
};

class Numbers : public ::testing::TestWithParam<NumberField> {};

TEST_P(Numbers, ThatAreNoneOrTooLargeOrNegativeAreRefused) {
  static TestServer server;
  const auto& [route, pointer] = GetParam();
  Talk talk(server);
  const std::string path(pointer);
  const std::string name = path.substr(path.rfind('/') + 1);
  // No JSON has these, whatever JavaScript and Python print.
  for (const char* value : {"NaN", "Infinity", "-Infinity", "1e999", "-1e999", "0x10", "01", "+1",
                            "1.", ".5", "1e", "--1"}) {
    const Reply reply = talk.say(route.path, with(route, pointer, value));
    EXPECT_EQ(reply.status, 400) << value << reply.body;
    EXPECT_THAT(reply.body, HasSubstr("JSON")) << value;
  }
  for (const char* value : {"1e308", "-1e308", "99999999999999999999", "-99999999999999999999",
                            "\"7\"", "true", "[]", "{}", "[1]"}) {
    const Reply reply = talk.say(route.path, with(route, pointer, value));
    EXPECT_TRUE(reply.status == 400 || reply.status == 422) << value << reply.body;
    const bool named = name != "0" && name != "5";  // members of a list or a map
    if (named) {
      EXPECT_THAT(reply.body, HasSubstr(name)) << value;
    }
  }
  // Some fields take some of these: none may break anything.
  for (const char* value :
       {"-1", "0", "-0.0", "0.5", "1e-320", "2147483648", "4294967296", "9007199254740993",
        "9223372036854775807", "-9223372036854775808", "18446744073709551615", "1e19"}) {
    const Reply reply = talk.say(route.path, with(route, pointer, value));
    EXPECT_TRUE(reply.status == 200 || reply.status == 400 || reply.status == 422)
        << value << reply.body;
  }
  EXPECT_EQ(talk.say(route.path, route.body).status, 200);
}

#define AT(route, pointer) \
  NumberField { route, pointer }
INSTANTIATE_TEST_SUITE_P(
    All, Numbers,
    ::testing::Values(
        AT(kChat, "/temperature"), AT(kChat, "/top_p"), AT(kChat, "/top_k"), AT(kChat, "/min_p"),
        AT(kChat, "/repetition_penalty"), AT(kChat, "/frequency_penalty"),
        AT(kChat, "/presence_penalty"), AT(kChat, "/seed"), AT(kChat, "/n"),
        AT(kChat, "/max_tokens"), AT(kChat, "/max_completion_tokens"),
        AT(kChat, "/max_thinking_tokens"), AT(kChat, "/top_logprobs"),
        AT(kChat, "/self_consistency"), AT(kChat, "/logit_bias/5"), AT(kText, "/temperature"),
        AT(kText, "/logprobs"), AT(kText, "/best_of"), AT(kText, "/n"), AT(kText, "/max_tokens"),
        AT(kText, "/seed"), AT(kMessages, "/max_tokens"), AT(kMessages, "/temperature"),
        AT(kMessages, "/top_p"), AT(kMessages, "/top_k"), AT(kResponses, "/max_output_tokens"),
        AT(kResponses, "/temperature"), AT(kResponses, "/top_p"), AT(kDetokenize, "/tokens/0")));
#undef AT

TEST(Numbers, ThatAreTokensIdsStayWithinTheVocabulary) {
  TestServer server;
  Talk talk(server);
  for (const char* id : {"-1", "86", "92", "1.5", "2147483648", "4294967299", "1e2",
                         "18446744073709551615", "-9223372036854775808", "null", "\"3\""}) {
    const std::string list = std::string("[3, ") + id + "]";
    for (const Route& route :
         {Route{"/v1/completions", "prompt"}, Route{"/detokenize", "tokens"}}) {
      const Reply reply =
          talk.say(route.path, std::string("{\"") + route.body + "\": " + list + "}");
      // The model's own rows go to 91; the tokenizer's pieces end at 85.
      const bool padding = std::string_view(id) == "86" && route.body == std::string_view("prompt");
      if (!padding) {
        EXPECT_TRUE(reply.status == 400 || reply.status == 422) << id << route.path << reply.body;
      }
    }
  }
}

TEST(Numbers, TheWholeRangeOfASeedIsTaken) {
  TestServer server;
  for (const char* seed : {"9223372036854775807", "-9223372036854775808", "0", "-1", "16.0"}) {
    EXPECT_EQ(server.ask(post(kChat.path, with(kChat, "/seed", seed))).status, 200) << seed;
  }
  EXPECT_EQ(server.ask(post(kChat.path, with(kChat, "/seed", "9223372036854775808"))).status, 400);
}

// --- texts -----------------------------------------------------------------------------------

TEST(Texts, ThatAreNoUnicodeAreRefusedOnEveryRoute) {
  TestServer server;
  Talk talk(server);
  for (const Route& route : kRoutes) {
    for (const char* wrong :
         {"\xFF", "\xC0\xAF", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xE2\x82", "\\ud800", "\\udc00",
          "\\ud800\\ud800", "\\uZZZZ", "\\x41", "\x01", "\n"}) {
      const Reply reply =
          talk.say(route.path, with(route, "/model", std::string("\"a") + wrong + "b\""));
      EXPECT_EQ(reply.status, 400) << route.path << wrong;
      reply.json();  // itself in UTF-8
    }
    EXPECT_EQ(talk.say(route.path, "\xEF\xBB\xBF" + std::string(route.body)).status, 200)
        << "a byte order mark is none of it";
    EXPECT_EQ(talk.say(route.path, route.body + std::string("\0 {}", 4)).status, 400);
    EXPECT_EQ(talk.say(route.path, route.body + std::string(" {}")).status, 400);
  }
}

TEST(Texts, WithNulAreTextsLikeOthers) {
  TestServer server;
  Talk talk(server);
  // The small vocabulary has no such byte; that it is not cut off there is what matters.
  EXPECT_EQ(
      talk.say("/apply-template", R"({"messages": [{"role": "user", "content": "a\u0000b"}]})")
          .json()
          .at("prompt"),
      std::string("a\0b", 3));
  EXPECT_EQ(talk.say(kChat.path, with(kChat, "/model", R"("fake\u0000")")).status, 404);
  EXPECT_EQ(talk.say(kChat.path, with(kChat, "/stop", R"("z\u0000")")).status, 200);
  const Reply reply = talk.say(kChat.path, with(kChat, "/tools", R"([{"type": "function",
      "function": {"name": "f\u0000"}}])"));
  EXPECT_EQ(reply.status, 400) << reply.body;
}

TEST(Texts, NamesOfFilesAreNoModels) {
  TestServer server;
  Talk talk(server);
  for (const char* name :
       {"../../../etc/passwd", "/etc/passwd", "..", "%2e%2e/%2e%2e/etc/passwd", "fake/../fake",
        "file:///etc/passwd", "http://127.0.0.1/", "fake ", "Fake", "", "fake\n", "~", "/dev/zero",
        "/proc/self/environ", "/proc/self/cwd/fake"}) {
    for (const Route& route : {kChat, kText, kMessages, kResponses, kTemplate}) {
      const Reply reply = talk.say(route.path, with(route, "/model", Json(name).dump()));
      EXPECT_EQ(reply.status, 404) << name << route.path;
      EXPECT_THAT(reply.body, Not(HasSubstr("root:")));
    }
  }
}

// --- shapes ----------------------------------------------------------------------------------

TEST(Shapes, OfAHundredThousandLevelsAreRefusedOnEveryRoute) {
  TestServer server;
  Talk talk(server);
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += "{\"a\":";
  const std::string arrays(100'000, '[');
  for (const Route& route : kRoutes) {
    for (const std::string& deep :
         {arrays, objects, arrays + std::string(100'000, ']'), "{\"x\": " + arrays,
          with(route, "/x", arrays + std::string(100'000, ']'))}) {
      const Reply reply = talk.say(route.path, deep);
      EXPECT_EQ(reply.status, 400) << route.path;
      EXPECT_THAT(reply.body, HasSubstr("nested"));
    }
  }
}

/// A call's arguments are JSON inside of a string, where the body's own depth does not count.
TEST(Shapes, ArgumentsOfCallsHaveABoundedDepthToo) {
  TestServer server;
  Talk talk(server);
  const auto status = [&](std::size_t depth) {
    const std::string deep = std::string(depth, '[') + std::string(depth, ']');
    const Json call{
        {"id", "c"}, {"type", "function"}, {"function", {{"name", "f"}, {"arguments", deep}}}};
    const Json body{{"messages",
                     {{{"role", "user"}, {"content", "u"}},
                      {{"role", "assistant"}, {"content", ""}, {"tool_calls", {call}}},
                      {{"role", "tool"}, {"tool_call_id", "c"}, {"content", "u"}}}}};
    const Json items{
        {"input",
         {{{"role", "user"}, {"content", "u"}},
          {{"type", "function_call"}, {"call_id", "c"}, {"name", "f"}, {"arguments", deep}},
          {{"type", "function_call_output"}, {"call_id", "c"}, {"output", "u"}}}}};
    const unsigned chat = static_cast<unsigned>(talk.say(kChat.path, body.dump()).status);
    EXPECT_EQ(talk.say(kResponses.path, items.dump()).status, static_cast<int>(chat));
    return chat;
  };
  EXPECT_EQ(status(60), 200U);
  EXPECT_EQ(status(65), 400U);
  EXPECT_EQ(status(1'000'000), 400U);
}

TEST(Shapes, OfOtherTypesAreRefusedEverywhere) {
  TestServer server;
  Talk talk(server);
  for (const Route& route : {kChat, kText, kMessages, kResponses}) {
    for (const char* pointer : {"/messages",
                                "/messages/0",
                                "/messages/0/content",
                                "/messages/0/role",
                                "/prompt",
                                "/input",
                                "/input/0",
                                "/model",
                                "/stop",
                                "/stop_sequences",
                                "/stream",
                                "/logit_bias",
                                "/response_format",
                                "/tools",
                                "/tools/0",
                                "/tool_choice",
                                "/thinking",
                                "/reasoning",
                                "/text",
                                "/text/format",
                                "/system",
                                "/instructions",
                                "/metadata",
                                "/stream_options",
                                "/include",
                                "/grammar",
                                "/suffix"}) {
      for (const char* value : {"7", "true", "\"x\"", "[7]", "{\"type\": 7}", "[[[]]]", "{}", "[]",
                                "[{\"type\": 7}]", "{\"type\": [\"function\"]}", "null"}) {
        const Json base = Json::parse(route.body);
        const std::string first = std::string(pointer).substr(0, std::string(pointer).find('/', 1));
        // "/input/0" is no place in a string.
        if (first != pointer &&
            !(base.contains(first.substr(1)) && base.at(first.substr(1)).is_array())) {
          continue;
        }
        const Reply reply = talk.say(route.path, with(route, pointer, value));
        EXPECT_TRUE(reply.status == 200 || reply.status == 400 || reply.status == 404 ||
                    reply.status == 422)
            << route.path << pointer << value << reply.raw;
      }
    }
  }
}

// --- what is not fetched, not run --------------------------------------------------------------

TEST(Requests, ThatNameUrlsAreRefusedAndNothingIsFetched) {
  TestServer server;
  Talk talk(server);
  // A port that would notice.
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof at;
  ASSERT_EQ(::bind(listener, reinterpret_cast<sockaddr*>(&at), size), 0);
  ASSERT_EQ(::listen(listener, 1), 0);
  ::getsockname(listener, reinterpret_cast<sockaddr*>(&at), &size);
  const std::string url = "http://127.0.0.1:" + std::to_string(ntohs(at.sin_port)) + "/x.png";
  for (const std::string& link :
       {url, std::string("file:///etc/passwd"), std::string("data:image/png;base64,AAAA")}) {
    const Json user{{"role", "user"}};
    const auto message = [&](Json part) {
      Json made = user;
      made["content"] = Json::array({std::move(part)});
      return Json::array({std::move(made)});
    };
    const std::pair<const char*, Json> asks[] = {
        {kChat.path,
         {{"messages", message({{"type", "image_url"}, {"image_url", {{"url", link}}}})}}},
        {kChat.path, {{"messages", message({{"type", "input_audio"}, {"input_audio", link}})}}},
        {kMessages.path,
         {{"max_tokens", 5},
          {"messages",
           message({{"type", "image"}, {"source", {{"type", "url"}, {"url", link}}}})}}},
        {kMessages.path,
         {{"max_tokens", 5},
          {"messages",
           message({{"type", "document"}, {"source", {{"type", "url"}, {"url", link}}}})}}},
        {kResponses.path, {{"input", message({{"type", "input_image"}, {"image_url", link}})}}},
        {kResponses.path, {{"input", message({{"type", "input_file"}, {"file_url", link}})}}}};
    for (const auto& [path, body] : asks) {
      const Reply reply = talk.say(path, body.dump());
      EXPECT_EQ(reply.status, 400) << path << body << reply.body;
      EXPECT_THAT(reply.body, HasSubstr(".type")) << "it says where";
    }
  }
  pollfd anybody{listener, POLLIN, 0};
  EXPECT_EQ(::poll(&anybody, 1, 0), 0) << "somebody connected";
  ::close(listener);
}

TEST(Requests, LongerThanTheContextSaySoHoweverLong) {
  // The longest token has 14 bytes, the context 1000 tokens: of two megabytes none is made.
  TestServer server;
  Talk talk(server);
  for (const std::size_t bytes : {std::size_t{1000}, std::size_t{2} << 20}) {
    const std::string text(bytes, 'a');
    const Json message = Json::array({{{"role", "user"}, {"content", text}}});
    const std::pair<const char*, Json> asks[] = {
        {kChat.path, {{"messages", message}}},
        {kMessages.path, {{"max_tokens", 5}, {"messages", message}}},
        {kResponses.path, {{"input", text}}},
        {kText.path, {{"prompt", text}}}};
    for (const auto& [path, body] : asks) {
      const Reply reply = talk.say(path, body.dump());
      EXPECT_EQ(reply.status, 400) << path;
      if (path != kMessages.path) {
        EXPECT_EQ(reply.json().at("error").at("code"), "context_length_exceeded") << path;
      }
      EXPECT_THAT(reply.body, HasSubstr("a context of 1000")) << path;
    }
  }
}

TEST(Requests, CannotBringATemplateOfTheirOwn) {
  TestServer server;
  Talk talk(server);
  for (const Route& route : {kChat, kTemplate}) {
    EXPECT_EQ(talk.say(route.path, with(route, "/chat_template", R"("{{ 7 }}")")).status, 400);
    EXPECT_EQ(talk.say(route.path, with(route, "/chat_template_kwargs", R"({"x": 1})")).status,
              400);
  }
  // Elsewhere such fields are nobody's, and what is said is no template either.
  const std::string braces = R"("{{ 7 * 7 }}{% for x in range(9) %}u{% endfor %}")";
  const Json prompt =
      talk.say("/apply-template", with(kTemplate, "/messages/0/content", braces)).json();
  EXPECT_EQ(prompt.at("prompt"), "{{ 7 * 7 }}{% for x in range(9) %}u{% endfor %}");
  const auto words = [&](const std::string& body) {
    return talk.say(kMessages.path, body).json().at("content")[0].at("text");
  };
  EXPECT_EQ(words(with(kMessages, "/chat_template", R"("x")")), words(kMessages.body));
}

TEST(Requests, OfOneKeyNeverShowInAnothers) {
  server::ApiOptions api;
  api.keys = {"the-first-long-key-1", "the-second-long-key-2"};
  TestServer server({}, api);
  // Long enough to fill pages of the cache; the canary is the one's alone.
  const std::string shared(130, 'A');
  const std::string canary = shared + "CANARY" + shared;
  const auto ask = [&](std::size_t key, const std::string& content, bool stream) {
    return server.chat(
        {{"messages", {{{"role", "user"}, {"content", content}}}}, {"stream", stream}},
        "Authorization: Bearer " + api.keys[key] + "\r\n");
  };
  ask(0, canary + "u", false);
  std::vector<std::thread> clients;
  std::atomic<int> wrong = 0;
  for (std::size_t key = 0; key < 2; ++key) {
    clients.emplace_back([&, key] {
      for (int i = 0; i < 20; ++i) {
        // The same words: of the second key's the cache may only know what that key has said.
        const Reply reply = ask(key, (key == 0 ? canary : shared + "QQQQQQ" + shared) + "u", i % 2);
        const bool other = reply.body.find("CANARY") != std::string::npos;
        if (reply.status != 200 || other) ++wrong;
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(wrong, 0);
  const Json usage = ask(1, canary + "u", false).json().at("usage");
  EXPECT_LT(usage.at("prompt_cache_hit_tokens"), 192) << "of its own 'A's, not of the canary";
  for (const char* path : {"/metrics", "/v1/models", "/user/balance", "/nothing"}) {
    const Reply reply = server.ask(get(path, "Authorization: Bearer " + api.keys[1] + "\r\n"));
    EXPECT_THAT(reply.raw, Not(HasSubstr("CANARY"))) << path;
    EXPECT_THAT(reply.raw, Not(HasSubstr(api.keys[0]))) << path;
  }
}

}  // namespace
}  // namespace fathom
