// The same ids as Hugging Face `tokenizers` on 25,000 strings, from the models' own tokenizer.json.
#include "tokenizer/tokenizer_golden.h"

namespace fathom {
namespace {

using namespace test;

class RealTokenizer : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(All, RealTokenizer,
                         testing::Values("deepseek_v3", "llama2", "llama3", "qwen3"),
                         [](const auto& test) { return std::string(test.param); });

TEST_P(RealTokenizer, GivesTheOraclesIds) {
  expect_golden_ids(real_tokenizer(GetParam()), GetParam());
}

TEST_P(RealTokenizer, GivesTheOraclesIdsForLongRuns) {
  expect_golden_runs(real_tokenizer(GetParam()), GetParam());
}

TEST_P(RealTokenizer, StreamsTheTextItDecodes) {
  expect_streaming_agrees(real_tokenizer(GetParam()));
}

TEST_P(RealTokenizer, DecodesWhatItEncodedWhateverTheBytes) {
  const Tokenizer& tokenizer = real_tokenizer(GetParam());
  expect_round_trip(tokenizer, [&](const std::string& text) {
    if (tokenizer.model() == TokenizerModel::SentencePieceBpe) return with_plain_spaces(text);
    return tokenizer.pre_tokenizer() == PreTokenizer::Qwen2 ? unicode::nfc(text) : text;
  });
}

}  // namespace
}  // namespace fathom
