#include "tokenizer/jinja_lexer.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "base/error.h"
#include "tokenizer/jinja_text.h"

namespace fathom::jinja {
namespace {

/// Every line break as "\n", and without one at the very end.
std::string normalise_newlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out += source[i];
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

int digit_value(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return 99;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(normalise_newlines(source)) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) text_until_tag();
    add(Token::Type::End, "");
    return std::move(tokens_);
  }

 private:
  enum class Sign : uint8_t { None, Minus, Plus };

  template <typename... A>
  [[noreturn]] void error(fmt::format_string<A...> format, A&&... args) const {
    fail(ErrorCode::InvalidArgument, "chat template, line {}: {}", line_,
         fmt::format(format, std::forward<A>(args)...));
  }

  bool looking_at(std::string_view s) const {
    return std::string_view(source_).substr(at_).starts_with(s);
  }
  bool looking_at(std::string_view s, size_t at) const {
    return at <= source_.size() && std::string_view(source_).substr(at).starts_with(s);
  }

  void advance_to(size_t end) {
    line_ += static_cast<uint32_t>(std::count(source_.begin() + static_cast<ptrdiff_t>(at_),
                                              source_.begin() + static_cast<ptrdiff_t>(end), '\n'));
    at_ = end;
  }

  size_t skip_space(size_t at) const {
    while (at < source_.size()) {
      const text::CodePoint c = text::decode(source_, at);
      if (!text::is_space(c.value)) break;
      at += c.size;
    }
    return at;
  }

  void add(Token::Type type, std::string_view text) {
    tokens_.push_back({type, line_, std::string(text), Value()});
  }

  /// Text up to a tag, without what the tag's sign or lstrip_blocks takes away.
  void add_data(std::string_view data, Sign sign, bool is_variable) {
    if (sign == Sign::Minus) {
      data = text::strip(data, text::Side::Right);
    } else if (sign == Sign::None && !is_variable) {
      const size_t newline = data.rfind('\n');
      const size_t line_start = newline == std::string_view::npos ? 0 : newline + 1;
      if ((line_start > 0 || line_starting_) &&
          text::strip(data.substr(line_start), text::Side::Left).empty()) {
        data = data.substr(0, line_start);
      }
    }
    if (!data.empty()) add(Token::Type::Data, data);
  }

  Sign sign_at(size_t at) const {
    if (at < source_.size() && source_[at] == '-') return Sign::Minus;
    if (at < source_.size() && source_[at] == '+') return Sign::Plus;
    return Sign::None;
  }

  void text_until_tag() {
    size_t tag = at_;
    for (; tag < source_.size(); ++tag) {
      if (source_[tag] == '{' && tag + 1 < source_.size() &&
          (source_[tag + 1] == '%' || source_[tag + 1] == '{' || source_[tag + 1] == '#')) {
        break;
      }
    }
    const std::string_view data = std::string_view(source_).substr(at_, tag - at_);
    if (tag == source_.size()) {
      add(Token::Type::Data, data);
      advance_to(tag);
      return;
    }
    const char kind = source_[tag + 1];
    const Sign sign = sign_at(tag + 2);
    const size_t inside = tag + 2 + (sign == Sign::None ? 0 : 1);
    add_data(data, sign, kind == '{');
    advance_to(tag);
    if (kind == '#') {
      comment(inside);
    } else if (const size_t raw = raw_begin(inside); kind == '%' && raw != 0) {
      raw_block(raw);
    } else {
      add(kind == '{' ? Token::Type::VariableBegin : Token::Type::BlockBegin, "");
      advance_to(inside);
      inside_tag(kind == '{');
    }
    line_starting_ = at_ > 0 && source_[at_ - 1] == '\n';
  }

  void comment(size_t inside) {
    const size_t end = source_.find("#}", inside);
    if (end == std::string::npos) error("a comment '{{#' has no end '#}}'");
    // "{#-#}" is too short to hold a sign of its own at the end.
    const Sign sign = end > inside ? sign_at(end - 1) : Sign::None;
    size_t after = end + 2;
    if (sign == Sign::Minus) {
      after = skip_space(after);
    } else if (sign == Sign::None && looking_at("\n", after)) {
      ++after;
    }
    advance_to(after);
  }

  /// Where the content of a raw block begins if `at`, inside of a block tag, opens one; else 0.
  size_t raw_begin(size_t at) const {
    at = skip_space(at);
    if (!looking_at("raw", at)) return 0;
    at = skip_space(at + 3);
    if (looking_at("-%}", at)) return skip_space(at + 3);
    return looking_at("%}", at) ? at + 2 : 0;
  }

  void raw_block(size_t begin) {
    advance_to(begin);
    line_starting_ = source_[at_ - 1] == '\n';
    for (size_t tag = source_.find("{%", at_); tag != std::string::npos;
         tag = source_.find("{%", tag + 1)) {
      const Sign sign = sign_at(tag + 2);
      size_t at = skip_space(tag + 2 + (sign == Sign::None ? 0 : 1));
      if (!looking_at("endraw", at)) continue;
      at = skip_space(at + 6);
      const Sign end_sign = sign_at(at);
      if (end_sign != Sign::None) ++at;
      if (!looking_at("%}", at)) continue;
      at += 2;
      if (end_sign == Sign::Minus) {
        at = skip_space(at);
      } else if (end_sign == Sign::None && looking_at("\n", at)) {
        ++at;
      }
      add_data(std::string_view(source_).substr(at_, tag - at_), sign, false);
      advance_to(at);
      return;
    }
    error("a raw block has no endraw");
  }

  /// The end of the tag, if it is here; nesting braces are closed first.
  bool tag_end(bool variable) {
    if (!open_.empty()) return false;
    const std::string_view mark = variable ? "}}" : "%}";
    const Sign sign = sign_at(at_);
    if (sign == Sign::Plus && variable) return false;
    const size_t start = at_ + (sign == Sign::None ? 0 : 1);
    if (!looking_at(mark, start)) return false;
    size_t after = start + 2;
    if (sign == Sign::Minus) {
      after = skip_space(after);
    } else if (sign == Sign::None && !variable && looking_at("\n", after)) {
      ++after;
    }
    add(variable ? Token::Type::VariableEnd : Token::Type::BlockEnd, "");
    advance_to(after);
    return true;
  }

  void inside_tag(bool variable) {
    open_.clear();
    while (true) {
      if (tag_end(variable)) return;
      if (at_ >= source_.size()) {
        error("the template ends inside of a '{}' tag", variable ? "{{" : "{%");
      }
      const text::CodePoint c = text::decode(source_, at_);
      if (text::is_space(c.value)) {
        advance_to(skip_space(at_));
      } else if (is_digit(source_[at_])) {
        number();
      } else if (c.value == '_' || text::is_identifier_start(c.value)) {
        name();
      } else if (c.value == '\'' || c.value == '"') {
        string(static_cast<char>(c.value));
      } else {
        operator_token();
      }
    }
  }

  void name() {
    size_t end = at_;
    while (end < source_.size()) {
      const text::CodePoint c = text::decode(source_, end);
      if (!text::is_identifier_part(c.value)) break;
      end += c.size;
    }
    add(Token::Type::Name, std::string_view(source_).substr(at_, end - at_));
    at_ = end;
  }

  void operator_token() {
    static constexpr std::array<std::string_view, 26> operators = {
        "==", "!=", ">=", "<=", "//", "**", "+", "-", "/", "*", "%", "~", "[",
        "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};
    for (const std::string_view op : operators) {
      if (!looking_at(op)) continue;
      balance(op[0]);
      add(Token::Type::Operator, op);
      at_ += op.size();
      return;
    }
    const text::CodePoint c = text::decode(source_, at_);
    error("unexpected character '{}'", std::string_view(source_).substr(at_, c.size));
  }

  void balance(char c) {
    if (c == '(' || c == '[' || c == '{') {
      open_ += c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (c == ')' || c == ']' || c == '}') {
      if (open_.empty()) error("unexpected '{}'", c);
      if (open_.back() != c) error("unexpected '{}', expected '{}'", c, open_.back());
      open_.pop_back();
    }
  }

  /// Past digits of `base` from `at`, single underscores between them allowed.
  size_t digits(size_t at, int base) const {
    const auto is = [&](size_t i) { return i < source_.size() && digit_value(source_[i]) < base; };
    if (!is(at)) return at;
    while (is(at) || (at < source_.size() && source_[at] == '_' && is(at + 1))) ++at;
    return at;
  }

  void number() {
    int base = 10;
    size_t begin = at_;
    if (source_[at_] == '0' && at_ + 1 < source_.size()) {
      const char mark = static_cast<char>(source_[at_ + 1] | 0x20);
      const int wanted = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 10;
      if (wanted != 10 && digits(at_ + 2, wanted) > at_ + 2) {
        base = wanted;
        begin = at_ + 2;
      }
    }
    size_t end = digits(begin, base);
    bool real = false;
    // "a.1.2" indexes twice: a number after a dot is never a float.
    if (base == 10 && (at_ == 0 || source_[at_ - 1] != '.')) {
      size_t after = end;
      if (looking_at(".", end) && digits(end + 1, 10) > end + 1) {
        after = digits(end + 1, 10);
        real = true;
      }
      if (after < source_.size() && (source_[after] | 0x20) == 'e') {
        const size_t sign = after + 1;
        const size_t exponent = sign + (sign_at(sign) == Sign::None ? 0 : 1);
        if (const size_t last = digits(exponent, 10); last > exponent) {
          after = last;
          real = true;
        }
      }
      if (real) end = after;
    }
    std::string plain = source_.substr(begin, end - begin);
    std::erase(plain, '_');
    add(Token::Type::Number, plain);
    tokens_.back().number = real ? float_value(plain) : int_value(plain, base);
    at_ = end;
  }

  Value float_value(const std::string& plain) const {
    double value = 0;
    std::from_chars(plain.data(), plain.data() + plain.size(), value);
    return Value(value);
  }

  Value int_value(const std::string& plain, int base) const {
    if (base == 10 && plain.size() > 1 && plain[0] == '0' &&
        plain.find_first_not_of('0') != std::string::npos) {
      error("the number {} begins with a zero", plain);
    }
    Int value = 0;
    for (const char c : plain) {
      if (__builtin_mul_overflow(value, Int{base}, &value) ||
          __builtin_add_overflow(value, Int{digit_value(c)}, &value)) {
        error("the number {} does not fit 128 bits", plain);
      }
    }
    return Value(value);
  }

  void string(char quote) {
    size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) error("a string has no end {}", quote);
    add(Token::Type::String, "");
    tokens_.back().text = unescape(std::string_view(source_).substr(at_ + 1, end - at_ - 1));
    advance_to(end + 1);
  }

  std::string unescape(std::string_view raw) const {
    std::string out;
    out.reserve(raw.size());
    for (size_t i = 0; i < raw.size(); ++i) {
      if (raw[i] != '\\') {
        out += raw[i];
        continue;
      }
      i = escape_sequence(raw, i + 1, out) - 1;
    }
    return out;
  }

  /// Appends what the escape after the backslash means; gives the index behind it.
  size_t escape_sequence(std::string_view raw, size_t i, std::string& out) const {
    static constexpr std::string_view letters = "\\'\"abfnrtv";
    static constexpr std::string_view meanings = "\\'\"\a\b\f\n\r\t\v";
    const char c = raw[i];
    if (c == '\n') return i + 1;
    if (const size_t known = letters.find(c); known != std::string_view::npos) {
      out += meanings[known];
      return i + 1;
    }
    if (c >= '0' && c <= '7') {
      uint32_t value = 0;
      size_t end = i;
      while (end < raw.size() && end < i + 3 && raw[end] >= '0' && raw[end] <= '7') {
        value = value * 8 + static_cast<uint32_t>(raw[end++] - '0');
      }
      text::append(out, value);
      return end;
    }
    if (c == 'x' || c == 'u' || c == 'U') {
      const size_t count = c == 'x' ? 2 : c == 'u' ? 4 : 8;
      uint32_t value = 0;
      for (size_t k = 1; k <= count; ++k) {
        const int digit = i + k < raw.size() ? digit_value(raw[i + k]) : 99;
        if (digit > 15) error("a string has a truncated \\{} escape", c);
        value = value << 4 | static_cast<uint32_t>(digit);
      }
      if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) {
        error("a string has the escape of U+{:X}, which is not a character", value);
      }
      text::append(out, value);
      return i + 1 + count;
    }
    if (c == 'N') error("a string names a character with \\N, which is not supported");
    out += '\\';
    if ((c & 0x80) == 0) {
      out += c;
      return i + 1;
    }
    // Python first spells the character as an escape of its own, whose backslash this one escapes.
    const text::CodePoint point = text::decode(raw, i);
    const char* spelling = point.value < 0x100     ? "x{:02x}"
                           : point.value < 0x10000 ? "u{:04x}"
                                                   : "U{:08x}";
    out += fmt::format(fmt::runtime(spelling), point.value);
    return i + point.size;
  }

  std::string source_;
  size_t at_ = 0;
  uint32_t line_ = 1;
  bool line_starting_ = true;  // the last tag ended with a line break, or nothing came before
  std::string open_;           // the closing braces still owed inside of this tag
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) { return Lexer(source).run(); }

}  // namespace fathom::jinja
