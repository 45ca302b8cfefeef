// What a terminal shows after a program has written to it: as much of xterm as Fathom and libedit
// use. An escape sequence that it does not know is a test's failure, not something to pass over.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

namespace fathom::test {

class Screen {
 public:
  Screen(std::size_t rows, std::size_t columns) : columns_(columns), lines_(rows) {}

  void write(std::string_view bytes) {
    for (const char c : bytes) put(c);
  }
  /// Another width; lines stay as they are, as on a terminal that does not reflow.
  void resize(std::size_t rows, std::size_t columns) {
    columns_ = columns;
    while (lines_.size() < rows) lines_.emplace_back();
  }

  /// All lines without trailing spaces, those that have scrolled away too.
  std::string text() const {
    std::string all;
    for (const std::vector<std::string>* part : {&gone_, &lines_}) {
      for (const std::string& line : *part) all += trimmed(line) + "\n";
    }
    all.erase(all.find_last_not_of('\n') + 1);
    return all;
  }
  /// The line that the cursor is in.
  std::string line() const { return trimmed(lines_[row_]); }
  std::size_t column() const { return column_; }

 private:
  static std::string trimmed(const std::string& line) {
    return line.substr(0, line.find_last_not_of(' ') + 1);
  }
  /// Where the character at `column` begins in a line of UTF-8; the line grows to have it.
  static std::size_t offset(std::string& line, std::size_t column) {
    std::size_t at = 0;
    for (std::size_t i = 0; i < column; ++i) {
      if (at >= line.size()) line += ' ';
      do ++at;
      while (at < line.size() && (static_cast<unsigned char>(line[at]) & 0xC0U) == 0x80);
    }
    return at;
  }
  void erase_columns(std::size_t begin, std::size_t count) {
    std::string& line = lines_[row_];
    const std::size_t from = offset(line, begin);
    std::size_t to = from;
    for (std::size_t i = 0; i < count && to < line.size(); ++i) {
      do ++to;
      while (to < line.size() && (static_cast<unsigned char>(line[to]) & 0xC0U) == 0x80);
    }
    line.erase(from, to - from);
  }

  void put(char c) {
    if (!escape_.empty()) {
      escape_ += c;
      const bool whole = escape_.size() == 2 ? c != '[' : c >= '@' && c <= '~';
      if (whole) {
        obey(escape_);
        escape_.clear();
      }
      return;
    }
    switch (c) {
      case '\033':
        escape_ = c;
        return;
      case '\r':
        column_ = 0;
        return;
      case '\n':
        next_line();
        return;
      case '\b':
        if (column_ > 0) --column_;
        return;
      case '\a':
        return;
      default:
        break;
    }
    std::string& line = lines_[row_];
    if ((static_cast<unsigned char>(c) & 0xC0U) == 0x80) {  // the rest of a character
      line.insert(offset(line, column_ - 1) + last_bytes_, 1, c);
      ++last_bytes_;
      return;
    }
    if (column_ >= columns_) {
      column_ = 0;
      next_line();
    }
    erase_columns(column_, 1);
    std::string& target = lines_[row_];
    target.insert(offset(target, column_), 1, c);
    ++column_;
    last_bytes_ = 1;
  }

  void next_line() {
    if (row_ + 1 < lines_.size()) {
      ++row_;
      return;
    }
    gone_.push_back(lines_.front());
    lines_.erase(lines_.begin());
    lines_.emplace_back();
  }

  void obey(const std::string& sequence) {
    const char last = sequence.back();
    const bool private_mode = sequence.find('?') != std::string::npos;
    if (sequence[1] != '[') {
      if (std::string_view("=>78").find(last) == std::string_view::npos) unknown(sequence);
      return;
    }
    if (last == 'm' || ((last == 'h' || last == 'l') && private_mode)) return;  // colours, modes
    std::size_t number = 0;
    for (const char c : sequence.substr(2)) {
      if (c >= '0' && c <= '9') number = number * 10 + static_cast<std::size_t>(c - '0');
    }
    const std::size_t count = std::max<std::size_t>(number, 1);
    std::string& line = lines_[row_];
    switch (last) {
      case 'A':
        row_ -= std::min(row_, count);
        return;
      case 'B':
        row_ = std::min(row_ + count, lines_.size() - 1);
        return;
      case 'C':
        column_ = std::min(column_ + count, columns_ - 1);
        return;
      case 'D':
        column_ -= std::min(column_, count);
        return;
      case 'G':
        column_ = count - 1;
        return;
      case 'J':
        if (number != 0) return unknown(sequence);
        line.erase(offset(line, column_));
        for (std::size_t i = row_ + 1; i < lines_.size(); ++i) lines_[i].clear();
        return;
      case 'K':
        if (number != 0) return unknown(sequence);
        line.erase(offset(line, column_));
        return;
      case 'P':
        return erase_columns(column_, count);
      case '@':
        line.insert(offset(line, column_), count, ' ');
        return;
      default:
        return unknown(sequence);
    }
  }
  static void unknown(const std::string& sequence) {
    ADD_FAILURE() << "an escape sequence that this screen does not know: ESC "
                  << sequence.substr(1);
  }

  std::size_t columns_;
  std::vector<std::string> lines_;
  std::vector<std::string> gone_;  // scrolled away at the top
  std::size_t row_ = 0;
  std::size_t column_ = 0;
  std::size_t last_bytes_ = 0;  // of the character before the cursor
  std::string escape_;          // read so far
};

}  // namespace fathom::test
