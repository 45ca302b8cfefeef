// Answers that a grammar holds to its texts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "engine/engine.h"
#include "engine/fake_model.h"
#include "grammar/gbnf.h"
#include "grammar/json_schema.h"

namespace fathom {
namespace {

using namespace test;  // NOLINT: the tests' own vocabulary
using ::testing::HasSubstr;

struct Said {
  std::string answer, reasoning;
  Finished end;
};

class ConstraintTest : public testing::Test {
 protected:
  void start(FakeModel::Script script) {
    engine =
        std::make_unique<Engine>(std::make_unique<FakeModel>(std::move(script)), small_tokenizer());
  }
  Request request(const std::string& prompt, const std::shared_ptr<const grammar::Grammar>& g) {
    if (!engine) start(alphabet);
    Request request;
    request.prompt = ids(prompt);
    request.sampling.temperature = 0;
    request.stop_tokens = {kEnd};
    request.max_tokens = 300;
    request.constraint.emplace();
    request.constraint->masks = std::make_shared<grammar::TokenMasks>(g, engine->token_table());
    return request;
  }
  Said ask(Request request) {
    Said said;
    Stream stream = engine->submit(std::move(request));
    while (auto event = stream.next()) {
      if (const auto* delta = std::get_if<Delta>(&*event)) {
        (delta->channel == Channel::Answer ? said.answer : said.reasoning) += delta->text;
      } else if (const auto* end = std::get_if<Finished>(&*event)) {
        said.end = *end;
      }
    }
    return said;
  }
  std::unique_ptr<Engine> engine;
};

TEST_F(ConstraintTest, TheModelChoosesAmongWhatIsAllowed) {
  // From u the model wants v, w, x; the grammar wants two letters and a digit.
  const Said said = ask(request("u", grammar::gbnf_grammar("root ::= [a-w]{2} [3-5]")));
  EXPECT_EQ(said.answer, "vw3");
  EXPECT_EQ(said.end.reason, FinishReason::Stop);
  EXPECT_EQ(said.end.usage.completion_tokens, 3U) << "it ends without a stop token";
}

TEST_F(ConstraintTest, TheStopTokenComesOnlyWhereATextMayEnd) {
  start([](TokenId, std::size_t) { return kEnd; });  // a model that wants to be done
  const Said said = ask(request("u", grammar::gbnf_grammar("root ::= [x-z]{4} [x-z]*")));
  EXPECT_EQ(said.answer, "xxxx");
  EXPECT_EQ(said.end.reason, FinishReason::Stop);
}

TEST_F(ConstraintTest, ThinkingIsFree) {
  start([](TokenId last, std::size_t position) {
    return last == ids("d")[0] ? kEndThink : alphabet(last, position);
  });
  Request asked = request("<think>a", grammar::gbnf_grammar("root ::= \"yes\" | \"no\""));
  asked.reasoning = ReasoningSetup{{kThink, kEndThink, "<think>", "</think>"}, true};
  const Said said = ask(std::move(asked));
  EXPECT_EQ(said.reasoning, "bcd");
  EXPECT_EQ(said.answer, "no") << "n has the smaller id";
}

TEST_F(ConstraintTest, WhatThePromptHasBegunIsGoneOnWith) {
  const auto g = grammar::gbnf_grammar("root ::= \"abc\" | \"xyz\"");
  Request asked = request("ab", g);
  asked.constraint->begun = "ab";
  EXPECT_EQ(ask(std::move(asked)).answer, "c");
  Request wrong = request("q", g);
  wrong.constraint->begun = "q";
  const Said said = ask(std::move(wrong));
  ASSERT_EQ(said.end.reason, FinishReason::Failed);
  EXPECT_EQ(said.end.error->code(), ErrorCode::InvalidArgument);
}

TEST_F(ConstraintTest, EverySampledAnswerIsValidJson) {
  using Json = nlohmann::ordered_json;
  start([](TokenId last, std::size_t position) { return alphabet(last, position); });
  const auto g = grammar::json_schema_grammar(Json::parse(
      R"({"type":"object","required":["a"],"additionalProperties":false,"properties":{
          "a":{"type":"array","items":{"type":"integer","minimum":-20,"maximum":35},"maxItems":4},
          "b":{"type":"string","maxLength":9}}})"));
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    Request asked = request("u", g);
    asked.sampling.temperature = 40;  // nearly any allowed token
    asked.sampling.seed = seed;
    const Said said = ask(std::move(asked));
    ASSERT_EQ(said.end.reason, FinishReason::Stop) << said.answer;
    const Json json = Json::parse(said.answer, nullptr, false);
    ASSERT_TRUE(json.is_object()) << said.answer;
    for (const Json& n : json.at("a")) {
      EXPECT_GE(n.get<int>(), -20);
      EXPECT_LE(n.get<int>(), 35);
    }
    EXPECT_LE(json.value("b", "").size(), 9U * 3);
  }
}

TEST_F(ConstraintTest, ATextThatNoTokenGoesOnWithIsAnError) {
  const Said said = ask(request("u", grammar::gbnf_grammar("root ::= \"a\" \"%\"")));
  ASSERT_EQ(said.end.reason, FinishReason::Failed);
  EXPECT_THAT(said.end.error->what(), HasSubstr("no token of the vocabulary"));
}

TEST_F(ConstraintTest, RequestsShareAGrammar) {
  Request first = request("u", grammar::gbnf_grammar("root ::= [a-z]{3}"));
  Request second = first;
  second.prompt = ids("b");
  std::vector<Said> said(2);
  Stream one = engine->submit(std::move(first));
  Stream two = engine->submit(std::move(second));
  const auto read = [](Stream& stream) {
    std::string text;
    while (auto event = stream.next()) {
      if (const auto* delta = std::get_if<Delta>(&*event)) text += delta->text;
    }
    return text;
  };
  EXPECT_EQ(read(two), "cde");
  EXPECT_EQ(read(one), "vwx");
}

}  // namespace
}  // namespace fathom
