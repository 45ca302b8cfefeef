// Filters of one value: text, numbers, JSON. And the table of all filters.
#include "tokenizer/jinja_filters.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "tokenizer/jinja_text.h"

namespace fathom::jinja {
namespace {

/// str(x), but text marked safe stays so.
Value soft_text(Runtime& runtime, const Value& value) {
  return value.is_string() ? value : runtime.text(runtime.str(value));
}

template <std::string (*F)(std::string_view)>
Value mapped(Runtime& runtime, const Value& value, Args& args) {
  const Bound bound(runtime, "a text filter", args, {});
  const Value s = soft_text(runtime, value);
  runtime.allocate(s.string().size() * sizeof(text::CodePoint));  // F may see the text as these
  return runtime.text(F(s.string()), s.is_safe());
}

/// Jinja's title: words begin after white space and - ( { [ <, not after every non-letter.
std::string title(std::string_view s) {
  std::string out;
  size_t word = 0;
  const auto flush = [&](size_t end) {
    if (end == word) return;
    const size_t first = text::decode(s, word).size;
    out += text::upper(s.substr(word, first));
    out += text::lower(s.substr(word + first, end - word - first));
  };
  for (size_t at = 0; at < s.size();) {
    const text::CodePoint c = text::decode(s, at);
    const bool gap = text::is_space(c.value) || c.value == '-' || c.value == '(' ||
                     c.value == '{' || c.value == '[' || c.value == '<';
    if (gap) {
      flush(at);
      out += s.substr(at, c.size);
      word = at + c.size;
    }
    at += c.size;
  }
  flush(s.size());
  return out;
}

Value filter_trim(Runtime& runtime, const Value& value, Args& args) {
  return through_method(runtime, "strip", value, args);
}

Value filter_center(Runtime& runtime, const Value& value, Args& args) {
  const Bound bound(runtime, "center", args, {"width"});
  Args inner{{Value(bound.integer(0, 80))}, {}};
  return through_method(runtime, "center", value, inner);
}

Value filter_replace(Runtime& runtime, const Value& value, Args& args) {
  const Bound bound(runtime, "replace", args, {"old", "new", "count"}, 2);
  Args inner{{runtime.text(runtime.str(bound[0])), runtime.text(runtime.str(bound[1]))}, {}};
  if (bound.has(2) && !bound[2].is_none()) inner.positional.push_back(bound[2]);
  return through_method(runtime, "replace", runtime.text(runtime.str(value)), inner);
}

Value filter_format(Runtime& runtime, const Value& value, Args& args) {
  if (!args.positional.empty() && !args.keyword.empty()) {
    runtime.error("format takes positional or named arguments, not both");
  }
  Value arguments;
  if (args.keyword.empty()) {
    arguments = runtime.tuple(args.positional);
  } else {
    std::vector<std::pair<Value, Value>> items;
    for (auto& [name, item] : args.keyword) items.emplace_back(runtime.text(name), item);
    arguments = runtime.dict(std::move(items));
  }
  return runtime.text(percent_format(runtime, runtime.str(value), arguments), value.is_safe());
}

Value filter_indent(Runtime& runtime, const Value& value, Args& args) {
  const Bound bound(runtime, "indent", args, {"width", "first", "blank"});
  if (!value.is_string()) runtime.error("indent needs a string, not '{}'", type_name(value));
  std::string indent;
  if (bound.has(0) && bound[0].is_string()) {
    indent = bound[0].string();
  } else {
    const Int width = std::max(bound.integer(0, 4), Int{0});
    if (width > 10'000) runtime.limit_error("an indent wider than 10000 characters");
    indent.assign(static_cast<size_t>(width), ' ');
  }
  Args none;
  Value lines = runtime.text(value.string() + "\n");
  lines = through_method(runtime, "splitlines", lines, none);
  std::string out;
  if (bound.flag(1, false)) out += indent;
  bool first = true;
  for (const Value& line : lines.sequence().items) {
    runtime.charge_text(indent.size());
    if (!std::exchange(first, false)) {
      out += '\n';
      if (bound.flag(2, false) || !line.string().empty()) out += indent;
    }
    out += line.string();
    runtime.check_text(out.size());
  }
  return runtime.text(std::move(out), value.is_safe());
}

Value filter_truncate(Runtime& runtime, const Value& value, Args& args) {
  const Bound bound(runtime, "truncate", args, {"length", "killwords", "end", "leeway"});
  if (!value.is_string()) runtime.error("truncate needs a string, not '{}'", type_name(value));
  const std::string end = bound.has(2) ? bound.string(2) : "...";
  const Int length = bound.integer(0, 255);
  const Int leeway = bound.has(3) && bound[3].is_none() ? 5 : bound.integer(3, 5);
  const auto end_length = static_cast<Int>(text::length(end));
  if (length < end_length)
    runtime.error("truncate needs a length of {} at least", text::length(end));
  if (leeway < 0) runtime.error("truncate needs a leeway of 0 at least");
  const std::string& s = value.string();
  if (runtime.length(value) - leeway <= length) return value;
  std::string_view kept(s);
  kept = kept.substr(0, text::byte_offset(s, static_cast<size_t>(length - end_length)));
  if (!bound.flag(1, false)) {
    const size_t space = kept.rfind(' ');
    if (space != std::string_view::npos) kept = kept.substr(0, space);
  }
  return runtime.text(std::string(kept) + end, value.is_safe());
}

Value filter_wordcount(Runtime& runtime, const Value& value, Args& args) {
  const Bound bound(runtime, "wordcount", args, {});
  Int words = 0;
  bool inside = false;
  for (const text::CodePoint& c : runtime.code_points(runtime.str(value))) {
    const bool part = c.value == '_' || text::is_alpha(c.value) || text::is_numeric(c.value);
    words += part && !inside ? 1 : 0;
    inside = part;
  }
  return Value(words);
}

std::string url_quote(std::string_view s, bool for_query) {
  std::string out;
  for (const char c : s) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("_.-~").find(c) != std::string_view::npos ||
                       (c == '/' && !for_query);
    if (plain) {
      out += c;
    } else if (c == ' ' && for_query) {
      out += '+';
    } else {
      out += fmt::format("%{:02X}", static_cast<uint8_t>(c));
    }
  }
  return out;
}

Value filter_urlencode(Runtime& runtime, const Value& value, Args& args) {
  const Bound bound(runtime, "urlencode", args, {});
  if (!value.is_dict() && !value.is_sequence()) {
    return runtime.text(url_quote(runtime.str(value), false));
  }
  std::vector<Value> pairs;
  if (value.is_dict()) {
    for (const auto& [key, item] : value.dict().items) pairs.push_back(runtime.tuple({key, item}));
  } else {
    pairs = runtime.iterate(value);
  }
  std::string out;
  for (const Value& pair : pairs) {
    const std::vector<Value> parts = runtime.iterate(pair);
    if (parts.size() != 2) runtime.error("urlencode needs pairs, got {} items", parts.size());
    if (!out.empty()) out += '&';
    out += url_quote(runtime.str(parts[0]), true) + "=" + url_quote(runtime.str(parts[1]), true);
  }
  return runtime.text(std::move(out));
}

Value filter_safe(Runtime& runtime, const Value& value, Args& args) {
  const Bound bound(runtime, "safe", args, {});
  return runtime.text(runtime.str(value), true);
}

Value filter_escape(Runtime& runtime, const Value& value, Args& args) {
  const Bound bound(runtime, "escape", args, {});
  return value.is_safe() ? value : runtime.text(text::escape(runtime.str(value)), true);
}

Value filter_forceescape(Runtime& runtime, const Value& value, Args& args) {
  const Bound bound(runtime, "forceescape", args, {});
  return runtime.text(text::escape(runtime.str(value)), true);
}

Value filter_string(Runtime& runtime, const Value& value, Args& args) {
  const Bound bound(runtime, "string", args, {});
  return soft_text(runtime, value);
}

Value filter_default(Runtime& runtime, const Value& value, Args& args) {
  const Bound bound(runtime, "default", args, {"default_value", "boolean"});
  const bool use = value.is_undefined() || (bound.flag(1, false) && !truthy(value));
  if (!use) return value;
  return bound.has(0) ? bound[0] : runtime.text("");
}

// ---- numbers

[[noreturn]] void insist(Runtime& runtime, const Value& undefined) {
  runtime.error("{}",
                undefined.undefined().why ? *undefined.undefined().why : "a value is undefined");
}

/// Python's int(text, base), if the text is one.
std::optional<Int> parse_int(Runtime& runtime, std::string_view s, Int base) {
  s = text::strip(s, text::Side::Both);
  const bool negative = s.starts_with('-');
  if (negative || s.starts_with('+')) s.remove_prefix(1);
  const auto prefix = [&](char letter, Int its_base) {
    if ((base == its_base || base == 0) && s.size() > 2 && s[0] == '0' && (s[1] | 0x20) == letter) {
      s.remove_prefix(2);
      if (s.starts_with('_')) s.remove_prefix(1);
      base = its_base;
    }
  };
  prefix('x', 16);
  prefix('o', 8);
  prefix('b', 2);
  if (base == 0) base = 10;
  Int value = 0;
  bool digit_before = false;
  for (const char c : s) {
    if (c == '_' && digit_before) {
      digit_before = false;
      continue;
    }
    const int digit = c >= '0' && c <= '9'                     ? c - '0'
                      : (c | 0x20) >= 'a' && (c | 0x20) <= 'z' ? (c | 0x20) - 'a' + 10
                                                               : 99;
    if (digit >= base) return std::nullopt;
    if (__builtin_mul_overflow(value, base, &value) ||
        __builtin_add_overflow(value, Int{digit}, &value)) {
      runtime.limit_error("an integer grows past 128 bits");
    }
    digit_before = true;
  }
  if (!digit_before) return std::nullopt;
  return negative ? -value : value;
}

/// Python's float(text), if the text is one.
std::optional<double> parse_float(std::string_view s) {
  std::string plain(text::strip(s, text::Side::Both));
  for (size_t i = 1; i + 1 < plain.size(); ++i) {  // underscores between digits
    const auto digit = [&](size_t k) { return plain[k] >= '0' && plain[k] <= '9'; };
    if (plain[i] == '_' && digit(i - 1) && digit(i + 1)) plain.erase(i--, 1);
  }
  const bool negative = plain.starts_with('-');
  if (negative || plain.starts_with('+')) plain.erase(0, 1);
  if (plain.empty() || plain[0] == '-' || plain[0] == '+' || plain.find('(') != std::string::npos) {
    return std::nullopt;
  }
  double value = 0;
  const auto result = std::from_chars(plain.data(), plain.data() + plain.size(), value);
  if (result.ptr != plain.data() + plain.size()) return std::nullopt;
  if (result.ec == std::errc::result_out_of_range) {
    // Too large or too small for a double: from_chars leaves the value alone.
    value = std::strtod(plain.c_str(), nullptr);
  } else if (result.ec != std::errc()) {
    return std::nullopt;
  }
  return negative ? -value : value;
}

/// int(d) for a finite double.
std::optional<Int> truncated(Runtime& runtime, double d) {
  if (!std::isfinite(d)) return std::nullopt;
  if (std::fabs(d) > 1.7e38) runtime.limit_error("an integer grows past 128 bits");
  return static_cast<Int>(d);
}

Value filter_int(Runtime& runtime, const Value& value, Args& args) {
  const Bound bound(runtime, "int", args, {"default", "base"});
  const Value fallback = bound.get(0, Value(Int{0}));
  if (value.is_undefined()) insist(runtime, value);
  if (value.is_integral()) return Value(value.integer());
  std::optional<double> real;
  if (value.kind() == Kind::Float) {
    if (std::isinf(value.real())) runtime.error("cannot convert float infinity to integer");
    real = value.real();
  } else if (value.is_string()) {
    if (const auto whole = parse_int(runtime, value.string(), bound.integer(1, 10))) {
      return Value(*whole);
    }
    real = parse_float(value.string());
  }
  const std::optional<Int> whole = real ? truncated(runtime, *real) : std::nullopt;
  return whole ? Value(*whole) : fallback;
}

Value filter_float(Runtime& runtime, const Value& value, Args& args) {
  const Bound bound(runtime, "float", args, {"default"});
  const Value fallback = bound.get(0, Value(0.0));
  if (value.is_undefined()) insist(runtime, value);
  if (value.is_number()) return Value(value.number());
  const std::optional<double> real = value.is_string() ? parse_float(value.string()) : std::nullopt;
  return real ? Value(*real) : fallback;
}

Value filter_abs(Runtime& runtime, const Value& value, Args& args) {
  const Bound bound(runtime, "abs", args, {});
  if (value.is_undefined()) insist(runtime, value);
  if (value.kind() == Kind::Float) return Value(std::fabs(value.real()));
  if (!value.is_integral()) runtime.error("bad operand type for abs(): '{}'", type_name(value));
  return value.integer() < 0 ? negate(runtime, value) : Value(value.integer());
}

/// round(int, -n): to the even neighbour when in the middle.
Int round_int(Int value, Int digits) {
  Int unit = 1;
  for (Int i = digits; i < 0; ++i) {
    if (unit > (Int{1} << 120)) return 0;
    unit *= 10;
  }
  Int below = value / unit;
  Int rest = value % unit;
  if (rest < 0) {
    rest += unit;
    --below;
  }
  const bool up = rest * 2 > unit || (rest * 2 == unit && (below & 1) != 0);
  return (below + (up ? 1 : 0)) * unit;
}

double round_double(double value, Int digits) {
  if (!std::isfinite(value) || digits > 320) return value;
  if (digits < -310) return std::copysign(0.0, value);
  if (digits < 0) {
    // Exact for the magnitudes that a double holds as an integer.
    const double unit = std::pow(10.0, static_cast<double>(-digits));
    return std::nearbyint(value / unit) * unit;
  }
  // printf rounds the exact binary value correctly, as Python's round() does.
  const std::string text = fmt::format("{:.{}f}", value, static_cast<int>(digits));
  return std::strtod(text.c_str(), nullptr);
}

Value filter_round(Runtime& runtime, const Value& value, Args& args) {
  const Bound bound(runtime, "round", args, {"precision", "method"});
  const Int digits = bound.integer(0, 0);
  const std::string how = bound.has(1) ? runtime.str(bound[1]) : "common";
  if (how != "common" && how != "ceil" && how != "floor") {
    runtime.error("round knows the methods common, ceil and floor, not '{}'", how);
  }
  if (value.is_undefined()) insist(runtime, value);
  if (!value.is_number()) {
    runtime.error("type {} doesn't define __round__ method", type_name(value));
  }
  if (how == "common") {
    if (value.kind() == Kind::Float) return Value(round_double(value.real(), digits));
    return Value(digits >= 0 ? value.integer() : round_int(value.integer(), digits));
  }
  const double scale = std::pow(10.0, static_cast<double>(digits));
  const double scaled = value.number() * scale;
  return Value((how == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
}

Value filter_tojson(Runtime& runtime, const Value& value, Args& args) {
  const Bound bound(runtime, "tojson", args, {"ensure_ascii", "indent", "separators", "sort_keys"});
  Runtime::JsonStyle style;
  style.ensure_ascii = bound.flag(0, false);
  style.sort_keys = bound.flag(3, false);
  if (bound.has(1) && !bound[1].is_none()) {
    if (bound[1].is_string()) {
      style.indent = bound[1].string();
    } else {
      const Int width = bound.integer(1, 0);
      if (width > 1000) runtime.limit_error("an indent wider than 1000 characters");
      style.indent = std::string(static_cast<size_t>(std::max(width, Int{0})), ' ');
    }
  }
  style.item_separator = style.indent ? "," : ", ";
  style.key_separator = ": ";
  if (bound.has(2) && !bound[2].is_none()) {
    const std::vector<Value> pair = runtime.iterate(bound[2]);
    if (pair.size() != 2 || !pair[0].is_string() || !pair[1].is_string()) {
      runtime.error("tojson needs two separators");
    }
    style.item_separator = pair[0].string();
    style.key_separator = pair[1].string();
  }
  return runtime.text(runtime.to_json(value, style));
}

constexpr Filter filters[] = {
    {"abs", filter_abs},
    {"capitalize", mapped<text::capitalize>},
    {"center", filter_center},
    {"d", filter_default},
    {"default", filter_default},
    {"e", filter_escape},
    {"escape", filter_escape},
    {"float", filter_float},
    {"forceescape", filter_forceescape},
    {"format", filter_format},
    {"indent", filter_indent},
    {"int", filter_int},
    {"lower", mapped<text::lower>},
    {"replace", filter_replace},
    {"round", filter_round},
    {"safe", filter_safe},
    {"string", filter_string},
    {"title", mapped<title>},
    {"tojson", filter_tojson},
    {"trim", filter_trim},
    {"truncate", filter_truncate},
    {"upper", mapped<text::upper>},
    {"urlencode", filter_urlencode},
    {"wordcount", filter_wordcount},
};

// Jinja has these too, but no chat template has use for them.
constexpr std::string_view unsupported[] = {"filesizeformat", "pprint",   "random", "striptags",
                                            "urlize",         "wordwrap", "xmlattr"};

const Filter* find_filter(std::string_view name) {
  for (const auto& table : {text_filters(), item_filters()}) {
    for (const Filter& filter : table) {
      if (filter.name == name) return &filter;
    }
  }
  return nullptr;
}

}  // namespace

std::span<const Filter> text_filters() { return filters; }

Value through_method(Runtime& runtime, std::string_view name, const Value& value, Args& args) {
  const std::optional<Value> found = method(runtime, soft_text(runtime, value), name);
  return runtime.call(*found, args);
}

bool is_filter(std::string_view name) {
  return find_filter(name) != nullptr ||
         std::find(std::begin(unsupported), std::end(unsupported), name) != std::end(unsupported);
}

Value run_filter(Runtime& runtime, std::string_view name, const Value& value, Args& args) {
  runtime.charge(1);
  if (const Filter* filter = find_filter(name)) return filter->run(runtime, value, args);
  if (is_filter(name)) {
    fail(ErrorCode::Unsupported, "chat template: the filter '{}' is not supported", name);
  }
  runtime.error("there is no filter named '{}'", name);
}

}  // namespace fathom::jinja
