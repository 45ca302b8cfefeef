// A vocabulary small enough to think about: one token a character, and three control tokens.
#pragma once

#include <string>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace fathom::test {

inline constexpr TokenId kEnd{0};
inline constexpr TokenId kThink{1};
inline constexpr TokenId kEndThink{2};
inline constexpr std::size_t kVocabulary = 86;

/// Ids 0 to 2 are <|end|>, <think>, </think>; then a to z, A to Z, and some signs. "\u20ac" (three
/// bytes) is split over three tokens; after them come JSON's signs, digits, and the marks of a gap.
inline Tokenizer small_tokenizer() {
  TokenizerSpec spec;
  spec.model = TokenizerModel::ByteLevelBpe;
  spec.pre_tokenizer = PreTokenizer::Gpt2;
  spec.pieces = {"<|end|>", "<think>", "</think>"};
  for (char c = 'a'; c <= 'z'; ++c) spec.pieces.emplace_back(1, c);
  for (char c = 'A'; c <= 'Z'; ++c) spec.pieces.emplace_back(1, c);
  // Space and line break, as GPT-2's byte alphabet writes them.
  for (const char* sign : {"\u0120", "\u010a", ".", "<", ">", "/"}) spec.pieces.emplace_back(sign);
  // 0xE2 0x82 0xAC in the same alphabet.
  for (const char* byte : {"\u00e2", "\u0124", "\u00ac"}) spec.pieces.emplace_back(byte);
  for (const char sign : std::string("{}[]\":,0123456789-_")) spec.pieces.emplace_back(1, sign);
  for (const char* mark : {"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"}) {
    spec.pieces.emplace_back(mark);
  }
  spec.types.assign(spec.pieces.size(), TokenType::Normal);
  for (std::size_t i = 0; i < spec.pieces.size(); ++i) {
    if (i >= 3 && i + 3 < spec.pieces.size()) continue;
    AddedToken token;
    token.content = spec.pieces[i];
    token.id = TokenId{static_cast<std::int32_t>(i)};
    token.special = true;
    spec.added.push_back(token);
    spec.types[i] = TokenType::Control;
  }
  spec.eos = kEnd;
  return Tokenizer(std::move(spec));
}

inline std::vector<TokenId> ids(const std::string& text) {
  return small_tokenizer().encode(text, {.add_special = false, .parse_special = true});
}

}  // namespace fathom::test
