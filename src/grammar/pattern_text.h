// Reading a text that describes others: what regular expressions and GBNF share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace fathom::grammar {

/// The code point that begins at text[at], which must be UTF-8, and its bytes; nothing if the text
/// ends within it.
struct CodePoint {
  std::uint32_t value = 0;
  std::size_t bytes = 1;
};
std::optional<CodePoint> code_point(std::string_view text, std::size_t at);
/// All of them, to where the text ends or breaks off within one.
std::vector<std::uint32_t> code_points(std::string_view text);

/// A place in a text.
class PatternText {
 public:
  explicit PatternText(std::string_view text) : text_(text) {}

  std::string_view text() const { return text_; }
  std::size_t at() const { return at_; }
  bool more() const { return at_ < text_.size(); }
  /// '\0' at the end, as at a byte that is one.
  char peek(std::size_t ahead = 0) const {
    return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0';
  }
  void skip(std::size_t bytes = 1) { at_ += bytes; }
  void go_back(std::size_t to) { at_ = to; }
  bool take(std::string_view word) {
    if (!text_.substr(at_).starts_with(word)) return false;
    at_ += word.size();
    return true;
  }
  /// The next character; nothing if there is but a part of one.
  std::optional<std::uint32_t> character();
  /// That many digits, as a number; nothing if there are others.
  std::optional<std::uint32_t> hexadecimal(std::size_t digits);
  /// A decimal number; nothing if there is none, or it has over seven digits (see too_long()).
  std::optional<std::uint32_t> number();
  bool number_is_too_long() const { return too_long_; }

 private:
  std::string_view text_;
  std::size_t at_ = 0;
  bool too_long_ = false;
};

}  // namespace fathom::grammar
