#include "grammar/pattern_text.h"

namespace fathom::grammar {

std::optional<CodePoint> code_point(std::string_view text, std::size_t at) {
  const auto byte = static_cast<unsigned char>(text[at]);
  const std::size_t length = byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
  if (at + length > text.size()) return std::nullopt;
  std::uint32_t c = length == 1 ? byte : byte & (0x7FU >> length);
  for (std::size_t i = 1; i < length; ++i) {
    c = c << 6 | (static_cast<unsigned char>(text[at + i]) & 0x3FU);
  }
  return CodePoint{c, length};
}

std::vector<std::uint32_t> code_points(std::string_view text) {
  std::vector<std::uint32_t> all;
  for (std::size_t at = 0; at < text.size();) {
    const auto c = code_point(text, at);
    if (!c) break;
    all.push_back(c->value);
    at += c->bytes;
  }
  return all;
}

std::optional<std::uint32_t> PatternText::character() {
  if (!more()) return std::nullopt;
  const auto c = code_point(text_, at_);
  if (!c) return std::nullopt;
  at_ += c->bytes;
  return c->value;
}

std::optional<std::uint32_t> PatternText::hexadecimal(std::size_t digits) {
  std::uint32_t code = 0;
  for (std::size_t i = 0; i < digits; ++i) {
    const char x = peek(i);
    const int d = x >= '0' && x <= '9'   ? x - '0'
                  : x >= 'a' && x <= 'f' ? x - 'a' + 10
                  : x >= 'A' && x <= 'F' ? x - 'A' + 10
                                         : -1;
    if (d < 0) return std::nullopt;
    code = code * 16 + static_cast<std::uint32_t>(d);
  }
  at_ += digits;
  return code;
}

std::optional<std::uint32_t> PatternText::number() {
  constexpr std::size_t kMostDigits = 7;
  std::uint32_t n = 0;
  std::size_t digits = 0;
  for (; peek(digits) >= '0' && peek(digits) <= '9'; ++digits) {
    if (digits == kMostDigits) {
      too_long_ = true;
      return std::nullopt;
    }
    n = n * 10 + static_cast<std::uint32_t>(peek(digits) - '0');
  }
  at_ += digits;
  if (digits == 0) return std::nullopt;
  return n;
}

}  // namespace fathom::grammar
