// load_tokenizer on real files; agreement with the oracle is the golden test's.
#include "engine/tokenizer_loader.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace fathom {
namespace {

std::filesystem::path small_model() {
  return std::filesystem::path(FATHOM_SOURCE_DIR) / ".cache/assets/SmolLM2-135M-Instruct.Q4_1.gguf";
}

TEST(TokenizerLoader, ReadsSmolLm2FromItsGguf) {
  ASSERT_TRUE(std::filesystem::exists(small_model())) << "run scripts/setup";
  const Tokenizer tokenizer = load_tokenizer(*open_checkpoint(small_model()));
  EXPECT_EQ(tokenizer.vocab_size(), 49152u);
  EXPECT_EQ(tokenizer.pre_tokenizer(), PreTokenizer::SmolLm);
  EXPECT_EQ(tokenizer.bos(), TokenId{1});
  EXPECT_FALSE(tokenizer.add_bos());
  EXPECT_TRUE(tokenizer.is_end_of_generation(TokenId{2}));
  const std::string text = "<|im_start|>user\nWhat is 12 times 12?<|im_end|>\n";
  const std::vector<TokenId> ids = tokenizer.encode(text);
  EXPECT_EQ(ids.front(), TokenId{1});
  EXPECT_EQ(tokenizer.decode(ids), text);
  EXPECT_EQ(tokenizer.decode(ids, true), "user\nWhat is 12 times 12?\n");
}

}  // namespace
}  // namespace fathom
