// A context-free grammar over bytes, built from expressions and compiled to a graph that an
// automaton can walk (automaton.h). JSON schemas, regular expressions and GBNF texts all become
// one.
#pragma once

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace fathom::grammar {

/// Inclusive ranges of Unicode code points.
struct CodeRange {
  std::uint32_t first = 0;
  std::uint32_t last = 0;
};
inline constexpr std::uint32_t kLastCodePoint = 0x10FFFF;
/// Sorted, disjoint, without surrogates (which UTF-8 cannot hold).
std::vector<CodeRange> normal(std::vector<CodeRange> ranges);
/// All code points but these.
std::vector<CodeRange> all_but(std::vector<CodeRange> ranges);

inline constexpr std::uint32_t kUnbounded = std::numeric_limits<std::uint32_t>::max();

using ByteSet = std::bitset<256>;

/// What an automaton walks. A thread stands on a node, with a stack of frames under it.
struct Node {
  enum class Kind : std::uint8_t {
    Bytes,   // one byte of sets[set], then next
    Split,   // next, and also other
    Call,    // the rule that begins at `other`, then next
    Repeat,  // the rule that begins at `other`, least to most times, then next
    End      // of a rule: back to the frame's node
  };
  Kind kind = Kind::End;
  std::uint32_t next = 0;
  std::uint32_t other = 0;
  std::uint32_t set = 0;
  std::uint32_t least = 0;
  std::uint32_t most = 0;
};

struct Grammar {
  std::vector<Node> nodes;
  std::vector<ByteSet> sets;
  std::uint32_t start = 0;
};

/// The texts of both.
std::shared_ptr<const Grammar> either(const Grammar& one, const Grammar& other);

/// Limits on what a stranger's grammar may cost. Beyond one, building throws
/// Error(ResourceLimit).
inline constexpr std::size_t kMostExpressions = 200'000;
inline constexpr std::size_t kMostNodes = 400'000;
inline constexpr std::size_t kMostRules = 20'000;

/// Expressions are numbers that only their builder understands.
class Builder {
 public:
  enum class Expr : std::uint32_t {};
  enum class Rule : std::uint32_t {};

  Expr empty();
  Expr literal(std::string_view bytes);
  Expr bytes(const ByteSet& set);
  /// One character in UTF-8. No ranges: nothing matches.
  Expr chars(const std::vector<CodeRange>& ranges);
  Expr sequence(std::vector<Expr> parts);
  /// At least one.
  Expr choice(std::vector<Expr> options);
  Expr repeat(Expr body, std::uint32_t least, std::uint32_t most = kUnbounded);
  Expr optional(Expr body) { return choice({body, empty()}); }
  /// A rule may be used before it is defined, and in itself.
  Rule declare(std::string name);
  void define(Rule rule, Expr body);
  Expr use(Rule rule);

  /// Leaves out what no finite text satisfies, so that a text that was begun can be ended. Throws
  /// Error(InvalidArgument) for a rule that was never defined, for one that begins with itself, and
  /// if no text satisfies the root; Error(ResourceLimit) for a graph that is too large.
  std::shared_ptr<const Grammar> compile(Rule root) const;

 private:
  struct Expression {
    enum class Kind : std::uint8_t { Empty, Bytes, Sequence, Choice, Repeat, Use };
    Kind kind = Kind::Empty;
    std::uint32_t set = 0;  // Bytes
    std::vector<Expr> parts;
    std::uint32_t least = 0, most = 0;
    Rule rule{};
  };
  struct RuleOf {
    std::string name;
    bool defined = false;
    Expr body{};
  };
  class Compiler;

  Expr add(Expression expression);
  const Expression& at(Expr e) const { return expressions_[static_cast<std::size_t>(e)]; }
  std::uint32_t set_id(const ByteSet& set);

  std::vector<Expression> expressions_;
  std::vector<ByteSet> sets_;
  std::vector<RuleOf> rules_;
};

}  // namespace fathom::grammar
