// What is known of the terminal, and the few escape sequences in use.
#pragma once

#include <cstddef>
#include <memory>

namespace fathom {

bool stdin_is_terminal();
bool stdout_is_terminal();
bool stderr_is_terminal();

/// Whether stdout takes colours: a terminal that is not "dumb", and NO_COLOR unset or empty
/// (https://no-color.org).
bool stdout_takes_colour();

/// Columns of stdout's terminal; 80 when unknown.
std::size_t terminal_width();
/// Its rows; 24 when unknown.
std::size_t terminal_height();

/// While one lives, what is typed does not show: Ctrl-C puts no ^C into an answer, and a line typed
/// ahead waits for the prompt. Does nothing where stdin is no terminal.
class QuietKeyboard {
 public:
  QuietKeyboard();
  ~QuietKeyboard();
  QuietKeyboard(const QuietKeyboard&) = delete;
  QuietKeyboard& operator=(const QuietKeyboard&) = delete;

 private:
  struct Saved;
  std::unique_ptr<Saved> saved_;
};

/// Escape sequences, empty strings where colours are unwanted.
struct Palette {
  const char* dim = "";
  const char* bold = "";
  const char* accent = "";
  const char* warning = "";
  const char* reset = "";
};
Palette stdout_palette();

}  // namespace fathom
