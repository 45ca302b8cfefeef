// The methods of strings, dicts, lists and numbers that do not change them.
//
// Everything else that Python's types have is absent: a template finds no way from a value to the
// machine (no __class__, no format of attributes that begin with "_", no mutation).
#include <algorithm>
#include <cmath>

#include "tokenizer/jinja_runtime.h"
#include "tokenizer/jinja_text.h"

namespace fathom::jinja {
namespace {

using Body = Value (*)(Runtime&, const Value& self, Args&);

class BoundMethod : public Object {
 public:
  BoundMethod(Value self, std::string_view name, Body body)
      : self_(std::move(self)), name_(name), body_(body) {}
  std::string repr() const override { return fmt::format("<built-in method {}>", name_); }
  Value call(Runtime& runtime, Args& args) override {
    // A pass over the text is the least that a string method does.
    if (self_.is_string()) runtime.charge_text(self_.string().size());
    return body_(runtime, self_, args);
  }

 private:
  Value self_;
  std::string_view name_;
  Body body_;
};

// What a method returns is safe text if its string was.
Value like(Runtime& runtime, const Value& self, std::string_view s) {
  return runtime.text(std::string(s), self.is_safe());
}

// ---- str: new strings

template <std::string (*F)(std::string_view)>
Value mapped(Runtime& runtime, const Value& self, Args& args) {
  const Bound bound(runtime, "a string method", args, {});
  return like(runtime, self, F(self.string()));
}

template <text::Side side>
Value strip(Runtime& runtime, const Value& self, Args& args) {
  const Bound bound(runtime, "strip", args, {"chars"});
  if (!bound.has(0) || bound[0].is_none())
    return like(runtime, self, text::strip(self.string(), side));
  const std::string_view chars = bound.string(0);
  return like(runtime, self, text::strip(self.string(), side, &chars));
}

std::string replaced(Runtime& runtime, const std::string& s, const std::string& from,
                     const std::string& to, Int count) {
  std::string out;
  size_t at = 0;
  const auto grow = [&](std::string_view more) {
    // The text may grow far beyond its parts ("a" to a page, everywhere).
    if (out.size() + more.size() > runtime.limits().max_output_bytes) {
      runtime.limit_error("a text of more than {} bytes", runtime.limits().max_output_bytes);
    }
    out += more;
  };
  if (from.empty()) {
    for (; count != 0; --count) {  // between all characters, and at both ends
      runtime.charge(1);
      grow(to);
      if (at >= s.size()) return out;
      const size_t size = text::decode(s, at).size;
      grow(std::string_view(s).substr(at, size));
      at += size;
    }
  }
  for (; count != 0; --count) {
    const size_t hit = from.empty() ? std::string::npos : text::find(s, from, at);
    if (hit == std::string::npos) break;
    runtime.charge(1);
    grow(std::string_view(s).substr(at, hit - at));
    grow(to);
    at = hit + from.size();
  }
  grow(std::string_view(s).substr(at));
  return out;
}

Value replace(Runtime& runtime, const Value& self, Args& args) {
  const Bound bound(runtime, "replace", args, {"old", "new", "count"}, 2);
  return like(
      runtime, self,
      replaced(runtime, self.string(), bound.string(0), bound.string(1), bound.integer(2, -1)));
}

Value remove_prefix(Runtime& runtime, const Value& self, Args& args) {
  const Bound bound(runtime, "removeprefix", args, {"prefix"}, 1);
  std::string_view s = self.string();
  if (s.starts_with(bound.string(0))) s.remove_prefix(bound.string(0).size());
  return like(runtime, self, s);
}

Value remove_suffix(Runtime& runtime, const Value& self, Args& args) {
  const Bound bound(runtime, "removesuffix", args, {"suffix"}, 1);
  std::string_view s = self.string();
  if (s.ends_with(bound.string(0))) s.remove_suffix(bound.string(0).size());
  return like(runtime, self, s);
}

/// ljust, rjust, center and zfill: `where` says how many of the blanks go to the left.
Value justified(Runtime& runtime, const Value& self, Args& args, std::string_view name,
                Int (*where)(Int blanks, Int width)) {
  const Bound bound(runtime, name, args, {"width", "fillchar"}, 1);
  const Int width = bound.integer(0, 0);
  const std::string fill = bound.has(1) ? bound.string(1) : name == "zfill" ? "0" : " ";
  if (text::length(fill) != 1) runtime.error("the fill character must be exactly one character");
  const Int blanks = width - runtime.length(self);
  if (blanks <= 0) return self;
  if (blanks > static_cast<Int>(runtime.limits().max_output_bytes)) {
    runtime.limit_error("a text of more than {} bytes", runtime.limits().max_output_bytes);
  }
  runtime.charge_text(static_cast<size_t>(blanks));
  runtime.allocate(static_cast<size_t>(blanks) * fill.size());
  const Int left = where(blanks, width);
  std::string out;
  std::string_view rest = self.string();
  if (name == "zfill" && (rest.starts_with('-') || rest.starts_with('+'))) {
    out += rest[0];
    rest.remove_prefix(1);
  }
  for (Int i = 0; i < left; ++i) out += fill;
  out += rest;
  for (Int i = left; i < blanks; ++i) out += fill;
  return like(runtime, self, out);
}

Value ljust(Runtime& runtime, const Value& self, Args& args) {
  return justified(runtime, self, args, "ljust", [](Int, Int) { return Int{0}; });
}
Value rjust(Runtime& runtime, const Value& self, Args& args) {
  return justified(runtime, self, args, "rjust", [](Int blanks, Int) { return blanks; });
}
Value zfill(Runtime& runtime, const Value& self, Args& args) {
  return justified(runtime, self, args, "zfill", [](Int blanks, Int) { return blanks; });
}
Value center(Runtime& runtime, const Value& self, Args& args) {
  // CPython gives the odd blank to the left only when the width is odd too.
  return justified(runtime, self, args, "center",
                   [](Int blanks, Int width) { return blanks / 2 + (blanks & width & 1); });
}

Value join(Runtime& runtime, const Value& self, Args& args) {
  const Bound bound(runtime, "join", args, {"iterable"}, 1);
  std::string out;
  bool first = true;
  for (const Value& item : runtime.iterate(bound[0])) {
    if (!item.is_string()) {
      runtime.error("join() needs strings, found '{}'", type_name(item));
    }
    if (!std::exchange(first, false)) out += self.string();
    out += item.string();
    runtime.charge_text(item.string().size() + self.string().size());
    if (out.size() > runtime.limits().max_output_bytes) {
      runtime.limit_error("a text of more than {} bytes", runtime.limits().max_output_bytes);
    }
  }
  return like(runtime, self, out);
}

Value format(Runtime& runtime, const Value& self, Args& args) {
  return like(runtime, self, brace_format(runtime, self.string(), args));
}

Value expand_tabs(Runtime& runtime, const Value& self, Args& args) {
  const Bound bound(runtime, "expandtabs", args, {"tabsize"});
  const Int size = bound.integer(0, 8);
  if (size > 1000) runtime.limit_error("a tab wider than 1000 characters");
  std::string out;
  Int column = 0;
  for (const char c : self.string()) {
    if (c == '\t') {
      const Int blanks = size > 0 ? size - column % size : 0;
      out.append(static_cast<size_t>(blanks), ' ');
      column += blanks;
    } else {
      out += c;
      if ((c & 0xC0) != 0x80) ++column;
      if (c == '\n' || c == '\r') column = 0;
    }
    if (out.size() > runtime.limits().max_output_bytes) {
      runtime.limit_error("a text of more than {} bytes", runtime.limits().max_output_bytes);
    }
  }
  return like(runtime, self, out);
}

// ---- str: pieces

/// split() on white space; `limit` pieces are cut off before the rest stays whole.
std::vector<std::string_view> split_space(std::string_view s, Int limit, bool from_right) {
  std::vector<std::string_view> parts;
  const text::Side side = from_right ? text::Side::Right : text::Side::Left;
  s = text::strip(s, side);
  const std::vector<text::CodePoint> points = text::code_points(s);
  size_t begin = 0;
  size_t end = points.size();
  const auto cut = [&](size_t a, size_t b) {
    const size_t from = points[a].offset;
    const size_t to = b == points.size() ? s.size() : points[b].offset;
    return s.substr(from, to - from);
  };
  while (begin < end) {
    if (limit-- == 0) {
      parts.push_back(
          text::strip(cut(begin, end), from_right ? text::Side::Right : text::Side::Left));
      break;
    }
    if (from_right) {
      size_t word = end;
      while (word > begin && !text::is_space(points[word - 1].value)) --word;
      parts.push_back(cut(word, end));
      end = word;
      while (end > begin && text::is_space(points[end - 1].value)) --end;
    } else {
      size_t word = begin;
      while (word < end && !text::is_space(points[word].value)) ++word;
      parts.push_back(cut(begin, word));
      begin = word;
      while (begin < end && text::is_space(points[begin].value)) ++begin;
    }
  }
  if (from_right) std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string_view> split_on(std::string_view s, const std::string& separator, Int limit,
                                       bool from_right) {
  std::vector<size_t> hits;
  if (!from_right) {
    for (size_t at = text::find(s, separator); at != std::string_view::npos && limit-- != 0;
         at = text::find(s, separator, at + separator.size())) {
      hits.push_back(at);
    }
  } else {
    // Hits from the right do not overlap each other either, so a mirrored search is needed.
    const std::string mirrored(s.rbegin(), s.rend());
    const std::string needle(separator.rbegin(), separator.rend());
    for (size_t at = text::find(mirrored, needle); at != std::string::npos && limit-- != 0;
         at = text::find(mirrored, needle, at + needle.size())) {
      hits.insert(hits.begin(), s.size() - at - needle.size());
    }
  }
  std::vector<std::string_view> parts;
  size_t begin = 0;
  for (const size_t hit : hits) {
    parts.push_back(s.substr(begin, hit - begin));
    begin = hit + separator.size();
  }
  parts.push_back(s.substr(begin));
  return parts;
}

Value as_list(Runtime& runtime, const Value& self, const std::vector<std::string_view>& parts) {
  std::vector<Value> items;
  for (const std::string_view part : parts) items.push_back(like(runtime, self, part));
  return runtime.list(std::move(items));
}

Value split_from(Runtime& runtime, const Value& self, Args& args, bool from_right) {
  const Bound bound(runtime, "split", args, {"sep", "maxsplit"});
  const Int limit = bound.integer(1, -1);
  if (!bound.has(0) || bound[0].is_none()) {
    return as_list(runtime, self, split_space(self.string(), limit, from_right));
  }
  if (bound.string(0).empty()) runtime.error("empty separator");
  return as_list(runtime, self, split_on(self.string(), bound.string(0), limit, from_right));
}
Value split(Runtime& runtime, const Value& self, Args& args) {
  return split_from(runtime, self, args, false);
}
Value rsplit(Runtime& runtime, const Value& self, Args& args) {
  return split_from(runtime, self, args, true);
}

Value split_lines(Runtime& runtime, const Value& self, Args& args) {
  const Bound bound(runtime, "splitlines", args, {"keepends"});
  const std::string_view s = self.string();
  std::vector<std::string_view> parts;
  size_t begin = 0;
  for (size_t at = 0; at < s.size();) {
    const text::CodePoint c = text::decode(s, at);
    size_t next = at + c.size;
    if (text::is_line_break(c.value)) {
      if (c.value == '\r' && next < s.size() && s[next] == '\n') ++next;
      parts.push_back(s.substr(begin, (bound.flag(0, false) ? next : at) - begin));
      begin = next;
    }
    at = next;
  }
  if (begin < s.size()) parts.push_back(s.substr(begin));
  return as_list(runtime, self, parts);
}

Value partition_at(Runtime& runtime, const Value& self, Args& args, bool last) {
  const Bound bound(runtime, "partition", args, {"sep"}, 1);
  const std::string& separator = bound.string(0);
  const std::string_view s = self.string();
  if (separator.empty()) runtime.error("empty separator");
  const std::vector<std::string_view> parts = split_on(s, separator, 1, last);
  std::vector<Value> three;
  if (parts.size() == 2) {
    three = {like(runtime, self, parts[0]), like(runtime, self, separator),
             like(runtime, self, parts[1])};
  } else if (last) {
    three = {like(runtime, self, ""), like(runtime, self, ""), self};
  } else {
    three = {self, like(runtime, self, ""), like(runtime, self, "")};
  }
  return runtime.tuple(std::move(three));
}
Value partition(Runtime& runtime, const Value& self, Args& args) {
  return partition_at(runtime, self, args, false);
}
Value rpartition(Runtime& runtime, const Value& self, Args& args) {
  return partition_at(runtime, self, args, true);
}

// ---- str: questions

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
  for (const text::CodePoint& c : text::code_points(self.string())) {
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
  const std::vector<text::CodePoint> points = text::code_points(self.string());
  if (points.empty() || !text::is_identifier_start(points[0].value)) return Value(false);
  return Value(std::all_of(points.begin(), points.end(),
                           [](const auto& c) { return text::is_identifier_part(c.value); }));
}

// ---- dict, list, tuple, float

Value dict_get(Runtime& runtime, const Value& self, Args& args) {
  if (!args.keyword.empty()) runtime.error("get() takes no keyword arguments");
  const Bound bound(runtime, "get", args, {"key", "default"}, 1);
  const Value* found = runtime.find_key(self.dict(), bound[0]);
  return found != nullptr ? *found : bound.get(1, Value(nullptr));
}

template <Sequence::Form form>
Value dict_view(Runtime& runtime, const Value& self, Args& args) {
  const Bound bound(runtime, "a dict method", args, {});
  std::vector<Value> items;
  for (const auto& [key, value] : self.dict().items) {
    if (form == Sequence::Form::Keys) {
      items.push_back(key);
    } else if (form == Sequence::Form::Values) {
      items.push_back(value);
    } else {
      items.push_back(runtime.tuple({key, value}));
    }
  }
  return runtime.list(std::move(items), form);
}

Value copy(Runtime& runtime, const Value& self, Args& args) {
  const Bound bound(runtime, "copy", args, {});
  return self;  // nobody can change either
}

Value list_count(Runtime& runtime, const Value& self, Args& args) {
  const Bound bound(runtime, "count", args, {"value"}, 1);
  Int hits = 0;
  for (const Value& item : self.sequence().items) hits += runtime.equal(item, bound[0]) ? 1 : 0;
  return Value(hits);
}

Value list_index(Runtime& runtime, const Value& self, Args& args) {
  const Bound bound(runtime, "index", args, {"value", "start", "stop"}, 1);
  const auto size = static_cast<Int>(self.sequence().items.size());
  const auto place = [&](size_t i, Int absent) {
    const Int at = bound.integer(i, absent);
    return std::clamp(at < 0 ? at + size : at, Int{0}, size);
  };
  for (Int i = place(1, 0); i < place(2, size); ++i) {
    if (runtime.equal(self.sequence().items[static_cast<size_t>(i)], bound[0])) return Value(i);
  }
  runtime.error("{} is not in list", runtime.repr(bound[0]));
}

Value is_integer(Runtime& runtime, const Value& self, Args& args) {
  const Bound bound(runtime, "is_integer", args, {});
  return Value(std::isfinite(self.real()) && self.real() == std::floor(self.real()));
}

struct Method {
  std::string_view name;
  Body body;
};

constexpr Method string_methods[] = {
    {"capitalize", mapped<text::capitalize>},
    {"casefold", mapped<text::lower>},
    {"center", center},
    {"count", count},
    {"endswith", begins_or_ends<true>},
    {"expandtabs", expand_tabs},
    {"find", find<false, false>},
    {"format", format},
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
    {"join", join},
    {"ljust", ljust},
    {"lower", mapped<text::lower>},
    {"lstrip", strip<text::Side::Left>},
    {"partition", partition},
    {"removeprefix", remove_prefix},
    {"removesuffix", remove_suffix},
    {"replace", replace},
    {"rfind", find<true, false>},
    {"rindex", find<true, true>},
    {"rjust", rjust},
    {"rpartition", rpartition},
    {"rsplit", rsplit},
    {"rstrip", strip<text::Side::Right>},
    {"split", split},
    {"splitlines", split_lines},
    {"startswith", begins_or_ends<false>},
    {"strip", strip<text::Side::Both>},
    {"swapcase", mapped<text::swap_case>},
    {"title", mapped<text::title>},
    {"upper", mapped<text::upper>},
    {"zfill", zfill},
};
constexpr Method dict_methods[] = {
    {"copy", copy},
    {"get", dict_get},
    {"items", dict_view<Sequence::Form::Items>},
    {"keys", dict_view<Sequence::Form::Keys>},
    {"values", dict_view<Sequence::Form::Values>},
};
constexpr Method list_methods[] = {{"copy", copy}, {"count", list_count}, {"index", list_index}};
constexpr Method float_methods[] = {{"is_integer", is_integer}};

std::span<const Method> methods_of(const Value& object) {
  if (object.is_string()) return string_methods;
  if (object.is_dict()) return dict_methods;
  if (object.is_sequence() && object.sequence().has_index()) return list_methods;
  if (object.kind() == Kind::Float) return float_methods;
  return {};
}

}  // namespace

std::optional<Value> method(Runtime& runtime, const Value& object, std::string_view name) {
  if (object.is_sequence() && object.sequence().is_group) {
    if (name == "grouper") return object.sequence().items[0];
    if (name == "list") return object.sequence().items[1];
  }
  for (const Method& candidate : methods_of(object)) {
    if (candidate.name == name) {
      return runtime.make<BoundMethod>({&object, 1}, object, candidate.name, candidate.body);
    }
  }
  return std::nullopt;
}

}  // namespace fathom::jinja
