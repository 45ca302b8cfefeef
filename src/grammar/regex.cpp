#include "grammar/regex.h"

#include <algorithm>
#include <string>

#include "base/error.h"

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

class Parser {
 public:
  Parser(JsonText& json, std::string_view pattern)
      : json_(json), b_(json.builder()), text_(pattern) {}

  Expr whole() {
    // Each alternative on its own says whether the text may go on before and after it.
    std::vector<Expr> options;
    do {
      const bool from_start = take('^');
      Expr body = sequence(true);
      const bool to_end = take('$');
      if (at_ < text_.size() && text_[at_] != '|') {
        if (text_[at_] == ')') wrong("a ) without its (");
        unsupported("an anchor in the middle");
      }
      std::vector<Expr> parts;
      const Expr anything = b_.repeat(json_.any_character(), 0);
      if (!from_start) parts.push_back(anything);
      parts.push_back(body);
      if (!to_end) parts.push_back(anything);
      options.push_back(b_.sequence(std::move(parts)));
    } while (take('|'));
    return b_.sequence({b_.literal("\""), b_.choice(std::move(options)), b_.literal("\"")});
  }

 private:
  [[noreturn]] void wrong(const char* what) const {
    fail(ErrorCode::InvalidArgument, "pattern '{}': {} at byte {}", text_, what, at_);
  }
  [[noreturn]] void unsupported(const char* what) const {
    fail(ErrorCode::Unsupported, "pattern '{}': {} (at byte {}) is not supported", text_, what,
         at_);
  }
  bool more() const { return at_ < text_.size(); }
  bool take(char c) {
    if (!more() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  /// The next code point.
  std::uint32_t character() {
    const auto byte = static_cast<unsigned char>(text_[at_]);
    const std::size_t length = byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
    if (at_ + length > text_.size()) wrong("half a character");
    std::uint32_t c = length == 1 ? byte : byte & (0x7FU >> length);
    for (std::size_t i = 1; i < length; ++i) {
      c = c << 6 | (static_cast<unsigned char>(text_[at_ + i]) & 0x3FU);
    }
    at_ += length;
    return c;
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
    while (more() && text_[at_] != '|' && text_[at_] != ')') {
      if (text_[at_] == '^' || text_[at_] == '$') {
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
    } else if (more() && text_[at_] == '{') {
      const std::size_t back = at_++;
      const auto first = number();
      if (!first) {  // a brace that stands for itself
        at_ = back;
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
    if (more() && (text_[at_] == '*' || text_[at_] == '+')) wrong("two repetitions");
    return b_.repeat(body, least, most);
  }

  std::optional<std::uint32_t> number() {
    std::uint32_t n = 0;
    const std::size_t begin = at_;
    for (; more() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
      if (at_ - begin >= 7) wrong("too large a number");
      n = n * 10 + static_cast<std::uint32_t>(text_[at_] - '0');
    }
    if (at_ == begin) return std::nullopt;
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
          if (more() && (text_[at_] == '=' || text_[at_] == '!')) unsupported("looking behind");
          while (more() && text_[at_] != '>') ++at_;
          if (!take('>')) wrong("a group's name without end");
        } else if (!take(':')) {
          unsupported("looking ahead");
        }
      }
      const Expr body = alternatives();
      if (!take(')')) wrong("a ( without its )");
      return body;
    }
    if (take('[')) return json_.character(char_class());
    if (take('.')) return json_.character(all_but(kLineEnds));
    if (text_[at_] == '*' || text_[at_] == '+' || text_[at_] == '?') wrong("nothing to repeat");
    if (take('\\')) return json_.character(escape(false));
    const std::uint32_t c = character();
    return json_.character({{c, c}});
  }

  std::uint32_t hex(int digits) {
    std::uint32_t c = 0;
    for (int i = 0; i < digits; ++i, ++at_) {
      const char x = more() ? text_[at_] : ' ';
      const int d = x >= '0' && x <= '9'   ? x - '0'
                    : x >= 'a' && x <= 'f' ? x - 'a' + 10
                    : x >= 'A' && x <= 'F' ? x - 'A' + 10
                                           : -1;
      if (d < 0) wrong("a code in hexadecimal that is none");
      c = c * 16 + static_cast<std::uint32_t>(d);
    }
    return c;
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
          const std::size_t end = text_.find('}', at_);
          if (end == std::string_view::npos || end - at_ > 6 || end == at_)
            wrong("a code without }");
          code = hex(static_cast<int>(end - at_));
          ++at_;
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
    const auto single = [](const Ranges& r) { return r.size() == 1 && r[0].first == r[0].last; };
    while (true) {
      if (!more()) wrong("a [ without its ]");
      if (take(']')) break;
      Ranges first = take('\\') ? escape(true) : [&] {
        const std::uint32_t c = character();
        return Ranges{{c, c}};
      }();
      if (at_ + 1 < text_.size() && text_[at_] == '-' && text_[at_ + 1] != ']' && single(first)) {
        ++at_;
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
      all.insert(all.end(), first.begin(), first.end());
    }
    return negated ? all_but(std::move(all)) : normal(std::move(all));
  }

  JsonText& json_;
  Builder& b_;
  std::string_view text_;
  std::size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

Builder::Expr string_matching(JsonText& json, std::string_view pattern) {
  return Parser(json, pattern).whole();
}

}  // namespace fathom::grammar
