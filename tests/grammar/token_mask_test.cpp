// Masks against trying each token, and the states that share them.
#include "grammar/token_mask.h"

#include <gtest/gtest.h>

#include <chrono>
#include <random>

#include "base/error.h"
#include "grammar/gbnf.h"
#include "grammar/grammar_helpers.h"
#include "grammar/json_schema.h"

namespace fathom::grammar {
namespace {

using testing::json_vocabulary;
using testing::token_table;

/// Walks with random tokens; at each state every token is tried by itself.
void expect_true_masks(std::shared_ptr<const Grammar> grammar, unsigned seed) {
  const std::vector<std::string> pieces = json_vocabulary();
  TokenMasks masks(std::move(grammar), token_table(pieces));
  std::mt19937 random(seed);
  Automaton::State state = masks.automaton().start();
  for (int step = 0; step < 60; ++step) {
    const TokenMask mask = masks.mask(state);
    std::vector<TokenId> allowed;
    for (std::size_t id = 0; id < pieces.size(); ++id) {
      const TokenId token{static_cast<std::int32_t>(id)};
      const bool expected = masks.accept(state, token) != Automaton::kDead;
      ASSERT_EQ(allows(mask, token), expected) << "'" << pieces[id] << "' at step " << step;
      if (expected) allowed.push_back(token);
    }
    if (allowed.empty()) {
      EXPECT_TRUE(masks.automaton().accepts(state)) << "a dead end";
      return;
    }
    state = masks.accept(state, allowed[random() % allowed.size()]);
  }
}

TEST(TokenMask, IsWhatEachTokenAloneWouldDo) {
  using Json = nlohmann::ordered_json;
  const Json schema =
      Json::parse(R"({"type":"object","required":["name"],"additionalProperties":false,
    "properties":{"name":{"type":"string","minLength":3,"maxLength":40},
    "age":{"type":"integer","minimum":0,"maximum":130},
    "tags":{"type":"array","items":{"enum":["abc","ab","value"]},"maxItems":3}}})");
  for (unsigned seed = 0; seed < 20; ++seed) {
    expect_true_masks(json_object_grammar(), seed);
    expect_true_masks(json_schema_grammar(schema), seed);
    expect_true_masks(gbnf_grammar("root ::= (\"ab\" | \"abc\" | [a-z]{0,30} \"!\")*"), seed);
    expect_true_masks(json_schema_grammar(Json::parse(R"({"type":"string","maxLength":25})")),
                      seed);
  }
}

TEST(TokenMask, LongBoundedTextsShareAMask) {
  const auto table = token_table(json_vocabulary());
  TokenMasks masks(gbnf_grammar("root ::= [a-z]{0,100000} \"!\""), table);
  Automaton::State state = masks.automaton().start();
  const Automaton::State far = masks.automaton().far_of(state);
  for (int i = 0; i < 1000; ++i) state = masks.automaton().next(state, 'a');
  EXPECT_EQ(masks.automaton().far_of(state), far);
  EXPECT_NE(state, far);
}

TEST(TokenMask, ATextThatNestsTooDeepCanOnlyBeClosed) {
  TokenMasks masks(json_object_grammar(), token_table(json_vocabulary()));
  Automaton::State state = masks.automaton().start();
  std::string text;
  bool refused = false;
  for (int i = 0; i < 2000 && !refused; ++i) {
    for (const char c : std::string("{\"\":")) {
      const Automaton::State next = masks.automaton().next(state, static_cast<std::uint8_t>(c));
      refused = next == Automaton::kDead;
      if (refused) break;
      state = next;
    }
  }
  EXPECT_TRUE(refused);
}

TEST(TokenMask, AnAmbiguousGrammarEndsInAnError) {
  // Every a may end any of the nested repetitions.
  EXPECT_THROW(
      {
        TokenMasks masks(gbnf_grammar("root ::= ((\"a\"{0,300}){0,300}){0,300} \"b\""),
                         token_table(json_vocabulary()));
        Automaton::State state = masks.automaton().start();
        for (int i = 0; i < 100000; ++i) state = masks.automaton().next(state, 'a');
      },
      Error);
}

/// A stranger's grammar may be large in what it means; the engine's thread must not drown in it.
TEST(TokenMask, OneMaskTakesNoLongerThanItMay) {
  const auto table = token_table(json_vocabulary());
  for (const char* text :
       {"root ::= (([a-z]{0,40} | [a-y]{0,41}){0,40} | ([b-z]{0,39}){0,40})* \"!\"",
        "root ::= a\na ::= [a-z] b b b | \"q\"\nb ::= [a-z] a? a? | [a-z]",
        "root ::= ((\"a\"? \"b\"? \"c\"? \"d\"? \"e\"?){0,200} \"f\"?){0,200}",
        "root ::= [a-z]{0,2000} [b-z]{0,2000} [c-z]{0,2000} \"!\""}) {
    const auto begin = std::chrono::steady_clock::now();
    double longest = 0;
    std::string said = "taken";
    try {
      TokenMasks masks(gbnf_grammar(text), table);
      Automaton::State state = masks.automaton().start();
      for (int i = 0; i < 30 && state != Automaton::kDead; ++i) {
        const auto before = std::chrono::steady_clock::now();
        masks.mask(state);
        state = masks.accept(state, TokenId{'c'});
        longest = std::max(
            longest,
            std::chrono::duration<double>(std::chrono::steady_clock::now() - before).count());
      }
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::ResourceLimit) << error.what();
      said = error.what();
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    std::printf("%.40s...: longest mask %.3f s, all %.3f s: %s\n", text, longest, took.count(),
                said.c_str());
    // Thirty masks of 0.1 s at the most on a quiet machine; far from hours in any case.
    EXPECT_LT(took.count(), 60) << text;
  }
}

}  // namespace
}  // namespace fathom::grammar
