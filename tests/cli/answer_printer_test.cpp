// What a person sees, through a terminal small enough to write here.
#include "cli/answer_printer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

namespace fathom {
namespace {

/// Rows of text under the few sequences in use: \r, \n, cursor up, erase line, erase below,
/// colours.
class Screen {
 public:
  void write(const std::string& text) {
    for (std::size_t i = 0; i < text.size(); ++i) {
      const char c = text[i];
      if (c == '\033') {
        ASSERT_EQ(text[i + 1], '[');
        const std::size_t end = text.find_first_of("AKJm", i);
        ASSERT_NE(end, std::string::npos);
        const std::string number = text.substr(i + 2, end - i - 2);
        apply(text[end], number.empty() ? 0 : std::stoul(number));
        i = end;
      } else if (c == '\r') {
        column_ = 0;
      } else if (c == '\n') {
        column_ = 0;
        if (++row_ == rows_.size()) rows_.emplace_back();
      } else {
        rows_[row_].resize(std::max(rows_[row_].size(), column_ + 1), ' ');
        rows_[row_][column_++] = c;
      }
    }
  }
  std::string text() const {
    std::string all;
    for (const std::string& row : rows_) all += row + "\n";
    while (all.ends_with("\n\n")) all.pop_back();
    return all;
  }

 private:
  void apply(char what, std::size_t count) {
    if (what == 'A') {
      ASSERT_LE(count, row_) << "the cursor left the screen";
      row_ -= count;
    }
    if (what == 'K' || what == 'J') rows_[row_].resize(std::min(rows_[row_].size(), column_));
    if (what == 'J') rows_.resize(row_ + 1);
  }

  std::vector<std::string> rows_{1};
  std::size_t row_ = 0, column_ = 0;
};

std::string captured(const std::function<void()>& work) {
  testing::internal::CaptureStdout();
  work();
  return testing::internal::GetCapturedStdout();
}

PrinterOptions terminal(ThinkingView view) {
  PrinterOptions options;
  options.terminal = true;
  options.width = 30;
  options.height = 24;
  options.palette = {"\033[2m", "\033[1m", "\033[36m", "\033[33m", "\033[0m"};
  options.thinking = view;
  return options;
}

const std::string kThought =
    "First I look at the question, then I look at it again, and again, because it is a hard one. "
    "Many lines later\nI know.\nSo.\n\nThe answer is near. It is very near now. I can feel it.\n";

std::string shown(ThinkingView view, std::size_t piece) {
  Screen screen;
  screen.write(captured([&] {
    AnswerPrinter printer(terminal(view));
    printer.status("reading the prompt, 50%");
    for (std::size_t at = 0; at < kThought.size(); at += piece) {
      printer.print(Channel::Reasoning, kThought.substr(at, piece));
    }
    printer.print(Channel::Answer, "Forty-two is the answer to it all");
    printer.finish();
  }));
  return screen.text();
}

TEST(AnswerPrinter, ThinkingFoldsToOneLineWhenTheAnswerBegins) {
  for (const std::size_t piece : {1, 3, 50, 1000}) {
    EXPECT_EQ(shown(ThinkingView::Fold, piece),
              "Thought for 0s\n\nForty-two is the answer to it\nall\n");
    EXPECT_EQ(shown(ThinkingView::Hide, piece),
              "Thought for 0s\n\nForty-two is the answer to it\nall\n");
  }
}

TEST(AnswerPrinter, WhileItLastsTheLastLinesOfThinkingShow) {
  Screen screen;
  const std::string output = captured([&] {
    AnswerPrinter printer(terminal(ThinkingView::Fold));
    for (int i = 0; i < 20; ++i) {
      printer.print(Channel::Reasoning, "line " + std::to_string(i) + "\n");
    }
    printer.print(Channel::Reasoning, "now ");
  });
  screen.write(output);
  EXPECT_EQ(screen.text(),
            "Thinking...\n  line 15\n  line 16\n  line 17\n  line 18\n  line 19\n  now\n");
}

TEST(AnswerPrinter, ShownThinkingStays) {
  const std::string text = shown(ThinkingView::Show, 7);
  EXPECT_NE(text.find("First I look at the"), std::string::npos);
  EXPECT_NE(text.find("near now. I can"), std::string::npos);
  EXPECT_TRUE(text.ends_with("Forty-two is the answer to it\nall\n")) << text;
}

TEST(AnswerPrinter, WithoutATerminalTheAnswerIsWrittenAsItComes) {
  const auto piped = [](ThinkingView view) {
    return captured([&] {
      PrinterOptions options;
      options.thinking = view;
      AnswerPrinter printer(options);
      printer.status("reading");
      printer.print(Channel::Reasoning, "Hm.");
      printer.print(Channel::Answer, "Yes, ");
      printer.print(Channel::Answer, "indeed");
      printer.finish();
    });
  };
  EXPECT_EQ(piped(ThinkingView::Hide), "Yes, indeed\n");
  EXPECT_EQ(piped(ThinkingView::Show), "<think>\nHm.\n</think>\n\nYes, indeed\n");
}

TEST(AnswerPrinter, AnAnswerThatNeverCameLeavesNoLine) {
  EXPECT_EQ(captured([] {
              AnswerPrinter printer(PrinterOptions{});
              printer.finish();
            }),
            "");
}

}  // namespace
}  // namespace fathom
