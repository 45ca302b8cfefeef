#include "cli/text_wrap.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include <utf8proc.h>

namespace fathom {
namespace {

std::size_t character_length(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  if (byte < 0x80) return 1;
  if (byte >= 0xF0) return 4;
  return byte >= 0xE0 ? 3 : 2;
}

std::size_t character_width(std::string_view character) {
  utf8proc_int32_t code = -1;
  utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(character.data()),
                   static_cast<utf8proc_ssize_t>(character.size()), &code);
  if (code < 0) return 1;  // shown as a replacement character
  return static_cast<std::size_t>(std::max(0, utf8proc_charwidth(code)));
}

/// "-", "*", "12." and the like at the start of a line.
bool is_list_marker(std::string_view word) {
  if (word == "-" || word == "*" || word == "\u2022") return true;
  if (word.size() < 2 || word.size() > 4 || (word.back() != '.' && word.back() != ')'))
    return false;
  return std::all_of(word.begin(), word.end() - 1, [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

std::size_t display_width(std::string_view text) {
  std::size_t width = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = std::min(character_length(text[at]), text.size() - at);
    width += character_width(text.substr(at, length));
    at += length;
  }
  return width;
}

std::string TextWrap::push(std::string_view text) {
  if (width_ == 0) return std::string(text);
  std::string out;
  for (const char c : text) {
    partial_ += c;
    if (partial_.size() < character_length(partial_[0])) continue;
    take(partial_, out);
    partial_.clear();
  }
  return out;
}

std::string TextWrap::finish() {
  std::string out;
  flush_word(out);
  out += std::exchange(spaces_, {}) + std::exchange(partial_, {});
  return out;
}

void TextWrap::take(std::string_view character, std::string& out) {
  if (character == "\n") {
    flush_word(out);
    out += '\n';
    spaces_.clear();
    column_ = 0;
    indent_ = 0;
    line_start_ = true;
  } else if (character == " " || character == "\t") {
    flush_word(out);
    spaces_ += character;
  } else {
    word_ += character;
    // Scripts written without spaces break after any character, and so must a word that is longer
    // than a line.
    if (character_width(character) > 1 || display_width(word_) + indent_ >= width_) flush_word(out);
  }
}

void TextWrap::flush_word(std::string& out) {
  if (word_.empty()) return;
  if (line_start_) {
    if (word_.starts_with("```")) in_code_ = !in_code_;
    indent_ = spaces_.size();
    if (is_list_marker(word_)) indent_ += display_width(word_) + 1;
    if (indent_ > width_ / 2) indent_ = 0;
    line_start_ = false;
  }
  const std::size_t taken = display_width(word_);
  if (!in_code_ && column_ > indent_ && column_ + spaces_.size() + taken > width_) {
    out += '\n' + std::string(indent_, ' ');
    column_ = indent_;
  } else {
    out += spaces_;
    column_ += spaces_.size();
  }
  out += word_;
  column_ += taken;
  spaces_.clear();
  word_.clear();
}

}  // namespace fathom
