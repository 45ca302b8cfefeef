// From files to rows: documents, tokens on disk, the order, packing, fill-in-the-middle.
#include <gmock/gmock.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <set>

#include "base/error.h"
#include "formats/test_files.h"
#include "train/bpe_trainer.h"
#include "train/documents.h"
#include "train/random.h"
#include "train/row_packer.h"
#include "train/schedule.h"
#include "train/token_corpus.h"

namespace fathom::train {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string message_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

class Data : public ::testing::Test {
 protected:
  fs::path write(const std::string& name, const std::string& text) {
    return folder_.write(name, text);
  }
  std::vector<std::string> read(const fs::path& path, DocumentOptions options = {}) {
    std::vector<std::string> texts;
    read_documents(path, options, [&](Document d) { texts.push_back(d.text); });
    return texts;
  }
  testing::ScratchFolder folder_;
};

// --- documents -----------------------------------------------------------------------------------

TEST_F(Data, LinesOfJsonAreDocuments) {
  const auto path = write("a.jsonl",
                          "{\"text\": \"one\"}\n\n{\"id\": 3, \"text\": \"zwei \\u00fc\"}\r\n"
                          "{\"text\": \"three\"}");
  EXPECT_THAT(read(path), ElementsAre("one", "zwei \xC3\xBC", "three"));
  const auto other = write("b.jsonl", "{\"question\": \"why\"}\n");
  DocumentOptions options;
  options.field = "question";
  EXPECT_THAT(read(other, options), ElementsAre("why"));
}

TEST_F(Data, AnyOtherFileIsOneDocument) {
  EXPECT_THAT(read(write("a.txt", "one\ntwo\n")), ElementsAre("one\ntwo\n"));
}

TEST_F(Data, WhatIsWrongIsNamedWithItsLine) {
  const auto told = [&](const std::string& text) {
    const auto path = write("bad.jsonl", text);
    return message_of([&] { read(path); });
  };
  EXPECT_THAT(
      told("{\"text\": \"a\"}\n{\"text\": 3}\n"),
      HasSubstr("bad.jsonl, line 2: the field 'text' should be a text, but is of type number"));
  EXPECT_THAT(told("{\"text\": \"a\"}\n{\"txt\": \"b\"}\n"),
              HasSubstr("line 2: there is no field 'text'"));
  EXPECT_THAT(told("[1]\n"), HasSubstr("line 1: expected a JSON object, found array"));
  EXPECT_THAT(told("{\"text\": \"a\"}\n{\"text\": \"b\n"), HasSubstr("line 2: not JSON"));
  EXPECT_THAT(told("{\"text\": \"\"}\n"), HasSubstr("line 1: the text is empty"));
  EXPECT_THAT(told("\n \n"), HasSubstr("has no document"));
  EXPECT_THAT(told(""), HasSubstr("is empty"));
  EXPECT_THAT(told(std::string(200, '[') + "\n"), HasSubstr("deep"));
  EXPECT_THAT(message_of([&] { read(write("bytes.txt", "a\xFF")); }), HasSubstr("not UTF-8"));
  DocumentOptions small;
  small.most_bytes = 20;
  EXPECT_THAT(message_of([&] { read(write("long.jsonl", "{\"text\": \"0123456789\"}\n"), small); }),
              HasSubstr("line 1 has 22 B, over the limit of 20 B"));
  EXPECT_THAT(message_of([&] { read(folder_.path() / "none.jsonl"); }), HasSubstr("none.jsonl"));
}

// --- tokens on disk ------------------------------------------------------------------------------

Tokenizer bytes_tokenizer() {
  BpeTrainerOptions options;
  options.vocab_size = 260;
  options.pre_tokenizer = PreTokenizer::Gpt2;
  options.special_tokens = {"<|end|>", "<|begin|>", "<|hole|>", "<|tail|>"};
  return Tokenizer(BpeTrainer(options).train());
}

class Corpus : public Data {
 protected:
  fs::path corpus(const std::string& name, const std::vector<std::string>& texts) {
    TokenCorpusWriter writer(folder_.path() / name, tokenizer_);
    for (const std::string& text : texts) writer.add(tokenizer_.encode(text));
    writer.commit();
    return folder_.path() / name;
  }
  std::string text_of(std::span<const std::uint32_t> ids) const {
    std::vector<TokenId> tokens;
    for (const auto id : ids) tokens.push_back(TokenId{static_cast<std::int32_t>(id)});
    return tokenizer_.decode(tokens);
  }
  std::string text_of(std::span<const std::int64_t> ids) const {
    std::string text;
    for (const auto id : ids)
      text += id == 0 ? "|" : tokenizer_.piece(TokenId{static_cast<std::int32_t>(id)});
    return text;
  }
  Tokenizer tokenizer_ = bytes_tokenizer();
};

TEST_F(Corpus, GivesBackWhatWasWritten) {
  const TokenCorpus one({corpus("a", {"abc", "d"}), corpus("b", {"efg", "hi", "jklmn"})});
  EXPECT_EQ(one.documents(), 5U);
  EXPECT_EQ(one.tokens(), 14U);
  std::vector<std::string> texts;
  for (std::uint64_t i = 0; i < one.documents(); ++i) texts.push_back(text_of(one.document(i)));
  EXPECT_THAT(texts, ElementsAre("abc", "d", "efg", "hi", "jklmn"));
  one.verify();
  EXPECT_NE(one.fingerprint(), TokenCorpus({folder_.path() / "a"}).fingerprint());
}

TEST_F(Corpus, DamageIsFound) {
  const fs::path path = corpus("a", {"abcdefg", "hij"});
  std::string whole;
  {
    std::ifstream in(path, std::ios::binary);
    whole.assign(std::istreambuf_iterator<char>(in), {});
  }
  for (std::size_t size = 0; size < whole.size(); ++size) {
    write("cut", whole.substr(0, size));
    EXPECT_THROW(TokenCorpus({folder_.path() / "cut"}), Error) << size;
  }
  // A flipped byte is refused at once, when its document is read, or by verify().
  for (std::size_t at = 0; at < whole.size(); ++at) {
    std::string changed = whole;
    changed[at] = static_cast<char>(changed[at] ^ 0x41);
    write("flipped", changed);
    EXPECT_THROW(
        {
          const TokenCorpus corpus({folder_.path() / "flipped"});
          corpus.document(0);
          corpus.document(1);
          corpus.verify();
        },
        Error)
        << at;
  }
}

TEST_F(Corpus, AnotherVocabularyIsRefused) {
  const TokenCorpus data({corpus("a", {"abc"})});
  BpeTrainerOptions options;
  options.vocab_size = 260;
  options.special_tokens = {"<|end|>", "<|begin|>", "<|hole|>", "<|other|>"};
  const Tokenizer other(BpeTrainer(options).train());
  EXPECT_THAT(message_of([&] { RowPacker(data, other, {}); }), HasSubstr("another vocabulary"));
}

// --- rows ----------------------------------------------------------------------------------------

PackOptions rows_of(std::size_t tokens) {
  PackOptions options;
  options.row_tokens = tokens;
  return options;
}

TEST_F(Corpus, EveryTokenIsARowsOwnOnceAnEpoch) {
  std::vector<std::string> texts;
  for (char c = 'a'; c <= 'z'; ++c) texts.push_back(std::string(1 + (c * 7) % 11, c));
  const TokenCorpus data({corpus("a", texts)});
  RowPacker packer(data, tokenizer_, rows_of(13));
  std::map<std::string, int> found;
  std::string all;
  while (packer.cursor().epoch == 0) {
    const Row row = packer.next();
    ASSERT_EQ(row.tokens.size(), 14U);
    all += text_of(std::span(row.tokens).first(13));
  }
  std::string word;
  std::vector<std::string> first_epoch;
  for (const char c : all) {
    if (c != '|') word += c;
    if (c == '|') first_epoch.push_back(std::exchange(word, ""));
  }
  first_epoch.resize(26);
  EXPECT_NE(first_epoch, texts);  // shuffled
  std::ranges::sort(first_epoch);
  std::ranges::sort(texts);
  EXPECT_EQ(first_epoch, texts);
}

TEST_F(Corpus, WhatIsAheadIsTheNextRowsFirst) {
  const TokenCorpus data({corpus("a", {"abcdefghijk", "lmnop", "qrstuvw"})});
  PackOptions options = rows_of(6);
  options.ahead = 2;
  RowPacker packer(data, tokenizer_, options);
  Row row = packer.next();
  for (int i = 0; i < 20; ++i) {
    const Row following = packer.next();
    EXPECT_TRUE(std::equal(row.tokens.begin() + 6, row.tokens.end(), following.tokens.begin()));
    row = following;
  }
}

TEST_F(Corpus, SeparateDocumentsHaveNumbersAndPositionsOfTheirOwn) {
  const TokenCorpus data({corpus("a", {"aaa", "bb"})});
  RowPacker packer(data, tokenizer_, rows_of(6));
  const Row row = packer.next();
  const std::string text = text_of(row.tokens);
  if (text.starts_with("aaa|bb")) {
    EXPECT_THAT(row.documents, ElementsAre(0, 0, 0, 0, 1, 1, 1));
    EXPECT_THAT(row.positions, ElementsAre(0, 1, 2, 3, 0, 1, 2));
  } else {
    EXPECT_TRUE(text.starts_with("bb|aaa|")) << text;
    EXPECT_THAT(row.documents, ElementsAre(0, 0, 0, 1, 1, 1, 1));
    EXPECT_THAT(row.positions, ElementsAre(0, 1, 2, 0, 1, 2, 3));
  }
  PackOptions together = rows_of(6);
  together.separate = false;
  const Row one = RowPacker(data, tokenizer_, together).next();
  EXPECT_EQ(one.tokens, row.tokens);
  EXPECT_THAT(one.documents, ElementsAre(0, 0, 0, 0, 0, 0, 0));
  EXPECT_THAT(one.positions, ElementsAre(0, 1, 2, 3, 4, 5, 6));
}

TEST_F(Corpus, ARunGoesOnWhereItStopped) {
  std::vector<std::string> texts;
  for (int i = 0; i < 40; ++i)
    texts.push_back(
        std::string(static_cast<std::size_t>(1 + i % 9), static_cast<char>('a' + i % 26)));
  const TokenCorpus data({corpus("a", texts)});
  PackOptions options = rows_of(17);
  options.middle = {0.5, TokenId{1}, TokenId{2}, TokenId{3}};
  RowPacker whole(data, tokenizer_, options);
  for (int stop = 0; stop < 60; ++stop) {
    RowPacker again(data, tokenizer_, options);
    again.seek(whole.cursor());
    EXPECT_EQ(again.next().tokens, whole.next().tokens) << stop;
  }
  EXPECT_GT(whole.cursor().epoch, 1U);
}

TEST_F(Corpus, TheMiddleIsFilledInAtItsRateAndNothingIsLost) {
  std::vector<std::string> texts;
  for (int i = 0; i < 400; ++i) texts.push_back("document \xC3\xBC " + std::to_string(i));
  const TokenCorpus data({corpus("a", texts)});
  PackOptions options = rows_of(64);
  options.middle = {0.1, TokenId{1}, TokenId{2}, TokenId{3}};
  RowPacker packer(data, tokenizer_, options);
  std::vector<std::int64_t> all;
  while (packer.cursor().epoch == 0) {
    const Row row = packer.next();
    all.insert(all.end(), row.tokens.begin(), row.tokens.begin() + 64);
  }
  std::set<std::string> found;
  int turned = 0;
  std::vector<std::int64_t> part;
  std::vector<std::string> parts;
  bool middle = false;
  for (const std::int64_t id : all) {
    if (id > 3) {
      part.push_back(id);
      continue;
    }
    parts.push_back(text_of(part));
    part.clear();
    if (id != 0) middle = true;
    if (id != 0) continue;
    if (middle) {  // "", prefix, suffix, middle
      ++turned;
      ASSERT_EQ(parts.size(), 4U);
      EXPECT_EQ(parts[0], "");
      found.insert(parts[1] + parts[3] + parts[2]);
    } else {
      found.insert(parts[0]);
    }
    parts.clear();
    middle = false;
  }
  for (const std::string& text : texts) EXPECT_TRUE(found.contains(text)) << text;
  EXPECT_GT(turned, 20);
  EXPECT_LT(turned, 70);
}

// --- schedules -----------------------------------------------------------------------------------

TEST(Schedule, FollowsV3sReport) {
  RateSchedule rate{2.2e-4, 2000, RateShape::V3};
  EXPECT_NEAR(rate.at(999, 0.001), 1.1e-4, 1e-9);
  EXPECT_DOUBLE_EQ(rate.at(5000, 9.9 / 14.8), 2.2e-4);
  EXPECT_NEAR(rate.at(5000, (10 + 4.3 / 2) / 14.8), (2.2e-4 + 2.2e-5) / 2, 1e-9);
  EXPECT_NEAR(rate.at(5000, 14.4 / 14.8), 2.2e-5, 1e-12);
  EXPECT_NEAR(rate.at(5000, 14.7 / 14.8), 7.3e-6, 1e-12);
  const BatchSchedule batch{3072, 15360};
  EXPECT_EQ(batch.at(0), 3072);
  EXPECT_EQ(batch.at(469 / 14800.0 / 2), (3072 + 15360) / 2);
  EXPECT_EQ(batch.at(0.5), 15360);
}

TEST(Schedule, OtherShapesEndWhereTheyShould) {
  const RateSchedule cosine{1, 0, RateShape::Cosine};
  EXPECT_DOUBLE_EQ(cosine.at(0, 0), 1);
  EXPECT_DOUBLE_EQ(cosine.at(9, 1), 0.1);
  const RateSchedule wsd{1, 10, RateShape::Wsd};
  EXPECT_DOUBLE_EQ(wsd.at(0, 0), 0.1);
  EXPECT_DOUBLE_EQ(wsd.at(50, 0.79), 1);
  EXPECT_NEAR(wsd.at(50, 0.9), 0.5, 1e-9);
  EXPECT_DOUBLE_EQ(wsd.at(50, 1), 0);
  EXPECT_EQ(rate_shape("v3"), RateShape::V3);
  EXPECT_STREQ(to_string(RateShape::Wsd), "wsd");
  EXPECT_THROW(rate_shape("linear"), Error);
}

TEST(Draws, DependOnTheirPlaceAlone) {
  EXPECT_EQ(Draws(1, {2, 3}).next(), Draws(1, {2, 3}).next());
  EXPECT_NE(Draws(1, {2, 3}).next(), Draws(1, {3, 2}).next());
  EXPECT_NE(Draws(1, {2, 3}).next(), Draws(2, {2, 3}).next());
  Draws draws(7, {});
  double sum = 0;
  std::vector<int> counts(5);
  for (int i = 0; i < 10000; ++i) {
    sum += draws.uniform();
    ++counts[draws.below(5)];
  }
  EXPECT_NEAR(sum / 10000, 0.5, 0.02);
  for (const int count : counts) EXPECT_NEAR(count, 2000, 200);
}

}  // namespace
}  // namespace fathom::train
