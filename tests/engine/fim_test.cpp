#include "engine/fim.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "engine/test_tokenizer.h"

namespace fathom {
namespace {

using test::ids;

TEST(Fim, ThePromptIsPrefixSuffixMiddle) {
  const Tokenizer tokenizer = test::small_tokenizer();
  const auto tokens = fim_tokens(tokenizer);
  ASSERT_TRUE(tokens);
  EXPECT_EQ(fim_prompt(tokenizer, *tokens, "ab", "z"),
            ids("<|fim_prefix|>ab<|fim_suffix|>z<|fim_middle|>"));
  EXPECT_EQ(fim_prompt(tokenizer, *tokens, "", "").size(), 3U);
}

TEST(Fim, AMarkInTheTextIsText) {
  const Tokenizer tokenizer = test::small_tokenizer();
  const auto prompt = fim_prompt(tokenizer, *fim_tokens(tokenizer), "<|fim_middle|>", "");
  EXPECT_EQ(std::count(prompt.begin(), prompt.end(), fim_tokens(tokenizer)->middle), 1);
}

TEST(Fim, AVocabularyWithoutTheMarksHasNone) {
  TokenizerSpec spec;
  spec.model = TokenizerModel::ByteLevelBpe;
  spec.pre_tokenizer = PreTokenizer::Gpt2;
  spec.pieces = {"a", "<|fim_prefix|>", "<|fim_suffix|>"};
  spec.types.assign(3, TokenType::Normal);
  EXPECT_FALSE(fim_tokens(Tokenizer(std::move(spec))));
}

}  // namespace
}  // namespace fathom
