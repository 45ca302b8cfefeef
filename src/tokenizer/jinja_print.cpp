// Values as text: Python's str() and repr(), and json.dumps().
#include <algorithm>
#include <cmath>

#include "tokenizer/jinja_runtime.h"
#include "tokenizer/jinja_text.h"

namespace fathom::jinja {
namespace {

void append_string_repr(Runtime& runtime, std::string& out, const std::string& s) {
  // Python prefers single quotes, unless only they would need escaping.
  const char quote =
      s.find('\'') != std::string::npos && s.find('"') == std::string::npos ? '"' : '\'';
  out += quote;
  for (size_t at = 0; at < s.size();) {
    runtime.check_text(out.size());
    const text::CodePoint c = text::decode(s, at);
    at += c.size;
    if (c.value == static_cast<uint32_t>(quote) || c.value == '\\') {
      out += '\\';
      out += static_cast<char>(c.value);
    } else if (c.value == '\n') {
      out += "\\n";
    } else if (c.value == '\r') {
      out += "\\r";
    } else if (c.value == '\t') {
      out += "\\t";
    } else if (text::is_printable(c.value)) {
      text::append(out, c.value);
    } else {
      out += c.value < 0x100     ? fmt::format("\\x{:02x}", c.value)
             : c.value < 0x10000 ? fmt::format("\\u{:04x}", c.value)
                                 : fmt::format("\\U{:08x}", c.value);
    }
  }
  out += quote;
}

void append_json_string(Runtime& runtime, std::string& out, const std::string& s,
                        bool ensure_ascii) {
  out += '"';
  for (size_t at = 0; at < s.size();) {
    runtime.check_text(out.size());
    const text::CodePoint c = text::decode(s, at);
    at += c.size;
    switch (c.value) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\f':
        out += "\\f";
        break;
      case '\b':
        out += "\\b";
        break;
      default:
        if (c.value < 0x20 || (ensure_ascii && c.value >= 0x7F && c.value < 0x10000)) {
          out += fmt::format("\\u{:04x}", c.value);
        } else if (ensure_ascii && c.value >= 0x10000) {
          const uint32_t v = c.value - 0x10000;
          out += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 | v >> 10, 0xDC00 | (v & 0x3FF));
        } else {
          text::append(out, c.value);
        }
    }
  }
  out += '"';
}

}  // namespace

std::string Runtime::str(const Value& value) {
  if (value.is_string()) return value.string();
  if (value.is_undefined()) return "";
  return repr(value);
}

std::string Runtime::repr(const Value& value) {
  std::string out;
  append_repr(out, value);
  charge_text(out.size());
  return out;
}

void Runtime::append_repr(std::string& out, const Value& value) {
  const Level level(*this);
  charge(1);
  // The text is not a value yet, so its size has to be watched here.
  check_text(out.size());
  const auto append_items = [&](const std::vector<Value>& items, size_t first) {
    for (size_t i = first; i < items.size(); ++i) {
      if (i > first) out += ", ";
      append_repr(out, items[i]);
    }
  };
  switch (value.kind()) {
    case Kind::Undefined:
      out += "Undefined";
      return;
    case Kind::None:
      out += "None";
      return;
    case Kind::Bool:
      out += value.boolean() ? "True" : "False";
      return;
    case Kind::Integer:
      out += integer_repr(value.integer());
      return;
    case Kind::Float:
      out += float_repr(value.real());
      return;
    case Kind::String:
      if (value.is_safe()) out += "Markup(";
      append_string_repr(*this, out, value.string());
      if (value.is_safe()) out += ')';
      return;
    case Kind::Dict: {
      out += '{';
      bool first = true;
      for (const auto& [key, item] : value.dict().items) {
        if (!std::exchange(first, false)) out += ", ";
        append_repr(out, key);
        out += ": ";
        append_repr(out, item);
      }
      out += '}';
      return;
    }
    case Kind::Namespace: {
      out += "<Namespace {";
      bool first = true;
      for (const auto& [name, item] : value.space().attributes) {
        if (!std::exchange(first, false)) out += ", ";
        append_string_repr(*this, out, name);
        out += ": ";
        append_repr(out, item);
      }
      out += "}>";
      return;
    }
    case Kind::Object:
      out += value.object().repr();
      return;
    case Kind::Sequence:
      break;
  }
  const Sequence& sequence = value.sequence();
  switch (sequence.form) {
    case Sequence::Form::List:
      out += '[';
      append_items(sequence.items, 0);
      out += ']';
      return;
    case Sequence::Form::Tuple:
      out += '(';
      append_items(sequence.items, 0);
      out += sequence.items.size() == 1 ? ",)" : ")";
      return;
    case Sequence::Form::Range:
      out += "range(" + integer_repr(sequence.range[0]) + ", " + integer_repr(sequence.range[1]);
      if (sequence.range[2] != 1) out += ", " + integer_repr(sequence.range[2]);
      out += ')';
      return;
    case Sequence::Form::Keys:
    case Sequence::Form::Values:
    case Sequence::Form::Items:
      out += type_name(value) + "([";
      append_items(sequence.items, 0);
      out += "])";
      return;
    case Sequence::Form::Iterator:
      out += fmt::format("<{} object>", sequence.type_name);
      return;
  }
}

std::string Runtime::to_json(const Value& value, const JsonStyle& style) {
  std::string out;
  append_json(out, value, style, 0);
  return out;
}

void Runtime::append_json(std::string& out, const Value& value, const JsonStyle& style,
                          size_t level) {
  const Level nesting(*this);
  charge(1);
  check_text(out.size());
  const auto new_line = [&](size_t depth) {
    if (!style.indent) return;
    charge(1 + depth);
    out += '\n';
    for (size_t i = 0; i < depth; ++i) out += *style.indent;
  };
  switch (value.kind()) {
    case Kind::None:
      out += "null";
      return;
    case Kind::Bool:
      out += value.boolean() ? "true" : "false";
      return;
    case Kind::Integer:
      out += integer_repr(value.integer());
      return;
    case Kind::Float:
      if (std::isfinite(value.real())) {
        out += float_repr(value.real());
      } else {
        out += std::isnan(value.real()) ? "NaN" : value.real() < 0 ? "-Infinity" : "Infinity";
      }
      return;
    case Kind::String:
      charge_text(value.string().size());
      append_json_string(*this, out, value.string(), style.ensure_ascii);
      return;
    case Kind::Sequence: {
      const Sequence& sequence = value.sequence();
      if (sequence.form != Sequence::Form::List && sequence.form != Sequence::Form::Tuple) break;
      if (sequence.items.empty()) {
        out += "[]";
        return;
      }
      out += '[';
      bool first = true;
      for (const Value& item : sequence.items) {
        if (!std::exchange(first, false)) out += style.item_separator;
        new_line(level + 1);
        append_json(out, item, style, level + 1);
      }
      new_line(level);
      out += ']';
      return;
    }
    case Kind::Dict: {
      if (value.dict().items.empty()) {
        out += "{}";
        return;
      }
      const auto& items = value.dict().items;
      std::vector<Value> keys;
      for (const auto& [key, item] : items) keys.push_back(key);
      std::vector<size_t> order;
      if (style.sort_keys) order = sorted_order(keys, false);
      out += '{';
      bool first = true;
      for (size_t i = 0; i < items.size(); ++i) {
        const auto& [key, item] = items[style.sort_keys ? order[i] : i];
        if (!std::exchange(first, false)) out += style.item_separator;
        new_line(level + 1);
        if (key.is_string()) {
          append_json_string(*this, out, key.string(), style.ensure_ascii);
        } else if (key.is_number() || key.is_none()) {
          out += '"';
          append_json(out, key, style, level + 1);
          out += '"';
        } else {
          error("keys must be str, int, float, bool or None, not {}", type_name(key));
        }
        out += style.key_separator;
        append_json(out, item, style, level + 1);
      }
      new_line(level);
      out += '}';
      return;
    }
    default:
      break;
  }
  error("Object of type {} is not JSON serializable", type_name(value));
}

}  // namespace fathom::jinja
