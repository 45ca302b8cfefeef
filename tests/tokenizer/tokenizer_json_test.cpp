// tokenizer.json: what is understood, and that everything else is refused by name.
#include <gmock/gmock.h>

#include "base/error.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/tokenizer_golden.h"

namespace fathom {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

/// A byte-level tokenizer of the 256 bytes and " t", " th", " the".
json tiny() {
  json vocab;
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    vocab[to_byte_alphabet({&c, 1})] = byte;
  }
  vocab["Ġt"] = 256;
  vocab["Ġth"] = 257;
  vocab["Ġthe"] = 258;
  return {{"added_tokens", json::array({{{"id", 259}, {"content", "<end>"}, {"special", true}}})},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
          {"post_processor", nullptr},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", {"Ġ t", "Ġt h", "Ġth e"}}}}};
}

std::vector<int> encode(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<int> ids;
  for (const TokenId id : tokenizer.encode(text)) ids.push_back(value(id));
  return ids;
}

Tokenizer load(const json& file, const json& config = json::object()) {
  return Tokenizer::from_json(file.dump(), config.dump());
}

void expect_refused(const json& file, ErrorCode code, const std::string& about,
                    const json& config = json::object()) {
  try {
    load(file, config);
    FAIL() << "accepted, expected an error about " << about;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_THAT(error.what(), HasSubstr(about));
    EXPECT_THAT(error.what(), HasSubstr("tokenizer.json"));
  }
}

TEST(TokenizerJson, MergesByRank) {
  EXPECT_THAT(encode(load(tiny()), " the ta"), ElementsAre(258, 256, 'a'));
}

TEST(TokenizerJson, ReadsMergesWrittenAsPairs) {
  json file = tiny();
  file["model"]["merges"] = json::parse(R"([["Ġ", "t"], ["Ġt", "h"], ["Ġth", "e"]])");
  EXPECT_THAT(encode(load(file), " the"), ElementsAre(258));
}

TEST(TokenizerJson, FollowsIgnoreMerges) {
  json file = tiny();
  file["model"]["merges"] = {"Ġ t"};
  EXPECT_THAT(encode(load(file), " the"), ElementsAre(256, 'h', 'e'));
  file["model"]["ignore_merges"] = true;
  EXPECT_THAT(encode(load(file), " the"), ElementsAre(258));
}

TEST(TokenizerJson, AddsWhatThePostProcessorsTemplateSays) {
  json file = tiny();
  file["post_processor"] = {
      {"type", "TemplateProcessing"},
      {"single", json::parse(R"([{"SpecialToken": {"id": "<end>"}}, {"Sequence": {"id": "A"}}])")}};
  EXPECT_THAT(encode(load(file), "a"), ElementsAre(259, 'a'));
  EXPECT_THAT(encode(load(file, {{"add_bos_token", false}}), "a"), ElementsAre('a'));
}

TEST(TokenizerJson, TakesSpecialTokensFromTheConfiguration) {
  const json config = {{"eos_token", {{"content", "<end>"}}}, {"add_eos_token", true}};
  const Tokenizer tokenizer = load(tiny(), config);
  EXPECT_EQ(tokenizer.eos(), TokenId{259});
  EXPECT_THAT(encode(tokenizer, "a"), ElementsAre('a', 259));
  expect_refused(tiny(), ErrorCode::Corrupt, "eos_token", {{"eos_token", "<gone>"}});
}

TEST(TokenizerJson, MatchesAddedTokensAsTheOracleDoes) {
  const json golden = json::parse(test::read_file(test::golden() / "added_tokens.json"));
  const Tokenizer tokenizer = load(golden["tokenizer"]);
  for (const json& c : golden["cases"]) {
    const auto text = c[0].get<std::string>();
    const auto ids = [&](bool parse_special) {
      std::vector<int> out;
      for (const TokenId id : tokenizer.encode(text, {.parse_special = parse_special})) {
        out.push_back(value(id));
      }
      return out;
    };
    EXPECT_EQ(ids(true), c[1].get<std::vector<int>>()) << text;
    EXPECT_EQ(ids(false), c[2].get<std::vector<int>>()) << text;
  }
}

TEST(TokenizerJson, NamesWhatItDoesNotImplement) {
  json file = tiny();
  file["pre_tokenizer"] = {{"type", "Split"},
                           {"pattern", {{"Regex", "[^x]+|x"}}},
                           {"behavior", "Isolated"},
                           {"invert", false}};
  expect_refused(file, ErrorCode::Unsupported, "[^x]+|x");
  file = tiny();
  file["pre_tokenizer"]["add_prefix_space"] = true;
  expect_refused(file, ErrorCode::Unsupported, "add_prefix_space");
  file["pre_tokenizer"] = nullptr;
  expect_refused(file, ErrorCode::Unsupported, "pre_tokenizer null");
  file = tiny();
  file["normalizer"] = {{"type", "Lowercase"}};
  expect_refused(file, ErrorCode::Unsupported, "Lowercase");
  file = tiny();
  file["model"]["type"] = "Unigram";
  expect_refused(file, ErrorCode::Unsupported, "Unigram");
  file = tiny();
  file["model"]["end_of_word_suffix"] = "</w>";
  expect_refused(file, ErrorCode::Unsupported, "end_of_word_suffix");
  file = tiny();
  file["post_processor"] = {{"type", "BertProcessing"}};
  expect_refused(file, ErrorCode::Unsupported, "BertProcessing");
}

TEST(TokenizerJson, RefusesContradictions) {
  json file = tiny();
  file["model"]["vocab"]["again"] = 5;
  expect_refused(file, ErrorCode::Corrupt, "same id 5");
  file = tiny();
  file["model"]["vocab"]["far"] = 60'000'000;
  expect_refused(file, ErrorCode::Corrupt, "60000000");
  for (const json& id : {json(-1), json(1ull << 40), json(1.5), json("7"), json::array()}) {
    file = tiny();
    file["model"]["vocab"]["odd"] = id;
    expect_refused(file, ErrorCode::Corrupt, "odd");
  }
  file = tiny();
  file["model"]["merges"].push_back("Ġ q");
  expect_refused(file, ErrorCode::Corrupt, "which is no token");
  file["model"]["merges"].back() = "Ġ nothere";
  expect_refused(file, ErrorCode::Corrupt, "merge 3");
  file["model"]["merges"].back() = "one";
  expect_refused(file, ErrorCode::Corrupt, "merge 3");
  file["model"]["merges"].back() = {"a", "b", "c"};
  expect_refused(file, ErrorCode::Corrupt, "merge");
  file = tiny();
  file["added_tokens"][0]["id"] = 65;
  expect_refused(file, ErrorCode::Corrupt, "<end>");
  file["added_tokens"][0]["id"] = -2;
  expect_refused(file, ErrorCode::Corrupt, "-2");
  file = tiny();
  file["model"]["unk_token"] = "<unk>";
  expect_refused(file, ErrorCode::Corrupt, "<unk>");
  file = tiny();
  file["model"].erase("vocab");
  expect_refused(file, ErrorCode::Corrupt, "vocab");
  expect_refused(json::array(), ErrorCode::Corrupt, "object");
}

TEST(TokenizerJson, RefusesWhatIsNotJson) {
  const std::string good = tiny().dump();
  EXPECT_THROW(Tokenizer::from_json(""), Error);
  EXPECT_THROW(Tokenizer::from_json(good.substr(0, good.size() / 2)), Error);
  EXPECT_THROW(Tokenizer::from_json(std::string(100000, '[')), Error);
  EXPECT_THROW(Tokenizer::from_json(std::string(good).insert(1, "\xFF")), Error);
  EXPECT_THROW(Tokenizer::from_json(good, "{"), Error);
}

TEST(TokenizerJson, RefusesAnAddedTokenTooLongToMatchInLinearTime) {
  json file = tiny();
  file["added_tokens"][0]["content"] = std::string(2000, 'a');
  expect_refused(file, ErrorCode::ResourceLimit, "2000");
}

}  // namespace
}  // namespace fathom
