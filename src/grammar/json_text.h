// How JSON (RFC 8259) is written, as grammar: what every schema's text is made of.
//
// A little less than JSON allows, so that a model cannot write white space or digits for ever: one
// space, or a line break and at most 20 of indentation, between tokens; at most 16 digits before
// and after a number's point. Escapes never make a lone surrogate.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string_view>
#include <vector>

#include "grammar/grammar.h"

namespace fathom::grammar {

class JsonText {
 public:
  using Expr = Builder::Expr;
  explicit JsonText(Builder& builder);

  Builder& builder() { return b_; }
  Expr space() { return b_.use(space_); }
  /// Any value, object, string, number.
  Expr value() { return b_.use(value_); }
  Expr object() { return b_.use(object_); }
  Expr array() { return b_.use(array_); }
  Expr string() { return b_.use(string_); }
  Expr number() { return b_.use(number_); }
  Expr integer() { return b_.use(integer_); }
  Expr boolean() { return b_.choice({b_.literal("true"), b_.literal("false")}); }
  Expr null() { return b_.literal("null"); }

  /// One character within a string, of these code points, as it is or escaped.
  Expr character(const std::vector<CodeRange>& ranges);
  Expr any_character() { return b_.use(character_); }
  /// "text" in quotes, written the one usual way.
  Expr quoted(std::string_view utf8);
  /// A string of at least and at most so many characters.
  Expr string_of(std::uint32_t least, std::uint32_t most);
  /// A string of plain characters that is none of these.
  Expr string_but(const std::vector<std::string>& taken);

  /// "{", members with commas between, "}". Each is an expression of name, colon and value, and
  /// may be left out if not required. After them, any number of `more`.
  struct Member {
    Expr expr;
    bool required = false;
  };
  Expr object_of(const std::vector<Member>& members, std::optional<Expr> more);
  Expr member(Expr name, Expr value);
  /// "[", the first elements, then `more` of them; `least` and `most` of all together.
  Expr array_of(const std::vector<Expr>& first, std::optional<Expr> more, std::uint32_t least,
                std::uint32_t most);

 private:
  Expr comma();

  Builder& b_;
  Builder::Rule space_, value_, object_, array_, string_, character_, number_, integer_, unicode_;
};

}  // namespace fathom::grammar
