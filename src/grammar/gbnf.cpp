#include "grammar/gbnf.h"

#include <algorithm>
#include <map>
#include <optional>
#include <string>

#include "base/error.h"

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
      if (more() && text_[at_] != '\n' && text_[at_] != '\r')
        wrong("something that is no part of a rule");
      skip(true);
    }
    require(defined_.contains("root"), ErrorCode::InvalidArgument,
            "the grammar has no rule 'root'");
    return b_.compile(rule_of("root"));
  }

 private:
  [[noreturn]] void wrong(const char* what) const {
    const auto line = 1 + std::ranges::count(text_.substr(0, std::min(at_, text_.size())), '\n');
    fail(ErrorCode::InvalidArgument, "the grammar's line {}: {}", line, what);
  }
  bool more() const { return at_ < text_.size(); }
  bool take(std::string_view word) {
    if (!text_.substr(at_).starts_with(word)) return false;
    at_ += word.size();
    return true;
  }
  /// White space and comments; line breaks too if `lines`.
  void skip(bool lines) {
    while (more()) {
      const char c = text_[at_];
      if (c == '#') {
        while (more() && text_[at_] != '\n') ++at_;
      } else if (c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r'))) {
        ++at_;
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
    const std::size_t begin = at_;
    while (more() && is_word(text_[at_])) ++at_;
    if (at_ == begin) wrong("a rule's name was expected");
    return std::string(text_.substr(begin, at_ - begin));
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
      const std::size_t back = at_;
      skip(true);
      if (!more() || text_[at_] != '|') at_ = back;
    } while (take("|"));
    --depth_;
    return b_.choice(std::move(options));
  }

  Expr sequence(bool nested) {
    std::vector<Expr> parts;
    while (true) {
      skip(nested);
      if (!more()) break;
      const char c = text_[at_];
      if (c == '"') {
        ++at_;
        parts.push_back(repeated(literal()));
      } else if (c == '[') {
        ++at_;
        parts.push_back(repeated(char_class()));
      } else if (c == '(') {
        ++at_;
        const Expr body = alternatives(true);
        skip(true);
        if (!take(")")) wrong("a ( without its )");
        parts.push_back(repeated(body));
      } else if (c == '.') {
        ++at_;
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
    const std::size_t begin = at_;
    std::uint32_t n = 0;
    for (; more() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
      if (at_ - begin >= 7) wrong("too large a number");
      n = n * 10 + static_cast<std::uint32_t>(text_[at_] - '0');
    }
    if (at_ == begin) return std::nullopt;
    return n;
  }

  /// A character, as it is or escaped.
  std::uint32_t character() {
    if (take("\\")) {
      if (!more()) wrong("a \\ at the end");
      const char c = text_[at_++];
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

  std::uint32_t hex(int digits) {
    std::uint32_t code = 0;
    for (int i = 0; i < digits; ++i, ++at_) {
      const char x = more() ? text_[at_] : ' ';
      const int d = x >= '0' && x <= '9'   ? x - '0'
                    : x >= 'a' && x <= 'f' ? x - 'a' + 10
                    : x >= 'A' && x <= 'F' ? x - 'A' + 10
                                           : -1;
      if (d < 0) wrong("a code in hexadecimal that is none");
      code = code * 16 + static_cast<std::uint32_t>(d);
    }
    if (code > kLastCodePoint || (code >= 0xD800 && code <= 0xDFFF)) wrong("no character's code");
    return code;
  }

  Expr literal() {
    std::vector<Expr> parts;
    while (true) {
      if (!more() || text_[at_] == '\n') wrong("a \" without its \"");
      if (take("\"")) return b_.sequence(std::move(parts));
      const std::uint32_t c = character();
      parts.push_back(b_.chars({{c, c}}));
    }
  }

  Expr char_class() {
    const bool negated = take("^");
    std::vector<CodeRange> ranges;
    while (true) {
      if (!more() || text_[at_] == '\n') wrong("a [ without its ]");
      if (take("]")) break;
      CodeRange range;
      range.first = range.last = character();
      if (at_ + 1 < text_.size() && text_[at_] == '-' && text_[at_ + 1] != ']') {
        ++at_;
        range.last = character();
        if (range.last < range.first) wrong("a range that runs backwards");
      }
      ranges.push_back(range);
    }
    return b_.chars(negated ? all_but(std::move(ranges)) : normal(std::move(ranges)));
  }

  Builder b_;
  std::string_view text_;
  std::size_t at_ = 0;
  int depth_ = 0;
  std::map<std::string, Builder::Rule> rules_;
  std::map<std::string, bool> defined_;
};

}  // namespace

std::shared_ptr<const Grammar> gbnf_grammar(std::string_view text) { return Parser(text).run(); }

}  // namespace fathom::grammar
