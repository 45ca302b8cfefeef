// Vocabularies on their way from Hugging Face's files to GGUF's keys.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "formats/convert.h"
#include "formats/gguf_checkpoint.h"
#include "formats/sentencepiece_model.h"
#include "formats/test_files.h"

namespace fathom {
namespace {

using nlohmann::json;
using testing::Bytes;
using ::testing::Contains;
using ::testing::ElementsAre;
using testing::error_of;
using testing::golden;
using ::testing::HasSubstr;
using testing::read_bytes;
using testing::ScratchFolder;
using ::testing::StartsWith;

json split(const std::string& regex) {
  return {{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}};
}
json byte_level(bool use_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", use_regex}};
}
json sequence(std::vector<json> parts) {
  return {{"type", "Sequence"}, {"pretokenizers", std::move(parts)}};
}

/// The tiny llama (48 rows of embedding) with a tokenizer.
struct TokenizerFolder {
  TokenizerFolder() {
    std::filesystem::copy(golden("gguf-convert/llama"), scratch.path() / "m");
    tokenizer = {{"added_tokens",
                  {{{"id", 4}, {"content", "<s>"}, {"special", true}},
                   {{"id", 5}, {"content", "<|user|>"}, {"special", false}},
                   {{"id", 6}, {"content", "<tool>"}, {"special", false}}}},
                 {"pre_tokenizer", byte_level(true)},
                 {"model",
                  {{"type", "BPE"},
                   {"vocab", {{"a", 0}, {"b", 1}, {"ab", 2}, {"\xc4\xa0", 3}}},
                   {"merges", {"a b"}}}}};
  }
  std::unique_ptr<Checkpoint> convert(ConvertOptions options = {}) {
    options.type = "F32";
    if (!tokenizer.is_null()) scratch.write("m/tokenizer.json", tokenizer.dump());
    if (!config.is_null()) scratch.write("m/tokenizer_config.json", config.dump());
    report = convert_to_gguf(scratch.path() / "m", scratch.path() / "out.gguf", options);
    return open_checkpoint(scratch.path() / "out.gguf");
  }
  std::string error() {
    return error_of([&] { convert(); }).message;
  }
  ScratchFolder scratch;
  json tokenizer;
  json config;
  ConvertReport report;
};

MetaStrings strings(const Checkpoint& model, std::string_view key) {
  return std::get<MetaStrings>(*model.metadata(key));
}
MetaInts ints(const Checkpoint& model, std::string_view key) {
  return std::get<MetaInts>(*model.metadata(key));
}

TEST(ConvertTokenizer, WritesByteLevelVocabularies) {
  TokenizerFolder folder;
  folder.config = {{"bos_token", "<s>"},
                   {"eos_token", {{"content", "<|user|>"}}},
                   {"add_bos_token", true},
                   {"chat_template", "{{ messages }}"}};
  const auto model = folder.convert();
  EXPECT_EQ(model->need_string("tokenizer.ggml.model"), "gpt2");
  EXPECT_EQ(model->need_string("tokenizer.ggml.pre"), "gpt-2");
  const MetaStrings tokens = strings(*model, "tokenizer.ggml.tokens");
  ASSERT_EQ(tokens.size(), 48u);
  EXPECT_EQ(tokens[2], "ab");
  EXPECT_EQ(tokens[3], "\xc4\xa0");
  EXPECT_EQ(tokens[7], "[PAD7]");
  const MetaInts types = ints(*model, "tokenizer.ggml.token_type");
  // Normal; special; framed like a turn marker, so control although not special; user-defined.
  EXPECT_THAT(MetaInts(types.begin(), types.begin() + 8), ElementsAre(1, 1, 1, 1, 3, 3, 4, 5));
  EXPECT_THAT(strings(*model, "tokenizer.ggml.merges"), ElementsAre("a b"));
  EXPECT_EQ(model->metadata("tokenizer.ggml.scores"), nullptr);
  EXPECT_EQ(model->need_int("tokenizer.ggml.bos_token_id"), 4);
  EXPECT_EQ(model->need_int("tokenizer.ggml.eos_token_id"), 5);
  EXPECT_EQ(model->get_bool("tokenizer.ggml.add_bos_token"), true);
  EXPECT_EQ(model->metadata("tokenizer.ggml.add_eos_token"), nullptr);
  EXPECT_EQ(model->need_string("tokenizer.chat_template"), "{{ messages }}");
  EXPECT_THAT(folder.report.notes, Contains(StartsWith("41 ids without a token")));
}

TEST(ConvertTokenizer, TakesMergesAsPairsToo) {
  TokenizerFolder folder;
  folder.tokenizer["model"]["merges"] = json::array({json::array({"a", "b"})});
  EXPECT_THAT(strings(*folder.convert(), "tokenizer.ggml.merges"), ElementsAre("a b"));
}

TEST(ConvertTokenizer, ReadsWhatThePostProcessorAdds) {
  TokenizerFolder folder;
  folder.config = {{"bos_token", "<s>"}, {"eos_token", "<tool>"}, {"add_bos_token", false}};
  const json special = {{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}};
  const json text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  folder.tokenizer["post_processor"] = {
      {"type", "Sequence"},
      {"processors",
       {byte_level(true), {{"type", "TemplateProcessing"}, {"single", {special, text}}}}}};
  const auto model = folder.convert();
  EXPECT_EQ(model->get_bool("tokenizer.ggml.add_bos_token"), true);  // what runs, not what is said
  EXPECT_EQ(model->get_bool("tokenizer.ggml.add_eos_token"), false);
}

TEST(ConvertTokenizer, KnowsPreTokenizersByWhatTheySplitOn) {
  const std::string head = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|)";
  const std::string tail = R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  const std::vector<std::pair<std::string, json>> known{
      {"gpt-2", byte_level(true)},
      {"smollm", sequence({{{"type", "Digits"}, {"individual_digits", true}}, byte_level(true)})},
      {"llama-bpe", sequence({split(head + R"(\p{N}{1,3})" + tail), byte_level(false)})},
      {"qwen2", sequence({split(head + R"(\p{N})" + tail), byte_level(false)})},
      {"deepseek-v3",
       sequence({split(R"(\p{N}{1,3})"), split("[\xe4\xb8\x80-\xe9\xbe\xa5]+"),
                 split(R"([!"#$%]+[A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|\s+)"),
                 byte_level(false)})},
      {"deepseek-coder", sequence({split("[\r\n]"),
                                   split(R"(\s?\p{L}+)"),
                                   split(R"(\s?\p{P}+)"),
                                   split("[x]+"),
                                   {{"type", "Digits"}, {"individual_digits", true}},
                                   byte_level(false)})},
      {"deepseek-llm", sequence({split("[\r\n]"),
                                 split(R"(\s?[A-Za-z]+)"),
                                 split(R"(\s?[!-/:-~]+)"),
                                 split(R"(\s+$)"),
                                 split("[x]+"),
                                 {{"type", "Digits"}, {"individual_digits", true}},
                                 byte_level(false)})},
  };
  for (const auto& [name, pre_tokenizer] : known) {
    TokenizerFolder folder;
    folder.tokenizer["pre_tokenizer"] = pre_tokenizer;
    EXPECT_EQ(folder.convert()->need_string("tokenizer.ggml.pre"), name);
  }
}

TEST(ConvertTokenizer, RefusesToGuessAPreTokenizer) {
  TokenizerFolder folder;
  folder.tokenizer["pre_tokenizer"] = sequence({split(R"(\w+)"), byte_level(false)});
  EXPECT_THAT(folder.error(), HasSubstr(R"(not known ( '\w+'))"));
  folder.tokenizer["pre_tokenizer"] = nullptr;
  EXPECT_THAT(folder.error(), HasSubstr("no pre-tokenizer"));
  ConvertOptions options;
  options.pre_tokenizer = "mine";
  EXPECT_EQ(folder.convert(options)->need_string("tokenizer.ggml.pre"), "mine");
}

TEST(ConvertTokenizer, RefusesTokenizersThatContradictTheModel) {
  TokenizerFolder large;
  large.tokenizer["model"]["vocab"]["z"] = 48;
  EXPECT_THAT(large.error(), HasSubstr("'z' with id 48, but config.json has vocab_size = 48"));
  TokenizerFolder twice;
  twice.tokenizer["model"]["vocab"]["z"] = 1;
  EXPECT_THAT(twice.error(), HasSubstr("id 1 twice"));
  TokenizerFolder negative;
  negative.tokenizer["model"]["vocab"]["z"] = -1;
  EXPECT_THAT(negative.error(), HasSubstr("'z' is not a number"));
  TokenizerFolder unigram;
  unigram.tokenizer["model"]["type"] = "Unigram";
  EXPECT_THAT(unigram.error(), HasSubstr("'Unigram', expected BPE"));
  TokenizerFolder merge;
  merge.tokenizer["model"]["merges"] = {"ab"};
  EXPECT_THAT(merge.error(), HasSubstr("not two pieces"));
  TokenizerFolder broken;
  broken.scratch.write("m/tokenizer.json", "{\"a\":");
  broken.tokenizer = nullptr;
  EXPECT_THAT(broken.error(), HasSubstr("not JSON"));
}

json sentencepiece_vocab() {
  return {{"type", "BPE"},
          {"byte_fallback", true},
          {"unk_token", "<unk>"},
          {"merges", {"a b", "ab c", "a bc", "b c"}},
          {"vocab",
           {{"<unk>", 0}, {"<0x41>", 1}, {"abc", 2}, {"ab", 3}, {"bc", 7}, {"a", 8}, {"b", 9}}}};
}

TEST(ConvertTokenizer, DerivesScoresFromTheOrderOfMerges) {
  TokenizerFolder folder;
  folder.tokenizer["model"] = sentencepiece_vocab();
  folder.tokenizer["pre_tokenizer"] = nullptr;
  const auto model = folder.convert();
  EXPECT_EQ(model->need_string("tokenizer.ggml.model"), "llama");
  const auto scores = std::get<MetaFloats>(*model->metadata("tokenizer.ggml.scores"));
  ASSERT_EQ(scores.size(), 48u);
  EXPECT_EQ(scores[3], 0);          // ab: the first merge
  EXPECT_EQ(scores[2], -1);         // abc: the second; that a third makes it too is nothing
  EXPECT_EQ(scores[7], -2);         // bc
  EXPECT_LT(scores[8], scores[7]);  // a: no merge makes it
  EXPECT_LT(scores[9], scores[8]);
  const MetaInts types = ints(*model, "tokenizer.ggml.token_type");
  EXPECT_EQ(types[0], 2);  // unknown
  EXPECT_EQ(types[1], 6);  // a byte
  EXPECT_EQ(types[2], 1);
}

/// A protocol buffer of pieces, as SentencePiece writes them.
std::string piece(const std::string& text, float score, int type) {
  const std::string score_bytes = Bytes().put(score).str();
  std::string body =
      "\x0a" + std::string(1, static_cast<char>(text.size())) + text + "\x15" + score_bytes;
  if (type != 1) body += std::string("\x18") + static_cast<char>(type);
  return "\x0a" + std::string(1, static_cast<char>(body.size())) + body;
}

TEST(ConvertTokenizer, PrefersTheSentencePieceModelItself) {
  TokenizerFolder folder;
  folder.tokenizer["model"] = sentencepiece_vocab();
  folder.scratch.write("m/tokenizer.model", piece("<unk>", 0, 2) + piece("<0x41>", 0, 6) +
                                                piece("abc", -7.5f, 1) + "\x12\x02\x08\x01");
  const auto model = folder.convert();
  EXPECT_EQ(std::get<MetaFloats>(*model->metadata("tokenizer.ggml.scores"))[2], -7.5);
  EXPECT_EQ(strings(*model, "tokenizer.ggml.tokens")[2], "abc");
  EXPECT_EQ(strings(*model, "tokenizer.ggml.tokens")[6], "<tool>");
  const MetaInts types = ints(*model, "tokenizer.ggml.token_type");
  EXPECT_THAT(MetaInts(types.begin(), types.begin() + 4), ElementsAre(2, 6, 1, 5));
}

TEST(SentencePieceModel, RefusesWhatIsCutShort) {
  const ScratchFolder folder;
  const std::string whole = piece("<unk>", 0, 2) + piece("abc", -7.5f, 1);
  EXPECT_EQ(read_sentencepiece_model(folder.write("whole", whole)).size(), 2u);
  for (std::size_t length = 0; length < whole.size(); ++length) {
    const auto path = folder.write("cut", whole.substr(0, length));
    const bool at_border = length == piece("<unk>", 0, 2).size();
    if (at_border) continue;
    EXPECT_EQ(error_of([&] { read_sentencepiece_model(path); }).code, ErrorCode::Corrupt) << length;
  }
  EXPECT_EQ(
      error_of([&] {
        read_sentencepiece_model(folder.write("long", "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f"));
      }).code,
      ErrorCode::Corrupt);
}

TEST(ConvertTokenizer, WritesNamedTemplatesAndTemplateFiles) {
  TokenizerFolder folder;
  folder.config = {
      {"chat_template",
       {{{"name", "default"}, {"template", "D"}}, {{"name", "tool_use"}, {"template", "T"}}}}};
  auto model = folder.convert();
  EXPECT_EQ(model->need_string("tokenizer.chat_template"), "D");
  EXPECT_EQ(model->need_string("tokenizer.chat_template.tool_use"), "T");
  folder.scratch.write("m/chat_template.jinja", "J");
  model = folder.convert();
  EXPECT_EQ(model->need_string("tokenizer.chat_template"), "J");
}

/// Real vocabularies; scripts/fetch_test_assets brings them.
TEST(ConvertTokenizer, KnowsTheRealOnes) {
  const auto assets = std::filesystem::path(FATHOM_SOURCE_DIR) / ".cache/assets/tokenizers";
  if (!std::filesystem::exists(assets)) {
    GTEST_SKIP() << "no real tokenizers; scripts/fetch_test_assets brings them";
  }
  struct Real {
    const char* name;
    const char* pre;
    std::int64_t bos;  // -1: none
    bool add_bos;
  };
  for (const Real& real :
       {Real{"deepseek_v3", "deepseek-v3", 0, true}, Real{"llama3_1", "llama-bpe", 128000, true},
        Real{"qwen3", "qwen2", -1, false}, Real{"llama2", "default", 1, true}}) {
    SCOPED_TRACE(real.name);
    TokenizerFolder folder;
    folder.tokenizer = nullptr;
    for (const char* file : {"tokenizer.json", "tokenizer_config.json"}) {
      std::filesystem::copy(assets / real.name / file, folder.scratch.path() / "m" / file);
    }
    // The embedding must have as many rows as the vocabulary; a file of zeros will do.
    constexpr std::uint64_t kVocab = 152'000;
    json config = json::parse(read_bytes(folder.scratch.path() / "m/config.json"));
    config["vocab_size"] = kVocab;
    config.erase("bos_token_id");
    folder.scratch.write("m/config.json", config.dump());
    const auto source = open_checkpoint(golden("gguf-convert/llama"));
    json header;
    std::string data;
    for (const std::string& name : source->names()) {
      const TensorView view = source->tensor(name);
      const bool embedding = name == "model.embed_tokens.weight";
      const std::size_t bytes = embedding ? kVocab * 32 * 4 : view.data.size();
      std::vector<std::uint64_t> shape(view.shape.dims().begin(), view.shape.dims().end());
      if (embedding) shape[0] = kVocab;
      header[name] = {
          {"dtype", "F32"}, {"shape", shape}, {"data_offsets", {data.size(), data.size() + bytes}}};
      data.resize(data.size() + bytes);
    }
    folder.scratch.write("m/model.safetensors", testing::safetensors_bytes(header.dump(), data));
    const auto model = folder.convert();
    EXPECT_EQ(model->need_string("tokenizer.ggml.pre"), real.pre);
    EXPECT_EQ(model->get_int("tokenizer.ggml.bos_token_id").value_or(-1), real.bos);
    EXPECT_EQ(model->get_bool("tokenizer.ggml.add_bos_token").value_or(false), real.add_bos);
    EXPECT_GT(strings(*model, "tokenizer.ggml.tokens").size(), 30'000u);
  }
}

}  // namespace
}  // namespace fathom
