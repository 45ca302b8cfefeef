#include "grammar/regex.h"

#include <algorithm>
#include <functional>
#include <string>

#include "base/error.h"
#include "grammar/case_fold.h"
#include "grammar/pattern_text.h"

namespace fathom::grammar {
namespace {

using Expr = Builder::Expr;
using Ranges = std::vector<CodeRange>;

const Ranges kDigits{{'0', '9'}};
const Ranges kWords{{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
const Ranges kSpaces{{'\t', '\r'},     {' ', ' '},       {0xA0, 0xA0},     {0x1680, 0x1680},
                     {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F},
                     {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
const Ranges kLineEnds{{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};

constexpr struct {
  std::string_view word;
  char assertion;
} kAssertions[] = {{"^", static_cast<char>(kAtBegin)},
                   {"$", static_cast<char>(kAtEnd)},
                   {"\\b", static_cast<char>(kAtWordEdge)},
                   {"\\B", static_cast<char>(kNotAtWordEdge)}};

/// A character out of these, in the form that the text has it.
using OneOf = std::function<Expr(const Ranges&)>;

class Parser {
 public:
  Parser(Builder& builder, std::string_view pattern, OneOf one_of)
      : b_(builder), text_(pattern), one_of_(std::move(one_of)) {}

  /// Anywhere in a text, anchors being assertions of their own.
  Expr part(bool ignore_case) {
    assertions_ = true;
    ignore_case_ = ignore_case;
    const Expr all = alternatives();
    if (more()) wrong("a ) without its (");
    return all;
  }

  /// A whole text, of which `any` is a character.
  Expr whole(Expr any) {
    // Each alternative on its own says whether the text may go on before and after it.
    std::vector<Expr> options;
    do {
      const bool from_start = take('^');
      Expr body = sequence(true);
      const bool to_end = take('$');
      if (more() && text_.peek() != '|') {
        if (text_.peek() == ')') wrong("a ) without its (");
        unsupported("an anchor in the middle");
      }
      std::vector<Expr> parts;
      const Expr anything = b_.repeat(any, 0);
      if (!from_start) parts.push_back(anything);
      parts.push_back(body);
      if (!to_end) parts.push_back(anything);
      options.push_back(b_.sequence(std::move(parts)));
    } while (take('|'));
    return b_.choice(std::move(options));
  }

 private:
  [[noreturn]] void wrong(const char* what) const {
    fail(ErrorCode::InvalidArgument, "pattern '{}': {} at byte {}", text_.text(), what, text_.at());
  }
  [[noreturn]] void unsupported(const char* what) const {
    fail(ErrorCode::Unsupported, "pattern '{}': {} (at byte {}) is not supported", text_.text(),
         what, text_.at());
  }
  bool more() const { return text_.more(); }
  bool take(char c) { return text_.take(std::string_view(&c, 1)); }

  std::uint32_t character() {
    const auto c = text_.character();
    if (!c) wrong("half a character");
    return *c;
  }

  Expr alternatives() {
    std::vector<Expr> options;
    do {
      options.push_back(sequence(false));
    } while (take('|'));
    return b_.choice(std::move(options));
  }

  Expr sequence(bool top) {
    std::vector<Expr> parts;
    while (more() && text_.peek() != '|' && text_.peek() != ')') {
      if (!assertions_ && (text_.peek() == '^' || text_.peek() == '$')) {
        if (top) break;  // whole() looks at it
        unsupported("an anchor in the middle");
      }
      parts.push_back(quantified(atom()));
    }
    return b_.sequence(std::move(parts));
  }

  Expr quantified(Expr body) {
    std::uint32_t least = 1;
    std::uint32_t most = 1;
    if (take('*')) {
      least = 0;
      most = kUnbounded;
    } else if (take('+')) {
      most = kUnbounded;
    } else if (take('?')) {
      least = 0;
    } else if (text_.peek() == '{') {
      const std::size_t back = text_.at();
      text_.skip();
      const auto first = number();
      if (!first) {  // a brace that stands for itself
        text_.go_back(back);
        return body;
      }
      least = most = *first;
      if (take(',')) most = number().value_or(kUnbounded);
      if (!take('}')) wrong("a { without its }");
      if (least > most) wrong("a repetition of more than it allows");
    } else {
      return body;
    }
    take('?');  // lazy or not, the same texts match
    if (text_.peek() == '*' || text_.peek() == '+') wrong("two repetitions");
    return b_.repeat(body, least, most);
  }

  std::optional<std::uint32_t> number() {
    const auto n = text_.number();
    if (text_.number_is_too_long()) wrong("too large a number");
    return n;
  }

  Expr atom() {
    require(++depth_ < 200, ErrorCode::ResourceLimit, "a pattern nests deeper than 200");
    const Expr made = atom_within();
    --depth_;
    return made;
  }

  Expr atom_within() {
    if (take('(')) {
      if (take('?')) {
        if (take('<')) {
          if (text_.peek() == '=' || text_.peek() == '!') unsupported("looking behind");
          while (more() && text_.peek() != '>') text_.skip();
          if (!take('>')) wrong("a group's name without end");
        } else if (!take(':')) {
          unsupported("looking ahead");
        }
      }
      const Expr body = alternatives();
      if (!take(')')) wrong("a ( without its )");
      return body;
    }
    if (take('[')) return one_of_(char_class());
    if (take('.')) return one_of_(all_but(kLineEnds));
    if (assertions_) {
      for (const auto& [word, assertion] : kAssertions) {
        if (text_.take(word)) return b_.literal(std::string_view(&assertion, 1));
      }
    }
    if (text_.peek() == '*' || text_.peek() == '+' || text_.peek() == '?')
      wrong("nothing to repeat");
    if (take('\\')) {
      const Ranges escaped = escape(false);
      return one_of_(single(escaped) ? in_any_case(escaped) : escaped);
    }
    const std::uint32_t c = character();
    return one_of_(in_any_case({{c, c}}));
  }

  static bool single(const Ranges& r) { return r.size() == 1 && r[0].first == r[0].last; }
  /// Of characters that the pattern writes. Classes (\d, \W) are what they are: folded, \W would
  /// hold an s, for the sake of the long one.
  Ranges in_any_case(Ranges written) const {
    return ignore_case_ ? with_other_cases(std::move(written)) : written;
  }

  std::uint32_t hex(std::size_t digits) {
    const auto code = text_.hexadecimal(digits);
    if (!code) wrong("a code in hexadecimal that is none");
    return *code;
  }

  Ranges escape(bool in_class) {
    if (!more()) wrong("a \\ at the end");
    const std::uint32_t c = character();
    switch (c) {
      case 'd':
        return kDigits;
      case 'D':
        return all_but(kDigits);
      case 'w':
        return kWords;
      case 'W':
        return all_but(kWords);
      case 's':
        return kSpaces;
      case 'S':
        return all_but(kSpaces);
      case 'n':
        return {{'\n', '\n'}};
      case 't':
        return {{'\t', '\t'}};
      case 'r':
        return {{'\r', '\r'}};
      case 'f':
        return {{'\f', '\f'}};
      case 'v':
        return {{'\v', '\v'}};
      case '0':
        return {{0, 0}};
      case 'x': {
        const std::uint32_t code = hex(2);
        return {{code, code}};
      }
      case 'u': {
        std::uint32_t code = 0;
        if (take('{')) {
          const std::size_t end = text_.text().find('}', text_.at());
          const std::size_t digits = end == std::string_view::npos ? 0 : end - text_.at();
          if (digits == 0 || digits > 6) wrong("a code without }");
          code = hex(digits);
          text_.skip();
        } else {
          code = hex(4);
        }
        if (code > kLastCodePoint || (code >= 0xD800 && code <= 0xDFFF)) {
          unsupported("half a character by its code");
        }
        return {{code, code}};
      }
      case 'c': {
        if (!more()) wrong("a \\c at the end");
        const std::uint32_t code = character() & 31U;
        return {{code, code}};
      }
      case 'b':
        if (in_class) return {{'\b', '\b'}};
        unsupported("a word's boundary");
      case 'B':
        unsupported("a word's boundary");
      case 'p':
      case 'P':
        unsupported("a class by property");
      case 'k':
        unsupported("a back reference");
      default:
        if (c >= '1' && c <= '9') unsupported("a back reference");
        return {{c, c}};
    }
  }

  Ranges char_class() {
    const bool negated = take('^');
    Ranges all;
    while (true) {
      if (!more()) wrong("a [ without its ]");
      if (take(']')) break;
      Ranges first = take('\\') ? escape(true) : [&] {
        const std::uint32_t c = character();
        return Ranges{{c, c}};
      }();
      const bool written = single(first);
      if (text_.peek() == '-' && text_.peek(1) != ']' && text_.peek(1) != '\0' && written) {
        text_.skip();
        const Ranges last = take('\\') ? escape(true) : [&] {
          const std::uint32_t c = character();
          return Ranges{{c, c}};
        }();
        if (!single(last)) {  // [a-\d]: a dash that stands for itself
          all.push_back({'-', '-'});
          all.insert(all.end(), last.begin(), last.end());
        } else if (last[0].first < first[0].first) {
          wrong("a range that runs backwards");
        } else {
          first[0].last = last[0].last;
        }
      }
      if (written) first = in_any_case(std::move(first));
      all.insert(all.end(), first.begin(), first.end());
    }
    return negated ? all_but(std::move(all)) : normal(std::move(all));
  }

  Builder& b_;
  PatternText text_;
  const OneOf one_of_;
  bool assertions_ = false;
  bool ignore_case_ = false;
  int depth_ = 0;
};

}  // namespace

Builder::Expr string_matching(JsonText& json, std::string_view pattern) {
  Builder& b = json.builder();
  const auto one_of = [&json](const Ranges& ranges) { return json.character(ranges); };
  const Expr text = Parser(b, pattern, one_of).whole(json.any_character());
  return b.sequence({b.literal("\""), text, b.literal("\"")});
}

Builder::Expr text_matching(Builder& builder, std::string_view pattern, const OneOf& one_of) {
  return Parser(builder, pattern, one_of).whole(one_of({{0, kLastCodePoint}}));
}

Builder::Expr text_part(Builder& builder, std::string_view pattern, bool ignore_case) {
  const auto one_of = [&builder](const Ranges& ranges) { return builder.chars(ranges); };
  return Parser(builder, pattern, one_of).part(ignore_case);
}

}  // namespace fathom::grammar
