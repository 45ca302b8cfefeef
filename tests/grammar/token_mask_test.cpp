// Masks against trying each token, and the states that share them.
#include "grammar/token_mask.h"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace fathom::grammar
