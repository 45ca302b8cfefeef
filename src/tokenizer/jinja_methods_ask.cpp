// Methods of strings that answer a question: where, how often, of what kind.
#include <algorithm>

#include "tokenizer/jinja_methods.h"
#include "tokenizer/jinja_text.h"

namespace fathom::jinja {
namespace {

/// The part of `self` between the optional `start` and `end`, in code points; nothing if they
/// cross.
struct Window {
  std::string_view text;
  size_t first;  // code points before it
  bool valid;
};

Window window(Runtime& runtime, const Value& self, const Bound& bound) {
  const std::string_view s = self.string();
  if (!bound.has(1) && !bound.has(2)) return {s, 0, true};
  const Int size = runtime.length(self);
  const auto place = [&](size_t i, Int absent) {
    if (!bound.has(i) || bound[i].is_none()) return absent;
    const Int at = bound.integer(i, 0);
    return at < 0 ? std::max(at + size, Int{0}) : at;
  };
  const Int start = place(1, 0);
  const Int end = std::min(place(2, size), size);
  if (start > end) return {{}, 0, false};
  const size_t from = text::byte_offset(s, static_cast<size_t>(start));
  const size_t to = text::byte_offset(s, static_cast<size_t>(end));
  return {s.substr(from, to - from), static_cast<size_t>(start), true};
}

template <bool at_end>
Value begins_or_ends(Runtime& runtime, const Value& self, Args& args) {
  const Bound bound(runtime, at_end ? "endswith" : "startswith", args, {"prefix", "start", "end"},
                    1);
  const Window w = window(runtime, self, bound);
  const auto matches = [&](const Value& affix) {
    if (!affix.is_string()) {
      runtime.error("{} must be str or a tuple of str, not {}", at_end ? "suffix" : "prefix",
                    type_name(affix));
    }
    if (!w.valid) return false;
    return at_end ? w.text.ends_with(affix.string()) : w.text.starts_with(affix.string());
  };
  if (bound[0].is_sequence() && bound[0].sequence().form == Sequence::Form::Tuple) {
    const auto& items = bound[0].sequence().items;
    return Value(std::any_of(items.begin(), items.end(), matches));
  }
  return Value(matches(bound[0]));
}

/// find, rfind, index, rindex: the code point where `sub` begins, or -1.
Int position(Runtime& runtime, const Value& self, Args& args, bool last) {
  const Bound bound(runtime, "find", args, {"sub", "start", "end"}, 1);
  const std::string& needle = bound.string(0);
  const Window w = window(runtime, self, bound);
  if (!w.valid) return -1;
  size_t hit = std::string_view::npos;
  if (!last) {
    hit = text::find(w.text, needle);
  } else if (needle.empty()) {
    hit = w.text.size();
  } else {
    runtime.allocate(w.text.size());
    const std::string mirrored(w.text.rbegin(), w.text.rend());
    const size_t back = text::find(mirrored, std::string(needle.rbegin(), needle.rend()));
    if (back != std::string_view::npos) hit = w.text.size() - back - needle.size();
  }
  if (hit == std::string_view::npos) return -1;
  return static_cast<Int>(w.first + text::length(w.text.substr(0, hit)));
}

template <bool last, bool must>
Value find(Runtime& runtime, const Value& self, Args& args) {
  const Int at = position(runtime, self, args, last);
  if (must && at < 0) runtime.error("substring not found");
  return Value(at);
}

Value count(Runtime& runtime, const Value& self, Args& args) {
  const Bound bound(runtime, "count", args, {"sub", "start", "end"}, 1);
  const std::string& needle = bound.string(0);
  const Window w = window(runtime, self, bound);
  if (!w.valid) return Value(Int{0});
  if (needle.empty()) return Value(static_cast<Int>(text::length(w.text) + 1));
  Int hits = 0;
  for (size_t at = text::find(w.text, needle); at != std::string_view::npos;
       at = text::find(w.text, needle, at + needle.size())) {
    ++hits;
  }
  return Value(hits);
}

/// All characters pass, and there is one at least.
template <bool (*F)(uint32_t)>
Value all_are(Runtime& runtime, const Value& self, Args& args) {
  const Bound bound(runtime, "a string method", args, {});
  const std::string& s = self.string();
  for (size_t at = 0; at < s.size();) {
    const text::CodePoint c = text::decode(s, at);
    if (!F(c.value)) return Value(false);
    at += c.size;
  }
  return Value(!s.empty());
}

bool is_alnum(uint32_t c) { return text::is_alpha(c) || text::is_numeric(c); }
bool is_digit(uint32_t c) {
  return text::is_decimal(c) || c == 0xB2 || c == 0xB3 || c == 0xB9 || (c >= 0x2070 && c <= 0x2089);
}

/// isupper and islower: no letter of the other case, and one of this case.
template <bool upper>
Value is_case(Runtime& runtime, const Value& self, Args& args) {
  const Bound bound(runtime, "a string method", args, {});
  const std::string& s = self.string();
  bool any = false;
  for (size_t at = 0; at < s.size();) {
    const text::CodePoint c = text::decode(s, at);
    if (upper ? text::is_lower(c.value) : text::is_upper(c.value)) return Value(false);
    any |= upper ? text::is_upper(c.value) : text::is_lower(c.value);
    at += c.size;
  }
  return Value(any);
}

Value is_title(Runtime& runtime, const Value& self, Args& args) {
  const Bound bound(runtime, "istitle", args, {});
  bool any = false;
  bool after_letter = false;
  for (const text::CodePoint& c : runtime.code_points(self.string())) {
    const bool upper = text::is_upper(c.value);
    const bool lower = text::is_lower(c.value);
    if ((upper && after_letter) || (lower && !after_letter)) return Value(false);
    after_letter = upper || lower;
    any |= after_letter;
  }
  return Value(any);
}

Value is_ascii(Runtime& runtime, const Value& self, Args& args) {
  const Bound bound(runtime, "isascii", args, {});
  return Value(text::is_ascii(self.string()));
}

Value is_identifier(Runtime& runtime, const Value& self, Args& args) {
  const Bound bound(runtime, "isidentifier", args, {});
  const std::vector<text::CodePoint> points = runtime.code_points(self.string());
  if (points.empty() || !text::is_identifier_start(points[0].value)) return Value(false);
  return Value(std::all_of(points.begin(), points.end(),
                           [](const auto& c) { return text::is_identifier_part(c.value); }));
}

constexpr Method methods[] = {
    {"count", count},
    {"endswith", begins_or_ends<true>},
    {"find", find<false, false>},
    {"index", find<false, true>},
    {"isalnum", all_are<is_alnum>},
    {"isalpha", all_are<text::is_alpha>},
    {"isascii", is_ascii},
    {"isdecimal", all_are<text::is_decimal>},
    {"isdigit", all_are<is_digit>},
    {"isidentifier", is_identifier},
    {"islower", is_case<false>},
    {"isnumeric", all_are<text::is_numeric>},
    {"isprintable", all_are<text::is_printable>},
    {"isspace", all_are<text::is_space>},
    {"istitle", is_title},
    {"isupper", is_case<true>},
    {"rfind", find<true, false>},
    {"rindex", find<true, true>},
    {"startswith", begins_or_ends<false>},
};

}  // namespace

std::span<const Method> ask_methods() { return methods; }

}  // namespace fathom::jinja
