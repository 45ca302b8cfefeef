// SentencePiece from scores: the small cases that real vocabularies do not show.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cmath>

#include "base/error.h"
#include "tokenizer/tokenizer.h"

namespace fathom {
namespace {

using testing::ElementsAre;

struct Piece {
  const char* text;
  float score;
  TokenType type = TokenType::Normal;
};

TokenizerSpec spec_of(std::initializer_list<Piece> pieces) {
  TokenizerSpec spec;
  spec.model = TokenizerModel::SentencePieceBpe;
  spec.byte_fallback = true;
  for (const Piece& piece : pieces) {
    spec.pieces.emplace_back(piece.text);
    spec.scores.push_back(piece.score);
    spec.types.push_back(piece.type);
  }
  return spec;
}

std::vector<int> encode(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<int> ids;
  for (const TokenId id : tokenizer.encode(text)) ids.push_back(value(id));
  return ids;
}

TEST(SentencePiece, MergesTheBestScoreFirstAndTheLeftmostAmongEquals) {
  const Tokenizer tokenizer(
      spec_of({{"a", -9}, {"b", -9}, {"c", -9}, {"ab", -2}, {"bc", -1}, {"aa", -3}}));
  EXPECT_THAT(encode(tokenizer, "abc"), ElementsAre(0, 4));
  EXPECT_THAT(encode(tokenizer, "aaa"), ElementsAre(5, 0));
}

TEST(SentencePiece, WritesWhatHasNoPieceAsBytes) {
  TokenizerSpec spec = spec_of({{"a", -1}});
  for (int byte = 0; byte < 256; ++byte) {
    spec.pieces.push_back(fmt::format("<0x{:02X}>", byte));
    spec.scores.push_back(0);
    spec.types.push_back(TokenType::Byte);
  }
  const Tokenizer tokenizer(std::move(spec));
  EXPECT_THAT(encode(tokenizer, "aé\xFF"), ElementsAre(0, 1 + 0xC3, 1 + 0xA9, 1 + 0xFF));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("aé\xFF ")), "aé\xFF ");
  EXPECT_EQ(tokenizer.piece(TokenId{1 + 0xFF}), "\xFF");
}

TEST(SentencePiece, FusesUnknownCharactersWhereTheFileSaysSo) {
  TokenizerSpec spec = spec_of({{"<unk>", 0, TokenType::Unknown}, {"a", -1}});
  spec.unk = TokenId{0};
  EXPECT_THAT(encode(Tokenizer(spec), "xyaz"), ElementsAre(0, 0, 1, 0));
  spec.fuse_unknown = true;
  EXPECT_THAT(encode(Tokenizer(spec), "xyaz"), ElementsAre(0, 1, 0));
}

TEST(SentencePiece, UsesCharactersThatOnlyLargerPiecesHold) {
  TokenizerSpec spec =
      spec_of({{"<unk>", 0, TokenType::Unknown}, {"a", -1}, {"aé", -2}, {"éé", -3}});
  spec.unk = TokenId{0};
  const Tokenizer tokenizer(spec);
  EXPECT_THAT(encode(tokenizer, "aéééé"), ElementsAre(2, 3, 0));
}

TEST(SentencePiece, PutsASpaceBeforeTextAsTheFileSays) {
  TokenizerSpec spec = spec_of({{"▁", -1}, {"a", -1}, {"▁a", -2}});
  EXPECT_THAT(encode(Tokenizer(spec), "a"), ElementsAre(1));
  spec.space_prefix = SpacePrefix::EverySegment;
  EXPECT_THAT(encode(Tokenizer(spec), "a"), ElementsAre(2));
  EXPECT_THAT(encode(Tokenizer(spec), " a"), ElementsAre(0, 2));
  EXPECT_THAT(encode(Tokenizer(spec), ""), ElementsAre());
  spec.space_prefix = SpacePrefix::EverySegmentIfNone;
  EXPECT_THAT(encode(Tokenizer(spec), " a"), ElementsAre(2));
  EXPECT_EQ(Tokenizer(spec).decode(std::vector{TokenId{2}, TokenId{2}}), "a a");
}

TEST(SentencePiece, CutsWordsOnlyWhereNoPieceCrossesTheSpace) {
  // "a▁b" crosses: cutting before the space would lose it.
  const Tokenizer tokenizer(spec_of({{"a", -9}, {"b", -9}, {"▁", -9}, {"a▁", -1}, {"a▁b", -2}}));
  EXPECT_THAT(encode(tokenizer, "a b"), ElementsAre(4));
}

TEST(TokenizerSpec, IsRefusedWhenItContradictsItself) {
  const auto refused = [](auto&& change) {
    TokenizerSpec spec = spec_of({{"a", -1}, {"b", -2}});
    change(spec);
    EXPECT_THROW(Tokenizer{spec}, Error);
  };
  refused([](TokenizerSpec& s) { s.pieces.clear(); });
  refused([](TokenizerSpec& s) { s.scores.pop_back(); });
  refused([](TokenizerSpec& s) { s.scores[0] = NAN; });
  refused([](TokenizerSpec& s) { s.types.pop_back(); });
  refused([](TokenizerSpec& s) { s.types[0] = static_cast<TokenType>(9); });
  refused([](TokenizerSpec& s) { s.types[0] = TokenType::Byte; });
  refused([](TokenizerSpec& s) {
    s.pieces[0] = "<0x-1>";
    s.types[0] = TokenType::Byte;
  });
  refused([](TokenizerSpec& s) { s.eos = TokenId{2}; });
  refused([](TokenizerSpec& s) { s.bos = TokenId{-1}; });
  refused([](TokenizerSpec& s) { s.add_bos = true; });
  refused([](TokenizerSpec& s) { s.merges = {{TokenId{0}, TokenId{7}}}; });
  refused([](TokenizerSpec& s) { s.merges = {{TokenId{0}, TokenId{1}}}; });
  refused([](TokenizerSpec& s) { s.added = {{.content = "x", .id = TokenId{5}}}; });
  refused([](TokenizerSpec& s) { s.pieces[0] = std::string(300, 'a'); });
}

}  // namespace
}  // namespace fathom
