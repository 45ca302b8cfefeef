#include "cli/answer_printer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <vector>

#include "base/progress.h"

namespace fathom {
namespace {

constexpr std::size_t kWindowLines = 6;

/// The last `count` lines of the text.
std::vector<std::string_view> last_lines(std::string_view text, std::size_t count) {
  std::vector<std::string_view> lines;
  while (lines.size() < count) {
    const std::size_t at = text.rfind('\n');
    lines.insert(lines.begin(), at == std::string_view::npos ? text : text.substr(at + 1));
    if (at == std::string_view::npos) break;
    text = text.substr(0, at);
  }
  return lines;
}

}  // namespace

AnswerPrinter::AnswerPrinter(const PrinterOptions& options)
    : options_(options),
      // One column stays free: a terminal that has written its last one may or may not wrap.
      answer_(options.terminal ? options.width - 1 : 0),
      thinking_(options.terminal ? options.width - 3 : 0),
      window_rows_(std::min(kWindowLines, options.height > 4 ? options.height - 3 : 1)) {}

void AnswerPrinter::write(std::string_view text) {
  if (text.empty() || options_.silent) return;
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
  at_line_start_ = text.back() == '\n';
}

void AnswerPrinter::status(std::string_view text) {
  if (!options_.terminal || anything_ || in_thinking_) return;
  write(fmt::format("\r\033[K{}{}{}", options_.palette.dim, text, options_.palette.reset));
  status_shown_ = true;
}

void AnswerPrinter::clear_status() {
  if (!status_shown_) return;
  write("\r\033[K");
  status_shown_ = false;
  at_line_start_ = true;
}

void AnswerPrinter::print(Channel channel, std::string_view text) {
  if (text.empty()) return;
  clear_status();
  if (channel == Channel::Reasoning) {
    if (!in_thinking_) open_thinking();
    print_thinking(text);
    return;
  }
  if (in_thinking_) close_thinking();
  anything_ = true;
  write(answer_.push(text));
}

void AnswerPrinter::open_thinking() {
  in_thinking_ = true;
  thinking_began_ = std::chrono::steady_clock::now();
  thought_.clear();
  window_lines_shown_ = 0;
  if (!options_.terminal) {
    if (options_.thinking == ThinkingView::Show) write("<think>\n");
    return;
  }
  write(fmt::format("{}Thinking...{}\n", options_.palette.dim, options_.palette.reset));
}

void AnswerPrinter::print_thinking(std::string_view text) {
  if (!options_.terminal) {
    if (options_.thinking == ThinkingView::Show) write(text);
    return;
  }
  if (options_.thinking == ThinkingView::Hide) return;
  const std::string wrapped = thinking_.push(text);
  if (wrapped.empty()) return;
  if (options_.thinking == ThinkingView::Show) {
    write(options_.palette.dim + wrapped + options_.palette.reset);
    at_line_start_ = wrapped.back() == '\n';
    return;
  }
  thought_ += wrapped;
  // The window needs no more than its last lines.
  if (thought_.size() > 65536) thought_.erase(0, thought_.size() - 32768);
  draw_window();
}

void AnswerPrinter::draw_window() {
  // One write, each line overwritten and then cleared to its end: nothing blinks.
  std::string frame;
  if (window_lines_shown_ > 1) frame += fmt::format("\033[{}A", window_lines_shown_ - 1);
  const auto lines = last_lines(thought_, window_rows_);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    frame += fmt::format("{}\r{}  {}{}\033[K", i == 0 ? "" : "\n", options_.palette.dim, lines[i],
                         options_.palette.reset);
  }
  window_lines_shown_ = lines.size();
  write(frame);
}

void AnswerPrinter::close_thinking() {
  in_thinking_ = false;
  if (!options_.terminal) {
    if (options_.thinking == ThinkingView::Show) write("\n</think>\n\n");
    return;
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - thinking_began_).count();
  const std::string summary = fmt::format("{}Thought for {}{}\n\n", options_.palette.dim,
                                          format_duration(seconds), options_.palette.reset);
  const std::string rest = thinking_.finish();
  if (options_.thinking == ThinkingView::Show) {
    write(options_.palette.dim + rest + options_.palette.reset + "\n\n" + summary);
  } else {
    // Up over the window and its heading, which give way to the summary.
    write(
        fmt::format("\r\033[{}A\033[J{}", std::max<std::size_t>(window_lines_shown_, 1), summary));
    if (options_.thinking == ThinkingView::Hide) at_line_start_ = true;
  }
}

void AnswerPrinter::finish() {
  clear_status();
  if (in_thinking_) close_thinking();
  write(answer_.finish());
  if (anything_ && (!at_line_start_ || answer_.column() > 0)) write("\n");
}

}  // namespace fathom
