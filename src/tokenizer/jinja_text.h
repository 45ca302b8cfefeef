// Python's view of a UTF-8 string: a row of code points, with Unicode white space and letter case.
//
// Templates index and slice strings by code point. A byte that is not valid UTF-8 counts as one
// code point and passes through unchanged, as Python's "surrogateescape" would carry it, so
// rendering never loses a byte of a message.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fathom::jinja::text {

/// One code point of a string: its value (U+DC80..U+DCFF for a stray byte) and its place.
struct CodePoint {
  uint32_t value;
  uint32_t offset;  // byte offset in the string
  uint32_t size;    // bytes, 1 to 4
};

/// The code point that starts at byte `offset`; `offset < text.size()`.
CodePoint decode(std::string_view text, size_t offset);
/// Appends `value` as UTF-8; a stray byte (U+DC80..U+DCFF) is appended as that byte.
void append(std::string& out, uint32_t value);

size_t length(std::string_view text);  // in code points
bool is_ascii(std::string_view text);
/// Byte offset of code point `index`, or text.size() if the string is shorter.
size_t byte_offset(std::string_view text, size_t index);
std::vector<CodePoint> code_points(std::string_view text);

bool is_space(uint32_t c);       // str.isspace of one character
bool is_line_break(uint32_t c);  // a boundary of str.splitlines
bool is_alpha(uint32_t c);
bool is_decimal(uint32_t c);
bool is_numeric(uint32_t c);
bool is_upper(uint32_t c);
bool is_lower(uint32_t c);
bool is_printable(uint32_t c);
bool is_identifier_start(uint32_t c);
bool is_identifier_part(uint32_t c);

std::string upper(std::string_view text);
std::string lower(std::string_view text);
std::string title(std::string_view text);       // str.title
std::string capitalize(std::string_view text);  // str.capitalize
std::string swap_case(std::string_view text);

enum class Side { Left, Right, Both };
/// Without the white space, or the code points in `*chars`, at its ends; a view into `text`.
std::string_view strip(std::string_view text, Side side, const std::string_view* chars = nullptr);

/// First occurrence at or after byte `from`, in linear time; npos if there is none.
size_t find(std::string_view text, std::string_view needle, size_t from = 0);

/// HTML-escaped as markupsafe does it: & < > ' ".
std::string escape(std::string_view text);

}  // namespace fathom::jinja::text
