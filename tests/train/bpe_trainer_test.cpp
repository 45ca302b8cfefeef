// Learned vocabularies beside Hugging Face `tokenizers`' (golden/bpe-trainer).
#include <gmock/gmock.h>

#include <fmt/format.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/error.h"
#include "tokenizer/tokenizer_json_writer.h"
#include "train/bpe_trainer.h"

namespace fathom::train {
namespace {

using ::testing::HasSubstr;

std::string read(const std::string& path) {
  std::ifstream file(std::string(FATHOM_SOURCE_DIR "/tests/golden/") + path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

struct Case {
  const char* name;
  PreTokenizer pre_tokenizer;
  std::int64_t min_frequency;
  std::size_t vocab_size;
};

BpeTrainerOptions options_of(const Case& c) {
  return {
      c.vocab_size, c.min_frequency, c.pre_tokenizer, {"<|begin|>", "<|end|>", "<think>"}, {}, {}};
}

TokenizerSpec learn(const Case& c) {
  BpeTrainer trainer(options_of(c));
  trainer.feed(read("tokenizers/sentences.txt"));
  trainer.feed(read("tokenizers/code.txt"));
  return trainer.train();
}

class BpeTrainerGolden : public testing::TestWithParam<Case> {};

TEST_P(BpeTrainerGolden, LearnsTheOraclesMerges) {
  const auto golden = nlohmann::json::parse(read("bpe-trainer/merges.json")).at(GetParam().name);
  const TokenizerSpec spec = learn(GetParam());
  EXPECT_EQ(spec.pieces.size(), golden.at("size"));
  const auto& merges = golden.at("merges");
  ASSERT_EQ(spec.merges.size(), merges.size());
  for (std::size_t i = 0; i < merges.size(); ++i) {
    const auto& [left, right] = spec.merges[i];
    ASSERT_EQ(fmt::format("{} {}", spec.pieces[static_cast<std::size_t>(value(left))],
                          spec.pieces[static_cast<std::size_t>(value(right))]),
              merges[i].get<std::string>())
        << "merge " << i;
  }
  const std::vector<std::string> last(spec.pieces.end() - 5, spec.pieces.end());
  EXPECT_EQ(nlohmann::json(last), golden.at("pieces"));
}

TEST_P(BpeTrainerGolden, WhatIsWrittenIsReadBack) {
  const auto golden = nlohmann::json::parse(read("bpe-trainer/merges.json")).at(GetParam().name);
  const TokenizerSpec spec = learn(GetParam());
  const Tokenizer again = Tokenizer::from_json(write_tokenizer_json(spec));
  EXPECT_EQ(again.pre_tokenizer(), GetParam().pre_tokenizer);
  std::vector<std::int32_t> ids;
  for (const TokenId id : again.encode("The 1234 quick brown foxes <think>")) {
    ids.push_back(value(id));
  }
  EXPECT_EQ(nlohmann::json(ids), golden.at("sample"));
  EXPECT_TRUE(again.is_special(TokenId{2}));
}

INSTANTIATE_TEST_SUITE_P(Cases, BpeTrainerGolden,
                         testing::Values(Case{"gpt-2", PreTokenizer::Gpt2, 0, 1300},
                                         Case{"smollm", PreTokenizer::SmolLm, 0, 700},
                                         Case{"deepseek-v3", PreTokenizer::DeepSeekV3, 0, 5000},
                                         Case{"deepseek-v3-frequent", PreTokenizer::DeepSeekV3, 4,
                                              5000}),
                         [](const auto& param) {
                           std::string name = param.param.name;
                           std::erase(name, '-');
                           return name;
                         });

TEST(BpeTrainer, AddedTokensAreFoundInTextAndSpecialOnesAreNot) {
  BpeTrainerOptions options;
  options.vocab_size = 300;
  options.special_tokens = {"<|end|>"};
  options.added_tokens = {"<think>"};
  const Tokenizer tokenizer =
      Tokenizer::from_json(write_tokenizer_json(BpeTrainer(options).train()));
  const auto ids =
      tokenizer.encode("<think>a<|end|>", {.add_special = false, .parse_special = false});
  EXPECT_EQ(ids.size(), 1 + 1 + 7U);
  EXPECT_EQ(ids.front(), TokenId{1});
  EXPECT_FALSE(tokenizer.is_special(TokenId{1}));
}

TEST(BpeTrainer, AnyBytesGoThroughTheVocabulary) {
  BpeTrainer trainer(options_of({"", PreTokenizer::Gpt2, 0, 300}));
  trainer.feed("aaaa aaaa bbbb");
  const Tokenizer tokenizer(trainer.train());
  std::string bytes;
  for (int b = 0; b < 256; ++b) bytes += static_cast<char>(b);
  bytes += "aaaaaaa aaa";
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(bytes)), bytes);
}

TEST(BpeTrainer, NothingToMergeGivesTheBytesAlone) {
  BpeTrainer trainer(options_of({"", PreTokenizer::Gpt2, 0, 4000}));
  EXPECT_EQ(trainer.train().pieces.size(), 259U);
  trainer.feed("x");
  EXPECT_EQ(trainer.train().pieces.size(), 259U);
  trainer.feed("xy");
  EXPECT_EQ(trainer.train().merges.size(), 1U);
}

TEST(BpeTrainer, OptionsThatCannotWorkAreNamed) {
  const auto message = [](BpeTrainerOptions options) {
    try {
      const BpeTrainer trainer(std::move(options));
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_THAT(message({200, 0, PreTokenizer::Gpt2, {}, {}, {}}),
              HasSubstr("no room for 256 bytes"));
  EXPECT_THAT(message({300, 0, PreTokenizer::Gpt2, {"<a>", "<a>"}, {}, {}}),
              HasSubstr("there twice"));
  EXPECT_THAT(message({300, 0, PreTokenizer::Gpt2, {""}, {}, {}}), HasSubstr("empty"));
  EXPECT_THAT(message({300, 0, PreTokenizer::None, {}, {}, {}}), HasSubstr("pre-tokenizer"));
}

}  // namespace
}  // namespace fathom::train
