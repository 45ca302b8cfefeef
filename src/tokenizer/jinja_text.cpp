#include "tokenizer/jinja_text.h"

#include <string.h>  // memmem: glibc's is the linear-time two-way search
#include <utf8proc.h>

#include <algorithm>

namespace fathom::jinja::text {
namespace {

constexpr uint32_t stray_byte_base = 0xDC00;  // U+DC80..U+DCFF stand for the bytes 0x80..0xFF

utf8proc_category_t category(uint32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

// The upper-case forms that are longer than one code point (Unicode's SpecialCasing.txt), as far as
// living scripts use them.
struct SpecialUpper {
  uint32_t from;
  const char* upper;
  const char* title;
};
constexpr SpecialUpper special_upper[] = {
    {0x00DF, "SS", "Ss"},           {0x0149, "\u02BCN", "\u02BCN"},
    {0x01F0, "J\u030C", "J\u030C"}, {0x0587, "\u0535\u0552", "\u0535\u0582"},
    {0x1E96, "H\u0331", "H\u0331"}, {0x1E97, "T\u0308", "T\u0308"},
    {0x1E98, "W\u030A", "W\u030A"}, {0x1E99, "Y\u030A", "Y\u030A"},
    {0x1E9A, "A\u02BE", "A\u02BE"}, {0xFB00, "FF", "Ff"},
    {0xFB01, "FI", "Fi"},           {0xFB02, "FL", "Fl"},
    {0xFB03, "FFI", "Ffi"},         {0xFB04, "FFL", "Ffl"},
    {0xFB05, "ST", "St"},           {0xFB06, "ST", "St"},
};

const SpecialUpper* find_special(uint32_t c) {
  for (const SpecialUpper& entry : special_upper) {
    if (entry.from == c) return &entry;
  }
  return nullptr;
}

bool is_stray_byte(uint32_t c) {
  return c >= stray_byte_base + 0x80 && c <= stray_byte_base + 0xFF;
}

void append_upper(std::string& out, uint32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c);
  } else if (const SpecialUpper* special = find_special(c)) {
    out += special->upper;
  } else if (is_stray_byte(c)) {
    append(out, c);
  } else {
    append(out, static_cast<uint32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c))));
  }
}

void append_title(std::string& out, uint32_t c) {
  if (const SpecialUpper* special = find_special(c)) {
    out += special->title;
  } else if (is_stray_byte(c)) {
    append(out, c);
  } else {
    append(out, static_cast<uint32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(c))));
  }
}

bool is_cased(uint32_t c) {
  return is_upper(c) || is_lower(c) || category(c) == UTF8PROC_CATEGORY_LT;
}

/// Letters pass over these when they look for the end of a word (Unicode 3.13, "case-ignorable").
bool is_case_ignorable(uint32_t c) {
  switch (category(c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
      return true;
    default:
      return c == '\'' || c == '.' || c == ':' || c == 0xB7 || c == 0x2018 || c == 0x2019;
  }
}

/// A capital sigma ends a word when a letter stands before it and none behind it.
bool is_final_sigma(const std::vector<CodePoint>& points, size_t index) {
  bool letter_before = false;
  for (size_t i = index; i-- > 0;) {
    if (is_case_ignorable(points[i].value)) continue;
    letter_before = is_cased(points[i].value);
    break;
  }
  if (!letter_before) return false;
  for (size_t i = index + 1; i < points.size(); ++i) {
    if (is_case_ignorable(points[i].value)) continue;
    return !is_cased(points[i].value);
  }
  return true;
}

void append_lower(std::string& out, const std::vector<CodePoint>& points, size_t index) {
  const uint32_t c = points[index].value;
  if (c < 0x80) {
    out += static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  } else if (c == 0x03A3) {
    out += is_final_sigma(points, index) ? "\u03C2" : "\u03C3";
  } else if (c == 0x0130) {
    out += "i\u0307";
  } else if (is_stray_byte(c)) {
    append(out, c);
  } else {
    append(out, static_cast<uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
  }
}

}  // namespace

CodePoint decode(std::string_view text, size_t offset) {
  const auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<uint8_t>(text[i])); };
  const uint32_t first = byte(offset);
  const auto place = static_cast<uint32_t>(offset);
  if (first < 0x80) return {first, place, 1};
  const size_t size = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  const CodePoint stray{stray_byte_base + first, place, 1};
  if (first < 0xC2 || first > 0xF4 || text.size() - offset < size) return stray;
  uint32_t value = first & (0x7FU >> size);
  for (size_t i = 1; i < size; ++i) {
    const uint32_t next = byte(offset + i);
    if ((next & 0xC0U) != 0x80U) return stray;
    value = value << 6 | (next & 0x3FU);
  }
  // Overlong forms, surrogates and values past the last plane are not UTF-8.
  constexpr uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
  if (value < smallest[size] || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) {
    return stray;
  }
  return {value, place, static_cast<uint32_t>(size)};
}

void append(std::string& out, uint32_t value) {
  if (value < 0x80) {
    out += static_cast<char>(value);
  } else if (is_stray_byte(value)) {
    out += static_cast<char>(value - stray_byte_base);
  } else if (value < 0x800) {
    out += static_cast<char>(0xC0U | value >> 6);
    out += static_cast<char>(0x80U | (value & 0x3FU));
  } else if (value < 0x10000) {
    out += static_cast<char>(0xE0U | value >> 12);
    out += static_cast<char>(0x80U | (value >> 6 & 0x3FU));
    out += static_cast<char>(0x80U | (value & 0x3FU));
  } else {
    out += static_cast<char>(0xF0U | value >> 18);
    out += static_cast<char>(0x80U | (value >> 12 & 0x3FU));
    out += static_cast<char>(0x80U | (value >> 6 & 0x3FU));
    out += static_cast<char>(0x80U | (value & 0x3FU));
  }
}

bool is_ascii(std::string_view text) {
  return std::none_of(text.begin(), text.end(), [](char c) { return (c & 0x80) != 0; });
}

size_t length(std::string_view text) {
  size_t count = 0;
  for (size_t at = 0; at < text.size(); ++count) at += decode(text, at).size;
  return count;
}

size_t byte_offset(std::string_view text, size_t index) {
  size_t at = 0;
  for (; index > 0 && at < text.size(); --index) at += decode(text, at).size;
  return at;
}

std::vector<CodePoint> code_points(std::string_view text) {
  std::vector<CodePoint> points;
  points.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    points.push_back(decode(text, at));
    at += points.back().size;
  }
  return points;
}

bool is_space(uint32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

bool is_line_break(uint32_t c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
         c == 0x2029;
}

bool is_alpha(uint32_t c) {
  const utf8proc_category_t kind = category(c);
  return kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_LO;
}

bool is_decimal(uint32_t c) { return category(c) == UTF8PROC_CATEGORY_ND; }

bool is_numeric(uint32_t c) {
  const utf8proc_category_t kind = category(c);
  return kind >= UTF8PROC_CATEGORY_ND && kind <= UTF8PROC_CATEGORY_NO;
}

bool is_upper(uint32_t c) {
  if (c < 0x80) return c >= 'A' && c <= 'Z';
  return utf8proc_isupper(static_cast<utf8proc_int32_t>(c)) != 0;
}

bool is_lower(uint32_t c) {
  if (c < 0x80) return c >= 'a' && c <= 'z';
  return utf8proc_islower(static_cast<utf8proc_int32_t>(c)) != 0;
}

bool is_printable(uint32_t c) {
  if (c == ' ') return true;
  switch (category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
      return false;
    default:
      return true;
  }
}

bool is_identifier_start(uint32_t c) {
  return c == '_' || is_alpha(c) || category(c) == UTF8PROC_CATEGORY_NL;
}

bool is_identifier_part(uint32_t c) {
  const utf8proc_category_t kind = category(c);
  return is_identifier_start(c) || is_decimal(c) || kind == UTF8PROC_CATEGORY_MN ||
         kind == UTF8PROC_CATEGORY_MC || kind == UTF8PROC_CATEGORY_PC;
}

std::string upper(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = decode(text, at);
    append_upper(out, c.value);
    at += c.size;
  }
  return out;
}

std::string lower(std::string_view text) {
  const std::vector<CodePoint> points = code_points(text);
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < points.size(); ++i) append_lower(out, points, i);
  return out;
}

std::string title(std::string_view text) {
  const std::vector<CodePoint> points = code_points(text);
  std::string out;
  out.reserve(text.size());
  bool after_letter = false;
  for (size_t i = 0; i < points.size(); ++i) {
    if (after_letter) {
      append_lower(out, points, i);
    } else {
      append_title(out, points[i].value);
    }
    after_letter = is_cased(points[i].value);
  }
  return out;
}

std::string capitalize(std::string_view text) {
  const std::vector<CodePoint> points = code_points(text);
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < points.size(); ++i) {
    if (i == 0) {
      append_title(out, points[i].value);
    } else {
      append_lower(out, points, i);
    }
  }
  return out;
}

std::string swap_case(std::string_view text) {
  const std::vector<CodePoint> points = code_points(text);
  std::string out;
  for (size_t i = 0; i < points.size(); ++i) {
    if (is_upper(points[i].value)) {
      append_lower(out, points, i);
    } else if (is_lower(points[i].value)) {
      append_upper(out, points[i].value);
    } else {
      append(out, points[i].value);
    }
  }
  return out;
}

std::string_view strip(std::string_view text, Side side, const std::string_view* chars) {
  std::vector<uint32_t> set;
  if (chars != nullptr) {
    for (const CodePoint& c : code_points(*chars)) set.push_back(c.value);
    std::sort(set.begin(), set.end());
  }
  const auto drop = [&](uint32_t c) {
    return chars == nullptr ? is_space(c) : std::binary_search(set.begin(), set.end(), c);
  };
  size_t begin = 0;
  if (side != Side::Right) {
    while (begin < text.size()) {
      const CodePoint c = decode(text, begin);
      if (!drop(c.value)) break;
      begin += c.size;
    }
  }
  size_t end = text.size();
  if (side != Side::Left) {
    while (end > begin) {
      // Step back over continuation bytes; if they do not form one code point, take a single byte.
      size_t start = end - 1;
      while (start > begin && end - start < 4 && (text[start] & 0xC0) == 0x80) --start;
      CodePoint c = decode(text, start);
      if (start + c.size != end) c = decode(text, end - 1);
      if (!drop(c.value)) break;
      end -= c.size;
    }
  }
  return text.substr(begin, end - begin);
}

size_t find(std::string_view text, std::string_view needle, size_t from) {
  if (from > text.size()) return std::string_view::npos;
  if (needle.empty()) return from;
  const void* hit = memmem(text.data() + from, text.size() - from, needle.data(), needle.size());
  if (hit == nullptr) return std::string_view::npos;
  return static_cast<size_t>(static_cast<const char*>(hit) - text.data());
}

std::string escape(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '"':
        out += "&#34;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

}  // namespace fathom::jinja::text
