// `fathom tokenize` and `detokenize` as programs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/run_program.h"
#include "cli/tiny_model.h"

namespace fathom::test {
namespace {

using testing::HasSubstr;

class TokenizeCommand : public testing::Test {
 protected:
  TokenizeCommand() {
    auto json = tiny_tokenizer();
    // As Llama 3's tokenizer.json says it: <|user|> plays the beginning of a text.
    json["post_processor"] = {
        {"type", "TemplateProcessing"},
        {"single",
         {{{"SpecialToken", {{"id", "<|user|>"}, {"type_id", 0}}}},
          {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
        {"pair", nlohmann::ordered_json::array()},
        {"special_tokens",
         {{"<|user|>", {{"id", "<|user|>"}, {"ids", {1}}, {"tokens", {"<|user|>"}}}}}}};
    model = make_tiny_model(folder.path());
    write_text(model / "tokenizer.json", json.dump());
    write_text(model / "tokenizer_config.json",
               R"({"tokenizer_class": "GPT2Tokenizer", "bos_token": "<|user|>"})");
  }
  nlohmann::json ids(std::vector<std::string> options, const std::string& text) {
    options.insert(options.begin(), {"tokenize", model.string(), "--json"});
    const Output output = run(options, text);
    EXPECT_EQ(output.exit_code, 0) << output.err;
    return output.json()["ids"];
  }

  TemporaryFolder folder;
  std::filesystem::path model;
};

TEST_F(TokenizeCommand, NoBosLeavesTheFirstTokenOut) {
  // "he" is a token; letters follow the five control tokens in the alphabet's order.
  EXPECT_EQ(ids({}, "hello"), nlohmann::json({1, 77, 16, 16, 19}));
  EXPECT_EQ(ids({"--no-bos"}, "hello"), nlohmann::json({77, 16, 16, 19}));
}

TEST_F(TokenizeCommand, ControlTokensAreTokensOrTextAsAsked) {
  EXPECT_EQ(ids({"--no-bos"}, "a<|end|>"), nlohmann::json({5, 0}));
  EXPECT_EQ(ids({"--no-bos", "--no-special"}, "a<|end|>").size(), 4U);  // its signs are no tokens
}

TEST_F(TokenizeCommand, JsonTellsThePiecesAndPlainOutputIsForPipes) {
  const auto json = run({"tokenize", model.string(), "--no-bos", "--json"}, "hello").json();
  EXPECT_EQ(json["count"], 4);
  EXPECT_EQ(json["pieces"], nlohmann::json({"he", "l", "l", "o"}));
  const std::string plain = run({"tokenize", model.string(), "--no-bos"}, "hello").out;
  EXPECT_EQ(plain, "77 16 16 19\n");
  EXPECT_EQ(run({"tokenize", model.string(), "--no-bos", "--count"}, "hello").out, "4\n");
  EXPECT_EQ(run({"detokenize", model.string()}, plain).out, "hello");
  EXPECT_EQ(run({"detokenize", model.string(), "77", "16"}).out, "hel");
}

TEST_F(TokenizeCommand, WhatIsNoIdIsNamed) {
  const Output output = run({"detokenize", model.string()}, "77 abc");
  EXPECT_EQ(output.exit_code, 1);
  EXPECT_THAT(output.err, HasSubstr("'abc' is no token id"));
}

}  // namespace
}  // namespace fathom::test
