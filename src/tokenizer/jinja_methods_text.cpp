// Methods of strings that give a new string.
#include <utility>

#include "tokenizer/jinja_methods.h"
#include "tokenizer/jinja_text.h"

namespace fathom::jinja {
namespace {

template <std::string (*F)(std::string_view)>
Value mapped(Runtime& runtime, const Value& self, Args& args) {
  const Bound bound(runtime, "a string method", args, {});
  runtime.allocate(self.string().size() * sizeof(text::CodePoint));  // F may see the text as these
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
    runtime.check_text(out.size() + more.size());
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
  runtime.check_text(static_cast<size_t>(std::min(blanks, Int{1} << 60)));
  runtime.charge_text(static_cast<size_t>(blanks));
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
    runtime.check_text(out.size());
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
    runtime.check_text(out.size());
  }
  return like(runtime, self, out);
}

constexpr Method methods[] = {
    {"capitalize", mapped<text::capitalize>},
    {"casefold", mapped<text::lower>},
    {"center", center},
    {"expandtabs", expand_tabs},
    {"format", format},
    {"join", join},
    {"ljust", ljust},
    {"lower", mapped<text::lower>},
    {"lstrip", strip<text::Side::Left>},
    {"removeprefix", remove_prefix},
    {"removesuffix", remove_suffix},
    {"replace", replace},
    {"rjust", rjust},
    {"rstrip", strip<text::Side::Right>},
    {"strip", strip<text::Side::Both>},
    {"swapcase", mapped<text::swap_case>},
    {"title", mapped<text::title>},
    {"upper", mapped<text::upper>},
    {"zfill", zfill},
};

}  // namespace

std::span<const Method> text_methods() { return methods; }

}  // namespace fathom::jinja
