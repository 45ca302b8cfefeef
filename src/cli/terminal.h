// What is known of the terminal, and the few escape sequences in use.
#pragma once

#include <cstddef>

namespace fathom {

bool stdin_is_terminal();
bool stdout_is_terminal();
bool stderr_is_terminal();

/// Whether stdout takes colours: a terminal that is not "dumb", and NO_COLOR unset or empty
/// (https://no-color.org).
bool stdout_takes_colour();

/// Columns of stdout's terminal; 80 when unknown.
std::size_t terminal_width();

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
