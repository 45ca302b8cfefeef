// Word wrap for text that arrives in pieces.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace fathom {

/// Columns that UTF-8 text takes in a terminal; control characters take none.
std::size_t display_width(std::string_view text);

/// Breaks lines between words so that none is cut at the terminal's edge. A word is held back until
/// it is complete, so the reader never sees one jump to the next line. Lists keep their indent;
/// fenced code is passed on as it is, because a line break that was put into code breaks it.
class TextWrap {
 public:
  /// width 0: no wrapping, and nothing is held back.
  explicit TextWrap(std::size_t width) : width_(width) {}

  std::string push(std::string_view text);
  /// What is held back.
  std::string finish();
  /// Columns of the current line that are taken, held words not counted.
  std::size_t column() const { return column_; }

 private:
  void take(std::string_view character, std::string& out);
  void flush_word(std::string& out);

  std::size_t width_;
  std::size_t column_ = 0;
  std::size_t indent_ = 0;  // of continued lines
  bool line_start_ = true;  // no word on this line yet
  bool in_code_ = false;
  std::string spaces_;  // before the word, dropped if the line breaks there
  std::string word_;
  std::string partial_;  // bytes of an unfinished character
};

}  // namespace fathom
