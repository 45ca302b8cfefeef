// The same ids as Hugging Face `tokenizers` on 25,000 strings, from GGUF vocabularies.
#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <sstream>

#include "engine/tokenizer_loader.h"
#include "tokenizer/tokenizer_golden.h"

namespace fathom {
namespace {

using namespace test;

// Bytes that a vocabulary has no token for: UTF-8 never holds most of them.
constexpr std::string_view kNotUtf8 = "\xC0\xC1\xF5\xF6\xF7\xF8\xF9\xFA\xFB\xFC\xFD\xFE\xFF";
constexpr std::string_view kNotInSmolLm2 =
    "\x04\x06\x13\x14\x16\x1D\xC0\xC1\xF1\xF2\xF5\xF6\xF7\xF8\xF9\xFA\xFB\xFC\xFD\xFE\xFF";

std::filesystem::path vocabularies() {
  return std::filesystem::path(FATHOM_SOURCE_DIR) / ".." / "shared" / "tokenizers";
}

Tokenizer load(const std::filesystem::path& path) { return load_tokenizer(*open_checkpoint(path)); }

TEST(GgufTokenizer, SmolLm2GivesTheOraclesIds) {
  const std::filesystem::path path = assets() / "SmolLM2-135M-Instruct.Q4_1.gguf";
  ASSERT_TRUE(std::filesystem::exists(path)) << "run scripts/setup";
  const Tokenizer tokenizer = load(path);
  expect_golden_ids(tokenizer, "smollm2");
  expect_golden_runs(tokenizer, "smollm2");
  expect_streaming_agrees(tokenizer);
  expect_round_trip(tokenizer, [](const auto& x) { return without_bytes(x, kNotInSmolLm2); });
}

class GgufVocabulary : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    path_ = vocabularies() / (std::string(GetParam()) + ".gguf");
    if (!std::filesystem::exists(path_)) {
      GTEST_SKIP() << "llama.cpp's vocabulary " << path_.filename() << " is not on this machine";
    }
  }
  std::filesystem::path path_;
};
INSTANTIATE_TEST_SUITE_P(All, GgufVocabulary,
                         testing::Values("deepseek-llm", "deepseek-coder", "gpt-2", "llama-spm"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST_P(GgufVocabulary, GivesTheOraclesIds) {
  const Tokenizer tokenizer = load(path_);
  expect_golden_ids(tokenizer, GetParam());
  expect_golden_runs(tokenizer, GetParam());
}

TEST_P(GgufVocabulary, DecodesWhatItEncoded) {
  const Tokenizer tokenizer = load(path_);
  const bool lacks_bytes = tokenizer.pre_tokenizer() == PreTokenizer::DeepSeekLlm ||
                           tokenizer.pre_tokenizer() == PreTokenizer::DeepSeekCoder;
  expect_round_trip(tokenizer, [&](const std::string& text) {
    if (tokenizer.model() == TokenizerModel::SentencePieceBpe) return with_plain_spaces(text);
    return lacks_bytes ? without_bytes(text, kNotUtf8) : text;
  });
}

// llama.cpp's own test strings and ids, which come with its vocabularies.
TEST_P(GgufVocabulary, GivesTheIdsThatLlamaCppRecords) {
  const Tokenizer tokenizer = load(path_);
  const std::string separator = "\n__ggml_vocab_test__\n";
  std::string texts = read_file(path_.string() + ".inp");
  std::istringstream expected(read_file(path_.string() + ".out"));
  std::string line;
  std::size_t compared = 0;
  for (std::size_t end; std::getline(expected, line); ++compared) {
    end = texts.find(separator);
    const std::string text = texts.substr(0, end);
    std::istringstream numbers(line);
    const std::vector<int> ids(std::istream_iterator<int>(numbers), {});
    std::vector<int> got;
    for (const TokenId id : tokenizer.encode(text, {.add_special = false}))
      got.push_back(value(id));
    EXPECT_EQ(got, ids) << printable(text);
    texts.erase(0, end == std::string::npos ? end : end + separator.size());
  }
  EXPECT_GT(compared, 40u);
}

}  // namespace
}  // namespace fathom
