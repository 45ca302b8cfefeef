// An answer as a person sees it arrive: words, not fragments; thinking dimmed and folded away.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

#include "cli/terminal.h"
#include "cli/text_wrap.h"
#include "engine/reasoning.h"

namespace fathom {

/// How the thinking before an answer is shown.
enum class ThinkingView {
  Fold,  // live in a few lines that close when the answer begins
  Show,  // in full, dimmed
  Hide   // one line says that it happened
};

struct PrinterOptions {
  bool silent = false;    // print nothing at all
  bool terminal = false;  // stdout is one: wrap, fold, colour, show status
  std::size_t width = 80;
  std::size_t height = 24;
  Palette palette;
  ThinkingView thinking = ThinkingView::Fold;
};

/// Prints one answer on stdout. Without a terminal the answer is written as it comes, and the
/// thinking only with ThinkingView::Show, between <think> and </think>.
class AnswerPrinter {
 public:
  explicit AnswerPrinter(const PrinterOptions& options);

  /// A passing remark where the answer will be ("reading the prompt 40%"); the next output takes
  /// its place. Only on a terminal.
  void status(std::string_view text);
  void print(Channel channel, std::string_view text);
  /// The end: completes the last line.
  void finish();

 private:
  void clear_status();
  void open_thinking();
  void close_thinking();
  void print_thinking(std::string_view text);
  /// Redraws the last lines of the thinking in place.
  void draw_window();
  void write(std::string_view text);

  PrinterOptions options_;
  TextWrap answer_;
  TextWrap thinking_;
  bool status_shown_ = false;
  bool in_thinking_ = false;
  bool anything_ = false;      // of the answer has been printed
  bool at_line_start_ = true;  // on the terminal
  std::string thought_;        // wrapped, for the window
  std::size_t window_rows_ = 0;
  std::size_t window_lines_shown_ = 0;
  std::chrono::steady_clock::time_point thinking_began_;
};

}  // namespace fathom
