// Characters: UTF-8 one by one, the classes that pre-tokenizers ask for, and normal form C.
//
// The tables are generated from the regex engine and normaliser of Hugging Face `tokenizers`
// (unicode_tables.py), because a character that a newer Unicode calls a letter splits differently.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace fathom::unicode {

/// Bits of a character's class.
enum Class : std::uint16_t {
  kLetter = 1 << 0,        // \p{L}
  kNumber = 1 << 1,        // \p{N}
  kPunctuation = 1 << 2,   // \p{P}
  kSymbol = 1 << 3,        // \p{S}
  kMark = 1 << 4,          // \p{M}
  kSpace = 1 << 5,         // \s
  kDigit = 1 << 6,         // numeric for Hugging Face's Digits: \p{N} of a newer Unicode
  kWord = 1 << 7,          // \w
  kNfcUnsettled = 1 << 8,  // normal form C may replace or reorder it, or join it to the one before
  kNewline = 1 << 9,       // \r and \n
  // Ranges that DeepSeek's pre-tokenizers spell out (pre_tokenizer.cpp says which).
  kDeepSeekLetter = 1 << 10,
  kDeepSeekPunctuation = 1 << 11,
  kDeepSeekCjk = 1 << 12,
  kDeepSeekV3Cjk = 1 << 13,
  kAsciiPunctuation = 1 << 14,
  kAsciiLetter = 1 << 15,
};

struct Range {
  char32_t first;
  char32_t last;
};

/// code point -> class, in two steps of 256 so that the part in use stays in the cache.
class ClassTable {
 public:
  std::uint16_t operator[](char32_t c) const { return blocks_[index_[c >> 8]][c & 255]; }
  /// Classes of U+0000 to U+007F, for the fast path.
  const std::uint16_t* ascii() const { return blocks_[index_[0]].data(); }

 private:
  friend const ClassTable& classes();
  ClassTable();
  std::array<std::uint16_t, 0x110000 / 256> index_{};
  std::vector<std::array<std::uint16_t, 256>> blocks_;
};

/// Built on first use (well under a millisecond).
const ClassTable& classes();

/// One character of possibly ill-formed UTF-8.
struct Char {
  char32_t code_point;   // U+FFFD for an ill-formed part
  std::uint32_t length;  // bytes taken; 0 at the end of the text
  bool well_formed;
};

/// The character at `p`; a maximal ill-formed part counts as one (Unicode 16, section 3.9, table
/// 3-7).
Char decode(const char* p, const char* end);

/// Appends `code_point` (a scalar value) as UTF-8.
void append(std::string& out, char32_t code_point);

/// Whether normal form C is `text` itself for sure; false means: ask nfc().
bool is_surely_nfc(std::string_view text);

/// Normal form C (UAX #15), in linear time up to the sorting of runs of combining marks. Ill-formed
/// parts are kept as they are and nothing combines across them.
std::string nfc(std::string_view text);

}  // namespace fathom::unicode
