// Implements byte_alphabet.h.
#include "tokenizer/byte_alphabet.h"

#include "tokenizer/unicode.h"

namespace fathom {
namespace {

struct Alphabet {
  std::array<char32_t, 256> character{};
  std::array<int, 512> byte{};

  Alphabet() {
    // Printable Latin-1 stands for itself; the other bytes are moved to U+0100 and up, in order.
    byte.fill(-1);
    char32_t next = 256;
    for (int b = 0; b < 256; ++b) {
      const bool itself = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b != 0xAD);
      const char32_t c = itself ? static_cast<char32_t>(b) : next++;
      character[static_cast<std::size_t>(b)] = c;
      byte[c] = b;
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet instance;
  return instance;
}

}  // namespace

std::optional<std::string> from_byte_alphabet(std::string_view piece) {
  const Alphabet& letters = alphabet();
  std::string bytes;
  bytes.reserve(piece.size());
  const char* const end = piece.data() + piece.size();
  for (const char* p = piece.data(); p != end;) {
    const unicode::Char c = unicode::decode(p, end);
    if (c.code_point >= letters.byte.size() || letters.byte[c.code_point] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(letters.byte[c.code_point]));
    p += c.length;
  }
  return bytes;
}

std::string to_byte_alphabet(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) {
    unicode::append(text, alphabet().character[static_cast<unsigned char>(byte)]);
  }
  return text;
}

}  // namespace fathom
