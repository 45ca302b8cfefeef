// Answers and requests under a second model's judgement.
#include <gmock/gmock.h>

#include <cmath>

#include "server/judge.h"
#include "server/process.h"
#include "server/scripted.h"

namespace fathom {
namespace {

using namespace test;  // NOLINT
using server::Judge;
using std::chrono::milliseconds;
using ::testing::HasSubstr;
using ::testing::StartsWith;

/// A model on duty, and what drives it.
struct Fake {
  explicit Fake(FakeModel::Script script, milliseconds token_time = {}, int context = 1000) {
    auto fake = std::make_unique<FakeModel>(std::move(script), 32, context);
    model = fake.get();
    model->delay = token_time;
    served.name = "fake";
    served.chat = std::make_unique<ChatFormat>(kTemplate, small_tokenizer());
    served.sampling.temperature = 0;
    served.fingerprint = "fp_test";
    served.engine = std::make_unique<Engine>(std::move(fake), small_tokenizer());
  }
  FakeModel* model;
  server::ServedModel served;
};

/// Stops what ends in x, y or z.
TokenId dislikes_end(TokenId last, std::size_t) {
  return last >= ids("x")[0] && last <= ids("z")[0] ? ids("Y")[0] : ids("N")[0];
}

class JudgedServer {
 public:
  /// A model that says `answer`, and a judge of it with further members of the filter's file.
  explicit JudgedServer(const std::string& answer, const std::string& more = {},
                        milliseconds judge_time = {}, int judge_context = 1000,
                        server::ListenerOptions listener = {})
      : JudgedServer(Fake(says(answer)), Fake(dislikes_end, judge_time, judge_context), more,
                     listener) {}
  JudgedServer(Fake model, Fake judge, const std::string& more,
               server::ListenerOptions listener = {})
      : main_(std::move(model)), judge_(std::move(judge)), judge_model_(judge_.model) {
    std::string file = R"({"judges": [{"name": "j", "model": "m", "reason": "not here")" + more;
    if (more.find("question") == std::string::npos) file += R"(, "question": "q {text}")";
    file += "}]}";
    main_.served.filter =
        std::make_shared<const server::Filter>(server::Filter::parse(file, "filter.json"));
    judging_ = std::make_shared<const server::ServedModel>(std::move(judge_.served));
    main_.served.judges.push_back(
        std::make_shared<const Judge>(main_.served.filter->judges()[0], judging_));
    server_.emplace(std::make_shared<server::ModelPool>(std::move(main_.served)), listener);
  }
  TestServer& server() { return *server_; }
  FakeModel& judge() { return *judge_model_; }
  SchedulerStats judge_stats() const { return judging_->engine->stats(); }
  Reply chat(const std::string& text, Json more = Json::object()) {
    more["messages"] = Json::array({{{"role", "user"}, {"content", text}}});
    return server_->chat(more);
  }
  Reply messages(const std::string& text) {
    const Json messages = Json::array({{{"role", "user"}, {"content", text}}});
    return server_->ask(post(
        "/v1/messages", Json{{"model", "fake"}, {"max_tokens", 9}, {"messages", messages}}.dump()));
  }
  std::string metrics() { return server_->ask(get("/metrics")).body; }

 private:
  Fake main_;
  Fake judge_;
  FakeModel* judge_model_;
  std::shared_ptr<const server::ServedModel> judging_;
  std::optional<TestServer> server_;
};

const char* const kInput = R"(, "applies_to": ["input"])";
const char* const kOutput = R"(, "applies_to": ["output"])";
Json told(const char* in) { return {{"rule", "j"}, {"reason", "not here"}, {"in", in}}; }

// ---- input --------------------------------------------------------------------------------------

TEST(Judged, WhatIsAskedIsRefusedBeforeAnythingIsSent) {
  JudgedServer on("fine", kInput);
  for (const bool stream : {false, true}) {
    const Reply reply = on.chat("ax", {{"stream", stream}});
    EXPECT_EQ(reply.status, 400U) << "streamed or not";
    const Json error = reply.json().at("error");
    EXPECT_EQ(error.at("code"), "content_filter");
    EXPECT_THAT(error.at("message").get<std::string>(), HasSubstr("judge 'j': not here"));
  }
  EXPECT_THAT(on.metrics(), HasSubstr("fathom_filtered_total{rule=\"j\",where=\"input\"} 2\n"));
  EXPECT_THAT(on.metrics(), HasSubstr("fathom_completion_tokens_total 0\n"));
  EXPECT_THAT(on.metrics(),
              HasSubstr("fathom_judge_probability_bucket{judge=\"j\",le=\"0.95\"} 0\n"));
  EXPECT_THAT(on.metrics(), HasSubstr("fathom_judge_seconds_count{judge=\"j\"} 2\n"));
}

TEST(Judged, WhatPassesIsAnsweredAsWithoutAJudge) {
  JudgedServer on("fine");
  EXPECT_EQ(on.chat("a").json().at("choices")[0].at("message").at("content"), "fine");
  const Streamed streamed = joined(on.chat("a", {{"stream", true}}));
  EXPECT_EQ(streamed.content, "fine");
  EXPECT_EQ(streamed.reason, "stop");
  EXPECT_TRUE(streamed.filtered.is_null());
}

TEST(Judged, AStreamIsKeptAliveUntilTheVerdict) {
  server::ListenerOptions listener;
  listener.comment_interval = milliseconds(20);
  JudgedServer on("fine", kInput, milliseconds(150), 1000, listener);
  const Reply passed = on.chat("a", {{"stream", true}});
  EXPECT_THAT(passed.body, StartsWith(": keep-alive\n\n"));
  EXPECT_EQ(joined(passed).content, "fine");
  const Reply refused = on.chat("ax", {{"stream", true}});
  EXPECT_EQ(refused.status, 200U);
  EXPECT_EQ(Json::parse(refused.events().at(0)).at("error").at("code"), "content_filter");
  EXPECT_EQ(refused.events().back(), "[DONE]");
}

TEST(Judged, AllThatTheModelWouldReadIsJudged) {
  JudgedServer on("fine", kInput);
  const Json system{{"role", "system"}, {"content", "sx"}};
  const Json user{{"role", "user"}, {"content", "u"}};
  const auto status = [&](const Json& messages) {
    return on.server().chat({{"messages", messages}}).status;
  };
  EXPECT_EQ(status(Json::array({user, system})), 400U);
  EXPECT_EQ(status(Json::array({system, user})), 200U) << "this judge looks at the end alone";
  const auto asked = [&](const std::string& path, const Json& body) {
    return on.server().ask(post(path, body.dump())).status;
  };
  EXPECT_EQ(asked("/v1/completions", {{"prompt", "ax"}}), 400U);
  EXPECT_EQ(asked("/v1/completions", {{"prompt", "a"}, {"suffix", "x"}}), 400U);
  EXPECT_EQ(asked("/v1/responses", {{"model", "fake"}, {"input", "ax"}}), 400U);
  const Reply reply = on.messages("ax");
  EXPECT_EQ(reply.status, 400U);
  EXPECT_EQ(reply.json().at("type"), "error") << "in the API's own form";
}

TEST(Judged, WhatTheJudgeCannotReadIsRefused) {
  JudgedServer on("fine", kInput, {}, 64);
  const Reply reply = on.chat(std::string(100, 'a'));
  EXPECT_EQ(reply.status, 400U);
  EXPECT_THAT(reply.body, HasSubstr("the filter's judge 'j' cannot read this"));
}

TEST(Judged, AJudgeThatFailsLetsNothingIn) {
  JudgedServer on("fine", kInput);
  on.judge().fails = true;
  const Reply reply = on.chat("a");
  EXPECT_EQ(reply.status, 503U);
  EXPECT_THAT(reply.body, HasSubstr("judge 'j' gave no verdict: the model broke"));
  EXPECT_EQ(on.chat("a").status, 200U) << "the next one is judged again";
}

// ---- output -------------------------------------------------------------------------------------

TEST(Judged, AnAnswerThatIsStoppedSaysByWhom) {
  JudgedServer on("tell x", kOutput);
  const Json choice = on.chat("a").json().at("choices")[0];
  EXPECT_EQ(choice.at("message").at("content"), "");
  EXPECT_EQ(choice.at("finish_reason"), "content_filter");
  EXPECT_EQ(choice.at("filtered"), told("content"));
  const Streamed streamed = joined(on.chat("a", {{"stream", true}}));
  EXPECT_EQ(streamed.content, "");
  EXPECT_EQ(streamed.reason, "content_filter");
  EXPECT_EQ(streamed.filtered, told("content"));
  EXPECT_THAT(on.metrics(), HasSubstr("fathom_filtered_total{rule=\"j\",where=\"output\"} 2\n"));
}

TEST(Judged, AStreamIsGivenAsFarAsItWasJudged) {
  // However the two models' steps fall: the first letter is judged alone, and no verdict is about a
  // text that ends in x but one against it.
  JudgedServer on("abcdefgh" + std::string(300, 'x'), std::string(kOutput) + R"(, "every": 1)");
  const Streamed streamed = joined(on.chat("a", {{"stream", true}}));
  EXPECT_THAT(streamed.content, StartsWith("a"));
  EXPECT_THAT("abcdefgh", StartsWith(streamed.content));
  EXPECT_EQ(streamed.reason, "content_filter");
  JudgedServer fine("abcdefgh", std::string(kOutput) + R"(, "every": 3)");
  EXPECT_EQ(joined(fine.chat("a", {{"stream", true}})).content, "abcdefgh");
}

TEST(Judged, TheEngineStopsWithTheAnswer) {
  // All of it would take 4 s.
  JudgedServer on(Fake(says("ab" + std::string(800, 'x')), milliseconds(5)), Fake(dislikes_end),
                  std::string(kOutput) + R"(, "every": 10)");
  EXPECT_EQ(joined(on.chat("a", {{"stream", true}})).content, "");
  EXPECT_TRUE(soon([&] { return on.server().stats().active == 0; }));
  const std::string metrics = on.metrics();
  const std::string name = "\nfathom_completion_tokens_total ";
  EXPECT_LT(std::stoi(metrics.substr(metrics.find(name) + name.size())), 600);
}

TEST(Judged, ThoughtsAreJudgedToo) {
  JudgedServer on("ax</think>fine", std::string(kOutput) + R"(, "every": 2)");
  const Json more{{"stream", true}, {"thinking", {{"type", "enabled"}}}};
  const Streamed streamed = joined(on.chat("a", more));
  EXPECT_EQ(streamed.reasoning + streamed.content, "");
  EXPECT_EQ(streamed.filtered, told("reasoning_content"));
}

TEST(Judged, AJudgeIsToldWhatAnAnswerRepliesTo) {
  // The last letter of what it is told is that of what was asked.
  JudgedServer on("fine", R"(, "applies_to": ["output"], "question": "q {text} {asked}")");
  EXPECT_EQ(on.chat("ax").json().at("choices")[0].at("finish_reason"), "content_filter");
  EXPECT_EQ(on.chat("a").json().at("choices")[0].at("finish_reason"), "stop");
}

TEST(Judged, EachAnswerHasItsOwnVerdict) {
  JudgedServer on(Fake(alphabet), Fake(dislikes_end), kOutput);
  const Json choices = on.chat("u", {{"n", 3}}).json().at("choices");  // "vwxyz"
  ASSERT_EQ(choices.size(), 3U);
  for (const Json& choice : choices) EXPECT_EQ(choice.at("finish_reason"), "content_filter");
  const Json cut = on.chat("u", {{"n", 2}, {"max_tokens", 2}}).json().at("choices");
  for (const Json& choice : cut) EXPECT_EQ(choice.at("message").at("content"), "vw");
}

TEST(Judged, AJudgeThatFailsLetsNothingOut) {
  JudgedServer on("fine", kOutput);
  on.judge().fails = true;
  const Reply whole = on.chat("a");
  EXPECT_EQ(whole.status, 503U);
  EXPECT_THAT(whole.body, HasSubstr("judge 'j' gave no verdict"));
  on.judge().fails = true;
  const Reply streamed = on.chat("a", {{"stream", true}});
  EXPECT_THAT(streamed.body, HasSubstr("judge 'j' gave no verdict"));
  EXPECT_EQ(streamed.body.find("\"content\":\"f"), std::string::npos);
}

TEST(Judged, OtherApisSayItTheirWay) {
  JudgedServer on("tell x", kOutput);
  const Json message = on.messages("a").json();
  EXPECT_EQ(message.at("stop_reason"), "refusal");
  EXPECT_EQ(message.at("stop_details").at("rule"), "j");
  const Json response =
      on.server().ask(post("/v1/responses", R"({"model": "fake", "input": "a"})")).json();
  EXPECT_EQ(response.at("incomplete_details").at("rule"), "j");
}

TEST(Judged, AClientThatLeavesFreesTheJudgeToo) {
  JudgedServer on("fine", kInput, milliseconds(300));
  {
    Client client(on.server().port());
    Json body{{"messages", Json::array({{{"role", "user"}, {"content", std::string(200, 'a')}}})}};
    client.send(post("/v1/chat/completions", body.dump()));  // seven steps of the judge
    ASSERT_TRUE(soon([&] { return on.judge_stats().active == 1; }));
  }
  EXPECT_TRUE(soon([&] { return on.judge_stats().active == 0; }));
  EXPECT_EQ(on.chat("a").status, 200U);
}

// ---- verdicts -----------------------------------------------------------------------------------

TEST(Judge, ComparesTheTwoWordsWhereverTheyRank) {
  Fake fake(dislikes_end);
  const auto model = std::make_shared<const server::ServedModel>(std::move(fake.served));
  const server::Filter filter =
      server::Filter::parse(R"({"judges": [{"name": "j", "model": "m"}]})", "f.json");
  const Judge judge(filter.judges()[0], model);
  const auto verdict = [&](std::vector<std::pair<const char*, double>> top) {
    Delta delta;
    delta.token.emplace();
    delta.token->id = ids(top.front().first)[0];
    for (const auto& [piece, p] : top) {
      delta.token->top.push_back({ids(piece)[0], static_cast<float>(std::log(p))});
    }
    return judge.verdict(delta);
  };
  EXPECT_NEAR(*verdict({{"N", 0.6}, {"Y", 0.2}}), 0.25, 1e-6);
  EXPECT_NEAR(*verdict({{"a", 0.9}, {"Y", 0.03}, {"N", 0.01}}), 0.75, 1e-6);
  EXPECT_NEAR(*verdict({{"Y", 0.9}, {"a", 0.1}}), 1, 1e-6);
  EXPECT_FALSE(verdict({{"a", 0.9}, {"b", 0.1}})) << "it has said nothing";
  Delta thought;
  thought.channel = Channel::Reasoning;
  thought.token.emplace();
  thought.token->id = ids("Y")[0];
  EXPECT_FALSE(judge.verdict(thought));
  EXPECT_FALSE(judge.verdict(Finished{}));
}

TEST(Judge, OneThatCannotBeAskedIsRefused) {
  Fake base(dislikes_end);
  base.served.chat = nullptr;
  const auto model = std::make_shared<const server::ServedModel>(std::move(base.served));
  const server::Filter filter =
      server::Filter::parse(R"({"judges": [{"name": "j", "model": "m"}]})", "f.json");
  try {
    Judge(filter.judges()[0], model);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("'fake' has no chat template"));
  }
}

}  // namespace
}  // namespace fathom
