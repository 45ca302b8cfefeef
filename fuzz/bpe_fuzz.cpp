// Any bytes through every pre-tokenizer and both kinds of BPE: nothing is lost on the way back, and
// streaming gives the same text.
#include <fmt/format.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/byte_alphabet.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/unicode.h"

namespace {

using namespace fathom;

void check(bool holds) {
  if (!holds) std::abort();
}

std::string one_byte(int byte) { return std::string(1, static_cast<char>(byte)); }

/// The 256 bytes, and pieces of two and four of them that merge.
Tokenizer byte_level(PreTokenizer kind, Normaliser normaliser) {
  TokenizerSpec spec;
  spec.pre_tokenizer = kind;
  spec.normaliser = normaliser;
  for (int byte = 0; byte < 256; ++byte) spec.pieces.push_back(to_byte_alphabet(one_byte(byte)));
  for (const char* pair : {"  ", "aa", "th", "\xC3\xA9", "\xE4\xB8", "\n\n", "12", "'s"}) {
    const auto id = static_cast<TokenId>(spec.pieces.size());
    const auto byte = [pair](int i) {
      return static_cast<TokenId>(static_cast<unsigned char>(pair[i]));
    };
    spec.merges.emplace_back(byte(0), byte(1));
    spec.pieces.push_back(to_byte_alphabet(pair));
    spec.merges.emplace_back(id, id);
    spec.pieces.push_back(to_byte_alphabet(std::string(pair) + pair));
  }
  const auto special = static_cast<TokenId>(spec.pieces.size());
  spec.pieces.emplace_back("<|x|>");
  spec.types.assign(spec.pieces.size(), TokenType::Normal);
  spec.types.back() = TokenType::Control;
  spec.added = {{.content = "<|x|>", .id = special, .special = true}};
  return Tokenizer(std::move(spec));
}

Tokenizer sentence_piece() {
  TokenizerSpec spec;
  spec.model = TokenizerModel::SentencePieceBpe;
  spec.byte_fallback = true;
  spec.space_prefix = SpacePrefix::EverySegment;
  for (int byte = 0; byte < 256; ++byte) {
    spec.pieces.push_back(fmt::format("<0x{:02X}>", byte));
    spec.types.push_back(TokenType::Byte);
  }
  for (const char* piece : {"▁", "▁▁", "a", "aa", "aaaa", "▁a", "é", "éé", "一", "aé"}) {
    spec.pieces.emplace_back(piece);
    spec.types.push_back(TokenType::Normal);
  }
  for (std::size_t i = 0; i < spec.pieces.size(); ++i)
    spec.scores.push_back(-static_cast<float>(i));
  return Tokenizer(std::move(spec));
}

std::string plain_spaces(std::string text) {
  for (std::size_t at; (at = text.find("\xE2\x96\x81")) != std::string::npos;) {
    text.replace(at, 3, " ");
  }
  return text;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::vector<Tokenizer> tokenizers = [] {
    std::vector<Tokenizer> all;
    for (const PreTokenizer kind :
         {PreTokenizer::Gpt2, PreTokenizer::SmolLm, PreTokenizer::Llama3, PreTokenizer::DeepSeekLlm,
          PreTokenizer::DeepSeekCoder, PreTokenizer::DeepSeekV3}) {
      all.push_back(byte_level(kind, Normaliser::None));
    }
    all.push_back(byte_level(PreTokenizer::Qwen2, Normaliser::Nfc));
    all.push_back(sentence_piece());
    return all;
  }();
  const std::string text(reinterpret_cast<const char*>(data), size);
  for (const Tokenizer& tokenizer : tokenizers) {
    const std::vector<TokenId> ids = tokenizer.encode(text);
    const std::string back = tokenizer.decode(ids);
    if (tokenizer.model() == TokenizerModel::SentencePieceBpe) {
      check(back == plain_spaces(text));
    } else if (tokenizer.pre_tokenizer() == PreTokenizer::Qwen2) {
      check(text.find("<|x|>") != text.npos || back == unicode::nfc(text));
    } else {
      check(back == text);
    }
    StreamDecoder stream(tokenizer, false, false);
    std::string shown;
    for (const TokenId id : ids) shown += stream.push(id);
    check(shown + stream.finish() == to_valid_utf8(back));
  }
  return 0;
}
