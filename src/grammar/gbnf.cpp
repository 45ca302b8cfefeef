#include "grammar/gbnf.h"

#include <algorithm>
#include <map>
#include <optional>
#include <string>

#include "base/error.h"
#include "grammar/pattern_text.h"

namespace fathom::grammar {
namespace {

using Expr = Builder::Expr;

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  std::shared_ptr<const Grammar> run() {
    skip(true);
    while (more()) {
      const std::string name = word();
      skip(false);
      if (!take("::=")) wrong("a rule's name must be followed by ::=");
      skip(true);
      const Builder::Rule rule = rule_of(name);
      if (!defined_.emplace(name, true).second) wrong("a rule is defined twice");
      b_.define(rule, alternatives(false));
      skip(false);
      if (more() && text_.peek() != '\n' && text_.peek() != '\r')
        wrong("something that is no part of a rule");
      skip(true);
    }
    require(defined_.contains("root"), ErrorCode::InvalidArgument,
            "the grammar has no rule 'root'");
    return b_.compile(rule_of("root"));
  }

 private:
  [[noreturn]] void wrong(const char* what) const {
    const auto line = 1 + std::ranges::count(text_.text().substr(0, text_.at()), '\n');
    fail(ErrorCode::InvalidArgument, "the grammar's line {}: {}", line, what);
  }
  bool more() const { return text_.more(); }
  bool take(std::string_view word) { return text_.take(word); }
  /// White space and comments; line breaks too if `lines`.
  void skip(bool lines) {
    while (more()) {
      const char c = text_.peek();
      if (c == '#') {
        while (more() && text_.peek() != '\n') text_.skip();
      } else if (c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r'))) {
        text_.skip();
      } else {
        return;
      }
    }
  }
  static bool is_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
  }
  std::string word() {
    const std::size_t begin = text_.at();
    while (is_word(text_.peek())) text_.skip();
    if (text_.at() == begin) wrong("a rule's name was expected");
    return std::string(text_.text().substr(begin, text_.at() - begin));
  }
  Builder::Rule rule_of(const std::string& name) {
    const auto found = rules_.find(name);
    if (found != rules_.end()) return found->second;
    return rules_.emplace(name, b_.declare(name)).first->second;
  }

  Expr alternatives(bool nested) {
    require(++depth_ < 200, ErrorCode::ResourceLimit, "the grammar nests deeper than 200");
    std::vector<Expr> options;
    do {
      skip(true);
      options.push_back(sequence(nested));
      // An alternative may stand on the next line, if that is not the next rule.
      const std::size_t back = text_.at();
      skip(true);
      if (text_.peek() != '|') text_.go_back(back);
    } while (take("|"));
    --depth_;
    return b_.choice(std::move(options));
  }

  Expr sequence(bool nested) {
    std::vector<Expr> parts;
    while (true) {
      skip(nested);
      if (!more()) break;
      const char c = text_.peek();
      if (c == '"') {
        text_.skip();
        parts.push_back(repeated(literal()));
      } else if (c == '[') {
        text_.skip();
        parts.push_back(repeated(char_class()));
      } else if (c == '(') {
        text_.skip();
        const Expr body = alternatives(true);
        skip(true);
        if (!take(")")) wrong("a ( without its )");
        parts.push_back(repeated(body));
      } else if (c == '.') {
        text_.skip();
        parts.push_back(repeated(b_.chars({{0, kLastCodePoint}})));
      } else if (is_word(c)) {
        parts.push_back(repeated(b_.use(rule_of(word()))));
      } else {
        break;
      }
    }
    return b_.sequence(std::move(parts));
  }

  Expr repeated(Expr body) {
    while (more()) {
      if (take("*")) {
        body = b_.repeat(body, 0);
      } else if (take("+")) {
        body = b_.repeat(body, 1);
      } else if (take("?")) {
        body = b_.repeat(body, 0, 1);
      } else if (take("{")) {
        const auto least = number();
        std::uint32_t most = least.value_or(0);
        if (take(",")) {
          most = number().value_or(kUnbounded);
        } else if (!least) {
          wrong("a { without a number");
        }
        if (!take("}")) wrong("a { without its }");
        if (least.value_or(0) > most) wrong("a repetition of more than it allows");
        body = b_.repeat(body, least.value_or(0), most);
      } else {
        break;
      }
    }
    return body;
  }

  std::optional<std::uint32_t> number() {
    const auto n = text_.number();
    if (text_.number_is_too_long()) wrong("too large a number");
    return n;
  }

  /// A character, as it is or escaped.
  std::uint32_t character() {
    if (take("\\")) {
      if (!more()) wrong("a \\ at the end");
      const char c = text_.peek();
      text_.skip();
      switch (c) {
        case 'n':
          return '\n';
        case 't':
          return '\t';
        case 'r':
          return '\r';
        case 'x':
          return hex(2);
        case 'u':
          return hex(4);
        case 'U':
          return hex(8);
        default:
          return static_cast<unsigned char>(c);
      }
    }
    const auto c = text_.character();
    if (!c) wrong("half a character");
    return *c;
  }

  std::uint32_t hex(std::size_t digits) {
    const auto code = text_.hexadecimal(digits);
    if (!code) wrong("a code in hexadecimal that is none");
    const bool surrogate = *code >= 0xD800 && *code <= 0xDFFF;
    if (*code > kLastCodePoint || surrogate) wrong("no character's code");
    return *code;
  }

  Expr literal() {
    std::vector<Expr> parts;
    while (true) {
      if (!more() || text_.peek() == '\n') wrong("a \" without its \"");
      if (take("\"")) return b_.sequence(std::move(parts));
      const std::uint32_t c = character();
      parts.push_back(b_.chars({{c, c}}));
    }
  }

  Expr char_class() {
    const bool negated = take("^");
    std::vector<CodeRange> ranges;
    while (true) {
      if (!more() || text_.peek() == '\n') wrong("a [ without its ]");
      if (take("]")) break;
      CodeRange range;
      range.first = range.last = character();
      if (text_.peek() == '-' && text_.peek(1) != ']' && text_.peek(1) != '\0') {
        text_.skip();
        range.last = character();
        if (range.last < range.first) wrong("a range that runs backwards");
      }
      ranges.push_back(range);
    }
    return b_.chars(negated ? all_but(std::move(ranges)) : normal(std::move(ranges)));
  }

  Builder b_;
  PatternText text_;
  int depth_ = 0;
  std::map<std::string, Builder::Rule> rules_;
  std::map<std::string, bool> defined_;
};

}  // namespace

std::shared_ptr<const Grammar> gbnf_grammar(std::string_view text) { return Parser(text).run(); }

}  // namespace fathom::grammar
