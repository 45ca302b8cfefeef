// The pre-tokenizers cut text where the oracle's regular expressions do, and in linear time.
#include <gmock/gmock.h>

#include <ctime>

#include "base/error.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/tokenizer_golden.h"

namespace fathom {
namespace {

using testing::ElementsAre;

constexpr PreTokenizer kAll[] = {PreTokenizer::Gpt2,        PreTokenizer::SmolLm,
                                 PreTokenizer::Llama3,      PreTokenizer::Qwen2,
                                 PreTokenizer::DeepSeekLlm, PreTokenizer::DeepSeekCoder,
                                 PreTokenizer::DeepSeekV3};

std::vector<std::string> split(PreTokenizer kind, std::string_view text) {
  std::vector<std::string> words;
  split_words(kind, text, [&](std::string_view word) { words.emplace_back(word); });
  return words;
}

void expect_golden_splits(PreTokenizer kind) {
  const std::string name = to_string(kind);
  const std::string file = test::read_file(test::golden() / (name + ".split"));
  const auto& strings = test::golden_strings();
  ASSERT_EQ(file.size(), strings.size() * sizeof(std::uint32_t));
  for (std::size_t i = 0; i < strings.size(); ++i) {
    std::uint32_t expected;
    std::memcpy(&expected, file.data() + i * sizeof expected, sizeof expected);
    std::vector<TokenId> lengths;  // hashed as ids are
    std::string shown;
    for (const std::string& word : split(kind, strings[i])) {
      lengths.push_back(static_cast<TokenId>(word.size()));
      shown += " [" + test::printable(word) + "]";
    }
    ASSERT_EQ(test::hash_ids(lengths), expected) << name << ", string " << i << ":" << shown;
  }
}

TEST(PreTokenizer, DeepSeekLlmCutsWhereTheOracleDoes) {
  expect_golden_splits(PreTokenizer::DeepSeekLlm);
}
TEST(PreTokenizer, DeepSeekCoderCutsWhereTheOracleDoes) {
  expect_golden_splits(PreTokenizer::DeepSeekCoder);
}

TEST(PreTokenizer, TakesNumbersAsEachModelDoes) {
  EXPECT_THAT(split(PreTokenizer::Gpt2, "x 12345"), ElementsAre("x", " 12345"));
  EXPECT_THAT(split(PreTokenizer::SmolLm, "x 123"), ElementsAre("x", " ", "1", "2", "3"));
  EXPECT_THAT(split(PreTokenizer::Llama3, "x 12345"), ElementsAre("x", " ", "123", "45"));
  EXPECT_THAT(split(PreTokenizer::Qwen2, "x 123"), ElementsAre("x", " ", "1", "2", "3"));
  EXPECT_THAT(split(PreTokenizer::DeepSeekV3, "x 12345"), ElementsAre("x", " ", "123", "45"));
}

TEST(PreTokenizer, LeavesTheLastSpaceToTheWordThatFollows) {
  EXPECT_THAT(split(PreTokenizer::Llama3, "a   b  "), ElementsAre("a", "  ", " b", "  "));
  EXPECT_THAT(split(PreTokenizer::Llama3, "a \n\n  b"), ElementsAre("a", " \n\n", " ", " b"));
  EXPECT_THAT(split(PreTokenizer::Gpt2, "a\n\nb"), ElementsAre("a", "\n", "\n", "b"));
}

TEST(PreTokenizer, FoldsCaseInContractionsOnlyWhereTheModelDoes) {
  EXPECT_THAT(split(PreTokenizer::Llama3, "WE'RE"), ElementsAre("WE", "'RE"));
  EXPECT_THAT(split(PreTokenizer::Gpt2, "WE'RE"), ElementsAre("WE", "'", "RE"));
  EXPECT_THAT(split(PreTokenizer::Gpt2, "we're"), ElementsAre("we", "'re"));
}

TEST(PreTokenizer, TakesAnIllFormedPartForASymbol) {
  EXPECT_THAT(split(PreTokenizer::Llama3, "a\xFF\xE2\x82 b"),
              ElementsAre("a", "\xFF\xE2\x82", " b"));
  EXPECT_THAT(split(PreTokenizer::DeepSeekV3, "\xF0\x9F"), ElementsAre("\xF0\x9F"));
}

TEST(PreTokenizer, LosesNothingOfAnyText) {
  for (const PreTokenizer kind : kAll) {
    for (const std::string& text : test::golden_strings()) {
      std::string joined;
      for (const std::string& word : split(kind, text)) {
        ASSERT_FALSE(word.empty());
        joined += word;
      }
      ASSERT_EQ(joined, text);
    }
  }
}

/// Processor seconds of this thread: other programs on the machine do not count.
double thread_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

/// Seconds to split `text`, the best of two.
double seconds(PreTokenizer kind, const std::string& text) {
  double best = 1e9;
  for (int i = 0; i < 2; ++i) {
    std::size_t words = 0;
    const double start = thread_seconds();
    split_words(kind, text, [&](std::string_view) { ++words; });
    EXPECT_GT(words, 0u);
    best = std::min(best, thread_seconds() - start);
  }
  return best;
}

TEST(PreTokenizer, TakesLinearTimeOnWhatMakesRegexesBacktrack) {
  const std::string units[] = {" ", "\n",   "\u3000", " \t", "'",
                               "a", "\xFF", "\u0301", "1",   "\u3000a"};
  for (const PreTokenizer kind : kAll) {
    for (const std::string& unit : units) {
      std::string text;
      while (text.size() < 10000) text += unit;
      std::string longer;
      for (int i = 0; i < 16; ++i) longer += text;
      // Linear is 16 times; quadratic would be 256. The floor keeps clock noise out.
      EXPECT_LT(seconds(kind, longer), 80 * std::max(seconds(kind, text), 1e-4))
          << to_string(kind) << " on " << test::printable(unit);
    }
  }
}

TEST(PreTokenizer, NamesAnUnknownGgufPreTokenizerInsteadOfGuessing) {
  EXPECT_EQ(pre_tokenizer_from_gguf("deepseek-r1-qwen", "x.gguf"), PreTokenizer::Qwen2);
  EXPECT_EQ(pre_tokenizer_from_gguf("llama-bpe", "x.gguf"), PreTokenizer::Llama3);
  for (const char* name : {"default", "tekken", ""}) {
    try {
      pre_tokenizer_from_gguf(name, "x.gguf");
      FAIL() << name;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::Unsupported);
      EXPECT_NE(std::string(error.what()).find(std::string("'") + name + "'"), std::string::npos);
    }
  }
}

}  // namespace
}  // namespace fathom
