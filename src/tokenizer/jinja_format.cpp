// Python's two ways to format text: "%d" % x and "{}".format(x).
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "tokenizer/jinja_runtime.h"
#include "tokenizer/jinja_text.h"

namespace fathom::jinja {
namespace {

// A conversion: [[fill]align][sign][#][0][width][,][.precision][type]
struct Spec {
  std::string fill = " ";
  char align = 0;  // < > ^ =; 0 is the type's own
  char sign = '-';
  bool alternate = false;
  bool zero = false;
  char grouping = 0;
  size_t width = 0;
  std::optional<size_t> precision;
  char type = 0;
};

constexpr size_t max_width = 100'000;  // of a field; wider is a mistake or an attack

size_t parse_number(Runtime& runtime, std::string_view text, size_t& at) {
  size_t value = 0;
  while (at < text.size() && text[at] >= '0' && text[at] <= '9') {
    value = value * 10 + static_cast<size_t>(text[at++] - '0');
    if (value > max_width) runtime.limit_error("a format wider than {} characters", max_width);
  }
  return value;
}

std::string in_base(Int value, unsigned base, bool upper) {
  const bool negative = value < 0;
  std::string out;
  do {
    const int digit = static_cast<int>(value % static_cast<Int>(base));
    out += (upper ? "0123456789ABCDEF" : "0123456789abcdef")[digit < 0 ? -digit : digit];
    value /= static_cast<Int>(base);
  } while (value != 0);
  if (negative) out += '-';
  std::reverse(out.begin(), out.end());
  return out;
}

/// C's printf of one double, with its own precision.
std::string print_double(char type, bool alternate, size_t precision, double value) {
  const std::string format = std::string("%") + (alternate ? "#" : "") + ".*" + type;
  const auto digits = static_cast<int>(precision);
  // The format is one of a fixed few, so it cannot be a literal; the arguments always match it.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
  std::string out(static_cast<size_t>(std::snprintf(nullptr, 0, format.c_str(), digits, value)), 0);
  std::snprintf(out.data(), out.size() + 1, format.c_str(), digits, value);
#pragma GCC diagnostic pop
  return out;
}

void group_thousands(std::string& digits, char separator) {
  size_t end = digits.find_first_not_of("0123456789", digits[0] == '-' ? 1 : 0);
  if (end == std::string::npos) end = digits.size();
  const size_t begin = digits[0] == '-' ? 1 : 0;
  for (size_t at = end; at > begin + 3;) {
    at -= 3;
    digits.insert(at, 1, separator);
  }
}

/// `body` (with its own minus sign, if any) set into the field of `spec`.
std::string pad(const Spec& spec, std::string body, char own_align) {
  const size_t size = text::length(body);
  if (size >= spec.width) return body;
  const size_t blank = spec.width - size;
  const char align = spec.align != 0 ? spec.align : own_align;
  const size_t left = align == '<' ? 0 : align == '^' ? blank / 2 : blank;
  std::string before;
  std::string after;
  for (size_t i = 0; i < left; ++i) before += spec.fill;
  for (size_t i = left; i < blank; ++i) after += spec.fill;
  if (align == '=') {
    size_t prefix = !body.empty() && (body[0] == '-' || body[0] == '+' || body[0] == ' ') ? 1 : 0;
    if (spec.alternate && body.size() >= prefix + 2 && body[prefix] == '0' &&
        std::string_view("xXobB").find(body[prefix + 1]) != std::string_view::npos) {
      prefix += 2;
    }
    return body.substr(0, prefix) + before + body.substr(prefix);
  }
  return before + body + after;
}

std::string with_sign(const Spec& spec, std::string body) {
  if (body[0] != '-' && spec.sign != '-') body.insert(body.begin(), spec.sign);
  return body;
}

std::string format_int(Runtime& runtime, const Spec& spec, Int value) {
  std::string body;
  std::string prefix;
  switch (spec.type) {
    case 'x':
    case 'X':
      body = in_base(value, 16, spec.type == 'X');
      prefix = spec.type == 'x' ? "0x" : "0X";
      break;
    case 'o':
      body = in_base(value, 8, false);
      prefix = "0o";
      break;
    case 'b':
      body = in_base(value, 2, false);
      prefix = "0b";
      break;
    case 'c':
      if (value < 0 || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) {
        runtime.error("{} is not a character", integer_repr(value));
      }
      text::append(body, static_cast<uint32_t>(value));
      return pad(spec, body, '<');
    default:
      body = integer_repr(value);
  }
  if (spec.alternate) body.insert(body[0] == '-' ? 1 : 0, prefix);
  if (spec.grouping != 0) group_thousands(body, spec.grouping);
  return pad(spec, with_sign(spec, std::move(body)), spec.zero ? '=' : '>');
}

std::string format_float(const Spec& spec, double value) {
  std::string body;
  char type = spec.type == 0 || spec.type == 'n' ? 'g' : spec.type;
  if (!std::isfinite(value)) {
    body = float_repr(value);
  } else if (spec.type == 0 && !spec.precision) {
    body = float_repr(value);
  } else if (type == '%') {
    body = print_double('f', spec.alternate, spec.precision.value_or(6), value * 100) + "%";
  } else {
    body = print_double(type, spec.alternate, spec.precision.value_or(6), value);
  }
  if (spec.grouping != 0) group_thousands(body, spec.grouping);
  return pad(spec, with_sign(spec, std::move(body)), spec.zero ? '=' : '>');
}

std::string format_string(const Spec& spec, std::string_view s) {
  if (spec.precision) s = s.substr(0, text::byte_offset(s, *spec.precision));
  return pad(spec, std::string(s), '<');
}

// ---- "%d" % x

std::string percent_one(Runtime& runtime, Spec& spec, const Value& value) {
  switch (spec.type) {
    case 's':
      return format_string(spec, runtime.str(value));
    case 'r':
    case 'a':
      return format_string(spec, runtime.repr(value));
    case 'c':
      if (value.is_string() && text::length(value.string()) == 1) {
        return format_string(spec, value.string());
      }
      [[fallthrough]];
    case 'd':
    case 'i':
    case 'u':
    case 'x':
    case 'X':
    case 'o': {
      const bool decimal = spec.type == 'd' || spec.type == 'i' || spec.type == 'u';
      if (decimal && value.kind() == Kind::Float && std::isfinite(value.real()) &&
          std::fabs(value.real()) < 1e37) {
        return format_int(runtime, spec, static_cast<Int>(value.real()));
      }
      if (!value.is_integral()) {
        runtime.error("%{} format: a number is required, not {}", spec.type, type_name(value));
      }
      // Precision is the least number of digits.
      Spec plain;
      plain.type = spec.type;
      std::string digits = format_int(runtime, plain, value.integer());
      const size_t sign = digits[0] == '-' ? 1 : 0;
      if (spec.type != 'c' && spec.precision && digits.size() - sign < *spec.precision) {
        digits.insert(sign, *spec.precision - (digits.size() - sign), '0');
      }
      if (spec.alternate && spec.type != 'c' && !decimal) {
        digits.insert(sign, std::string("0") + spec.type);
      }
      if (spec.type != 'c') digits = with_sign(spec, std::move(digits));
      return pad(spec, std::move(digits), spec.zero ? '=' : '>');
    }
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
      if (!value.is_number()) {
        runtime.error("must be real number, not {}", type_name(value));
      }
      return format_float(spec, value.number());
    default:
      runtime.error("unsupported format character '{}'", spec.type);
  }
}

// ---- "{}".format(x)

Spec parse_spec(Runtime& runtime, std::string_view text) {
  Spec spec;
  size_t at = 0;
  const auto is_align = [](char c) { return c == '<' || c == '>' || c == '^' || c == '='; };
  if (!text.empty()) {
    const size_t first = text::decode(text, 0).size;
    if (first < text.size() && is_align(text[first])) {
      spec.fill = std::string(text.substr(0, first));
      spec.align = text[first];
      at = first + 1;
    } else if (is_align(text[0])) {
      spec.align = text[0];
      at = 1;
    }
  }
  const auto skip = [&](std::string_view any) {
    return at < text.size() && any.find(text[at]) != std::string_view::npos ? text[at++] : 0;
  };
  if (const char sign = static_cast<char>(skip("+- ")); sign != 0) spec.sign = sign;
  spec.alternate = skip("#") != 0;
  if (skip("0") != 0) {
    spec.zero = true;
    if (spec.align == 0) spec.fill = "0";
  }
  spec.width = parse_number(runtime, text, at);
  spec.grouping = static_cast<char>(skip(",_"));
  if (skip(".") != 0) spec.precision = parse_number(runtime, text, at);
  if (at < text.size()) spec.type = text[at++];
  if (at != text.size()) runtime.error("invalid format specifier '{}'", text);
  return spec;
}

std::string format_value(Runtime& runtime, const Value& value, std::string_view text) {
  if (text.empty()) return runtime.str(value);
  const Spec spec = parse_spec(runtime, text);
  const std::string_view int_types = "bcdoxXn";
  const std::string_view float_types = "eEfFgG%n";
  if (value.is_string() && (spec.type == 0 || spec.type == 's')) {
    return format_string(spec, value.string());
  }
  if (value.is_integral() &&
      (spec.type == 0 || int_types.find(spec.type) != std::string_view::npos)) {
    return format_int(runtime, spec, value.integer());
  }
  if (value.is_number() &&
      (spec.type == 0 || float_types.find(spec.type) != std::string_view::npos)) {
    return format_float(spec, value.number());
  }
  runtime.error("the format '{}' does not fit a value of type '{}'", text, type_name(value));
}

class BraceFormatter {
 public:
  BraceFormatter(Runtime& runtime, Args& args) : runtime_(runtime), args_(args) {}

  std::string format(std::string_view format, int nesting) {
    if (nesting > 2) runtime_.error("a format nests too deep");
    std::string out;
    for (size_t at = 0; at < format.size();) {
      const char c = format[at];
      if ((c == '{' || c == '}') && at + 1 < format.size() && format[at + 1] == c) {
        out += c;
        at += 2;
      } else if (c == '{') {
        const size_t end = field_end(format, at + 1);
        out += field(format.substr(at + 1, end - at - 1), nesting);
        at = end + 1;
      } else if (c == '}') {
        runtime_.error("single '}}' encountered in format string");
      } else {
        out += c;
        ++at;
      }
      runtime_.charge_text(0);
      runtime_.check_text(out.size());
    }
    return out;
  }

 private:
  size_t field_end(std::string_view format, size_t at) {
    int open = 1;
    for (; at < format.size(); ++at) {
      open += format[at] == '{' ? 1 : format[at] == '}' ? -1 : 0;
      if (open == 0) return at;
    }
    runtime_.error("expected '}}' before end of format string");
  }

  std::string field(std::string_view field, int nesting) {
    const size_t colon = field.find(':');
    std::string_view name = field.substr(0, colon);
    char conversion = 0;
    if (const size_t mark = name.rfind('!'); mark != std::string_view::npos) {
      if (mark + 2 != name.size()) runtime_.error("a conversion is one character after '!'");
      conversion = name[mark + 1];
      name = name.substr(0, mark);
    }
    // Automatic numbers count the field before those inside of its format.
    Value value = lookup(name);
    std::string spec;
    if (colon != std::string_view::npos) spec = format(field.substr(colon + 1), nesting + 1);
    if (conversion == 's') value = runtime_.text(runtime_.str(value));
    if (conversion == 'r' || conversion == 'a') value = runtime_.text(runtime_.repr(value));
    return format_value(runtime_, value, spec);
  }

  static std::optional<size_t> as_index(std::string_view s) {
    size_t index = 0;
    const auto result = std::from_chars(s.data(), s.data() + s.size(), index);
    if (s.empty() || result.ec != std::errc() || result.ptr != s.data() + s.size()) return {};
    return index;
  }

  /// The argument that a field names, and the attributes and items behind it.
  Value lookup(std::string_view name) {
    size_t at = std::min(name.find_first_of(".["), name.size());
    const std::string_view base = name.substr(0, at);
    Value value;
    const std::optional<size_t> index = base.empty() ? std::optional(automatic_++) : as_index(base);
    if (index) {
      if (*index >= args_.positional.size()) {
        runtime_.error("replacement index {} is out of range", *index);
      }
      value = args_.positional[*index];
    } else {
      const auto found = std::find_if(args_.keyword.begin(), args_.keyword.end(),
                                      [&](const auto& entry) { return entry.first == base; });
      if (found == args_.keyword.end()) runtime_.error("the format names no argument '{}'", base);
      value = found->second;
    }
    while (at < name.size()) {
      if (name[at] == '.') {
        const size_t end = std::min(name.find_first_of(".[", at + 1), name.size());
        value = runtime_.attribute(value, name.substr(at + 1, end - at - 1));
        at = end;
      } else {
        const size_t end = name.find(']', at);
        if (end == std::string_view::npos) runtime_.error("a format field misses its ']'");
        const std::string_view key = name.substr(at + 1, end - at - 1);
        const std::optional<size_t> position = as_index(key);
        value = runtime_.item(
            value, position ? Value(static_cast<Int>(*position)) : runtime_.text(std::string(key)));
        at = end + 1;
      }
    }
    return value;
  }

  Runtime& runtime_;
  Args& args_;
  size_t automatic_ = 0;
};

}  // namespace

std::string percent_format(Runtime& runtime, const std::string& format, const Value& args) {
  const bool is_tuple = args.is_sequence() && args.sequence().form == Sequence::Form::Tuple;
  const std::vector<Value> positional = is_tuple ? args.sequence().items : std::vector{args};
  size_t used = 0;
  bool used_mapping = false;
  const auto next = [&]() -> const Value& {
    if (used >= positional.size()) runtime.error("not enough arguments for format string");
    return positional[used++];
  };
  std::string out;
  for (size_t at = 0; at < format.size();) {
    if (format[at] != '%') {
      out += format[at++];
      continue;
    }
    ++at;
    Spec spec;
    std::optional<Value> value;
    if (at < format.size() && format[at] == '(') {
      const size_t end = format.find(')', at);
      if (end == std::string::npos) runtime.error("incomplete format key");
      if (!args.is_dict()) runtime.error("format requires a mapping");
      const std::string key = format.substr(at + 1, end - at - 1);
      const Value* found = args.dict().find(key);
      if (found == nullptr) runtime.error("the format names no key '{}'", key);
      value = *found;
      used_mapping = true;
      at = end + 1;
    }
    for (; at < format.size(); ++at) {
      const char c = format[at];
      if (c == '-') {
        spec.align = '<';
      } else if (c == '+') {
        spec.sign = '+';
      } else if (c == ' ') {
        spec.sign = spec.sign == '+' ? '+' : ' ';
      } else if (c == '#') {
        spec.alternate = true;
      } else if (c == '0') {
        spec.zero = true;
      } else {
        break;
      }
    }
    if (at < format.size() && format[at] == '*') {
      ++at;
      const Value& width = next();
      if (!width.is_integral()) runtime.error("* wants int");
      const Int wide = width.integer();
      if (wide > Int{max_width} || wide < -Int{max_width}) {
        runtime.limit_error("a format wider than {} characters", max_width);
      }
      if (wide < 0) spec.align = '<';
      spec.width = static_cast<size_t>(wide < 0 ? -wide : wide);
    } else {
      spec.width = parse_number(runtime, format, at);
    }
    if (at < format.size() && format[at] == '.') {
      ++at;
      spec.precision = parse_number(runtime, format, at);
    }
    while (at < format.size() && (format[at] == 'l' || format[at] == 'h' || format[at] == 'L'))
      ++at;
    if (at >= format.size()) runtime.error("incomplete format");
    spec.type = format[at++];
    if (spec.type == '%') {
      out += '%';
      continue;
    }
    const std::string_view numeric = "diuxXoeEfFgG";
    const bool number = numeric.find(spec.type) != std::string_view::npos;
    if (!number) spec.zero = false;
    if (spec.zero && spec.align == 0) spec.fill = "0";
    if (!number && spec.align == 0) spec.align = '>';
    if (!value) value = next();
    out += percent_one(runtime, spec, *value);
    runtime.charge(1);
    runtime.check_text(out.size());
  }
  const bool surplus_is_fine =
      used_mapping || args.is_dict() || (args.is_sequence() && !is_tuple && used == 0);
  if (used < positional.size() && !surplus_is_fine) {
    runtime.error("not all arguments converted during string formatting");
  }
  return out;
}

std::string brace_format(Runtime& runtime, const std::string& format, Args& args) {
  return BraceFormatter(runtime, args).format(format, 0);
}

}  // namespace fathom::jinja
