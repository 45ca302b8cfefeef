#include "grammar/json_text.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "grammar/pattern_text.h"

namespace fathom::grammar {
namespace {

ByteSet set_of(std::string_view bytes) {
  ByteSet set;
  for (const char c : bytes) set.set(static_cast<unsigned char>(c));
  return set;
}

constexpr std::string_view kHex = "0123456789abcdefABCDEF";

}  // namespace

JsonText::JsonText(Builder& builder)
    : b_(builder),
      space_(b_.declare("space")),
      value_(b_.declare("value")),
      object_(b_.declare("object")),
      array_(b_.declare("array")),
      string_(b_.declare("string")),
      character_(b_.declare("character")),
      number_(b_.declare("number")),
      integer_(b_.declare("integer")),
      unicode_(b_.declare("unicode escape")) {
  const Expr indent = b_.repeat(b_.bytes(set_of(" \t")), 0, 20);
  const Expr line = b_.sequence({b_.optional(b_.literal("\r")), b_.literal("\n"), indent});
  b_.define(space_, b_.choice({b_.empty(), b_.literal(" "), line}));

  // \uD800 to \uDFFF are halves of characters.
  const Expr hex = b_.bytes(set_of(kHex));
  const Expr other = b_.sequence({b_.bytes(set_of("0123456789abcefABCEF")), hex});
  const Expr low = b_.sequence({b_.bytes(set_of("dD")), b_.bytes(set_of("01234567"))});
  b_.define(unicode_, b_.sequence({b_.literal("u"), b_.choice({other, low}), hex, hex}));
  const Expr escape = b_.sequence(
      {b_.literal("\\"), b_.choice({b_.bytes(set_of("\"\\/bfnrt")), b_.use(unicode_)})});
  const Expr plain = b_.chars(all_but({{0, 0x1F}, {'"', '"'}, {'\\', '\\'}}));
  b_.define(character_, b_.choice({plain, escape}));
  b_.define(string_, string_of(0, kUnbounded));

  const Expr digit = b_.bytes(set_of("0123456789"));
  const Expr whole = b_.choice(
      {b_.literal("0"), b_.sequence({b_.bytes(set_of("123456789")), b_.repeat(digit, 0, 15)})});
  const Expr minus = b_.optional(b_.literal("-"));
  b_.define(integer_, b_.sequence({minus, whole}));
  const Expr fraction = b_.sequence({b_.literal("."), b_.repeat(digit, 1, 16)});
  const Expr exponent = b_.sequence(
      {b_.bytes(set_of("eE")), b_.optional(b_.bytes(set_of("+-"))), b_.repeat(digit, 1, 2)});
  b_.define(number_, b_.sequence({minus, whole, b_.optional(fraction), b_.optional(exponent)}));

  b_.define(object_, object_of({}, member(string(), value())));
  b_.define(array_, array_of({}, value(), 0, kUnbounded));
  b_.define(value_, b_.choice({object(), array(), string(), number(), boolean(), null()}));
}

Builder::Expr JsonText::comma() { return b_.sequence({space(), b_.literal(","), space()}); }

Builder::Expr JsonText::character(const std::vector<CodeRange>& ranges) {
  const std::vector<CodeRange> wanted = normal(ranges);
  std::vector<Expr> options;
  std::vector<CodeRange> plain;
  const auto holds = [&](std::uint32_t c) {
    return std::ranges::any_of(wanted,
                               [&](const CodeRange& r) { return r.first <= c && c <= r.last; });
  };
  for (const CodeRange& range : wanted) {
    // Without what must be escaped: cut at each.
    std::uint32_t next = std::max<std::uint32_t>(range.first, 0x20);
    for (const std::uint32_t c : {std::uint32_t{'"'}, std::uint32_t{'\\'}}) {
      if (c < next || c > range.last) continue;
      if (c > next) plain.push_back({next, c - 1});
      next = c + 1;
    }
    if (next <= range.last) plain.push_back({next, range.last});
  }
  if (!plain.empty()) options.push_back(b_.chars(plain));
  for (const std::uint32_t c : {std::uint32_t{'"'}, std::uint32_t{'\\'}}) {
    if (holds(c)) options.push_back(b_.literal(c == '"' ? "\\\"" : "\\\\"));
  }
  for (std::uint32_t c = 0; c < 0x20; ++c) {
    if (!holds(c)) continue;
    const std::string escaped = nlohmann::json(std::string(1, static_cast<char>(c))).dump();
    options.push_back(b_.literal(std::string_view(escaped).substr(1, escaped.size() - 2)));
  }
  if (options.empty()) return b_.bytes({});
  return b_.choice(std::move(options));
}

Builder::Expr JsonText::quoted(std::string_view utf8) {
  return b_.literal(nlohmann::json(std::string(utf8)).dump());
}

Builder::Expr JsonText::string_of(std::uint32_t least, std::uint32_t most) {
  return b_.sequence({b_.literal("\""), b_.repeat(any_character(), least, most), b_.literal("\"")});
}

Builder::Expr JsonText::string_but(const std::vector<std::string>& taken) {
  // A tree of the names, by bytes of plain characters; at each place the text may leave it.
  struct Tree {
    std::map<std::uint32_t, Tree> next;
    bool ends = false;
  };
  Tree root;
  for (const std::string& name : taken) {
    Tree* at = &root;
    for (const std::uint32_t c : code_points(name)) at = &at->next[c];
    at->ends = true;
  }
  const std::vector<CodeRange> reserved{{0, 0x1F}, {'"', '"'}, {'\\', '\\'}};
  const Expr any = b_.repeat(b_.chars(all_but(reserved)), 0);
  // From the leaves to the root: names are as long as a schema may make them.
  const auto build = [&](const auto& self, const Tree& tree) -> std::optional<Expr> {
    std::vector<Expr> options;
    std::vector<CodeRange> others = reserved;
    for (const auto& [c, below] : tree.next) {
      others.push_back({c, c});
      const auto rest = self(self, below);
      if (rest && c >= 0x20 && c != '"' && c != '\\') {
        options.push_back(b_.sequence({b_.chars({{c, c}}), *rest}));
      }
    }
    options.push_back(b_.sequence({b_.chars(all_but(others)), any}));
    if (!tree.ends) options.push_back(b_.empty());
    return b_.choice(std::move(options));
  };
  return b_.sequence({b_.literal("\""), *build(build, root), b_.literal("\"")});
}

Builder::Expr JsonText::member(Expr name, Expr value) {
  return b_.sequence({name, space(), b_.literal(":"), space(), value});
}

Builder::Expr JsonText::object_of(const std::vector<Member>& members, std::optional<Expr> more) {
  // tail[i][begun]: members from i on, after one that was written or none. Each is a rule, or the
  // text would double with every member that may be left out.
  const auto rule = [&](Expr body) {
    const Builder::Rule r = b_.declare("members");
    b_.define(r, body);
    return r;
  };
  Expr first = b_.empty();
  Expr later = b_.empty();
  if (more) {
    const Expr others = b_.repeat(b_.sequence({comma(), *more}), 0);
    first = b_.optional(b_.sequence({*more, others}));
    later = others;
  }
  for (std::size_t i = members.size(); i-- > 0;) {
    const Member& m = members[i];
    const bool shared = !m.required;
    Expr next_later = later;
    if (shared) {
      const Builder::Rule r = rule(later);
      next_later = b_.use(r);
    }
    const Expr written_first = b_.sequence({m.expr, next_later});
    const Expr written_later = b_.sequence({comma(), m.expr, next_later});
    first = m.required ? written_first : b_.choice({written_first, first});
    later = m.required ? written_later : b_.choice({written_later, next_later});
  }
  return b_.sequence({b_.literal("{"), space(), first, space(), b_.literal("}")});
}

Builder::Expr JsonText::array_of(const std::vector<Expr>& first, std::optional<Expr> more,
                                 std::uint32_t least, std::uint32_t most) {
  const auto fixed = static_cast<std::uint32_t>(first.size());
  // after[i]: what may follow the first i elements.
  const auto rest = [&](std::uint32_t written) {
    const std::uint32_t needed = least > written ? least - written : 0;
    const std::uint32_t left = most == kUnbounded ? most : most > written ? most - written : 0;
    if (!more || left == 0) return needed == 0 ? b_.empty() : b_.bytes({});
    const Expr one = b_.sequence({comma(), *more});
    if (written > 0) return b_.repeat(one, needed, left);
    const std::uint32_t others = left == kUnbounded ? left : left - 1;
    const Expr some = b_.sequence({*more, b_.repeat(one, needed > 0 ? needed - 1 : 0, others)});
    return needed > 0 ? some : b_.optional(some);
  };
  Expr body = rest(fixed);
  for (std::uint32_t i = fixed; i-- > 0;) {
    // An array may end before the last of the first elements, unless more are needed.
    std::vector<Expr> parts;
    if (i > 0) parts.push_back(comma());
    parts.push_back(first[i]);
    parts.push_back(body);
    const bool possible = most > i;
    Expr written = possible ? b_.sequence(std::move(parts)) : b_.bytes({});
    body = i >= least ? b_.optional(written) : written;
  }
  return b_.sequence({b_.literal("["), space(), body, space(), b_.literal("]")});
}

}  // namespace fathom::grammar
