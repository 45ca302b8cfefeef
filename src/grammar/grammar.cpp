#include "grammar/grammar.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "base/error.h"

namespace fathom::grammar {
namespace {

constexpr CodeRange kSurrogates{0xD800, 0xDFFF};

/// The ranges of bytes that encode a range of code points of one length, by the usual division:
/// a range that does not begin and end on a multiple of 64 (4096, ...) is cut there.
void utf8_sequences(std::uint32_t first, std::uint32_t last,
                    std::vector<std::vector<std::pair<std::uint8_t, std::uint8_t>>>& out) {
  constexpr std::array<std::uint32_t, 4> kEnds{0x7F, 0x7FF, 0xFFFF, kLastCodePoint};
  for (const std::uint32_t end : kEnds) {
    if (first <= end && last > end) {
      utf8_sequences(first, end, out);
      return utf8_sequences(end + 1, last, out);
    }
  }
  if (last > 0x7F) {
    for (int i = 1; i < 4; ++i) {
      const std::uint32_t mask = (1U << (6 * i)) - 1;
      if ((first & ~mask) == (last & ~mask)) break;
      if ((first & mask) != 0) {
        utf8_sequences(first, first | mask, out);
        return utf8_sequences((first | mask) + 1, last, out);
      }
      if ((last & mask) != mask) {
        utf8_sequences(first, (last & ~mask) - 1, out);
        return utf8_sequences(last & ~mask, last, out);
      }
    }
  }
  const auto encode = [](std::uint32_t c) {
    std::vector<std::uint8_t> bytes;
    const auto tail = [&](int shift) {
      bytes.push_back(static_cast<std::uint8_t>(0x80U | (c >> shift & 0x3FU)));
    };
    if (c <= 0x7F) {
      bytes.push_back(static_cast<std::uint8_t>(c));
    } else if (c <= 0x7FF) {
      bytes.push_back(static_cast<std::uint8_t>(0xC0U | c >> 6));
      tail(0);
    } else if (c <= 0xFFFF) {
      bytes.push_back(static_cast<std::uint8_t>(0xE0U | c >> 12));
      tail(6);
      tail(0);
    } else {
      bytes.push_back(static_cast<std::uint8_t>(0xF0U | c >> 18));
      tail(12);
      tail(6);
      tail(0);
    }
    return bytes;
  };
  const auto low = encode(first);
  const auto high = encode(last);
  auto& sequence = out.emplace_back();
  for (std::size_t i = 0; i < low.size(); ++i) sequence.emplace_back(low[i], high[i]);
}

}  // namespace

std::vector<CodeRange> normal(std::vector<CodeRange> ranges) {
  std::vector<CodeRange> split;
  for (CodeRange range : ranges) {
    range.last = std::min(range.last, kLastCodePoint);
    if (range.first > range.last) continue;
    // Surrogates are cut out.
    if (range.first < kSurrogates.first) {
      split.push_back({range.first, std::min(range.last, kSurrogates.first - 1)});
    }
    if (range.last > kSurrogates.last) {
      split.push_back({std::max(range.first, kSurrogates.last + 1), range.last});
    }
  }
  std::ranges::sort(split, {}, &CodeRange::first);
  std::vector<CodeRange> merged;
  for (const CodeRange& range : split) {
    if (!merged.empty() && range.first <= merged.back().last + 1) {
      merged.back().last = std::max(merged.back().last, range.last);
    } else {
      merged.push_back(range);
    }
  }
  return merged;
}

std::vector<CodeRange> all_but(std::vector<CodeRange> ranges) {
  std::vector<CodeRange> others;
  std::uint32_t next = 0;
  for (const CodeRange& range : normal(std::move(ranges))) {
    if (range.first > next) others.push_back({next, range.first - 1});
    next = range.last + 1;
  }
  if (next <= kLastCodePoint) others.push_back({next, kLastCodePoint});
  return normal(std::move(others));
}

Builder::Expr Builder::add(Expression expression) {
  require(expressions_.size() < kMostExpressions, ErrorCode::ResourceLimit,
          "the grammar has more than {} parts", kMostExpressions);
  expressions_.push_back(std::move(expression));
  return static_cast<Expr>(expressions_.size() - 1);
}

std::uint32_t Builder::set_id(const ByteSet& set) {
  const auto found = std::ranges::find(sets_, set);
  if (found != sets_.end()) return static_cast<std::uint32_t>(found - sets_.begin());
  sets_.push_back(set);
  return static_cast<std::uint32_t>(sets_.size() - 1);
}

Builder::Expr Builder::empty() { return add({}); }

Builder::Expr Builder::bytes(const ByteSet& set) {
  Expression e;
  e.kind = Expression::Kind::Bytes;
  e.set = set_id(set);
  return add(std::move(e));
}

Builder::Expr Builder::literal(std::string_view text) {
  std::vector<Expr> parts;
  for (const char c : text) {
    ByteSet set;
    set.set(static_cast<unsigned char>(c));
    parts.push_back(bytes(set));
  }
  return sequence(std::move(parts));
}

Builder::Expr Builder::chars(const std::vector<CodeRange>& ranges) {
  std::vector<std::vector<std::pair<std::uint8_t, std::uint8_t>>> sequences;
  for (const CodeRange& range : normal(ranges)) utf8_sequences(range.first, range.last, sequences);
  // All that is one byte long is one set.
  ByteSet single;
  std::vector<Expr> options;
  for (const auto& sequence_of : sequences) {
    if (sequence_of.size() == 1) {
      for (unsigned b = sequence_of[0].first; b <= sequence_of[0].second; ++b) single.set(b);
      continue;
    }
    std::vector<Expr> parts;
    for (const auto& [low, high] : sequence_of) {
      ByteSet set;
      for (unsigned b = low; b <= high; ++b) set.set(b);
      parts.push_back(bytes(set));
    }
    options.push_back(sequence(std::move(parts)));
  }
  if (single.any() || options.empty()) options.insert(options.begin(), bytes(single));
  return choice(std::move(options));
}

Builder::Expr Builder::sequence(std::vector<Expr> parts) {
  if (parts.empty()) return empty();
  if (parts.size() == 1) return parts[0];
  Expression e;
  e.kind = Expression::Kind::Sequence;
  e.parts = std::move(parts);
  return add(std::move(e));
}

Builder::Expr Builder::choice(std::vector<Expr> options) {
  require(!options.empty(), ErrorCode::Internal, "a choice of nothing");
  if (options.size() == 1) return options[0];
  Expression e;
  e.kind = Expression::Kind::Choice;
  e.parts = std::move(options);
  return add(std::move(e));
}

Builder::Expr Builder::repeat(Expr body, std::uint32_t least, std::uint32_t most) {
  require(least <= most, ErrorCode::InvalidArgument,
          "a repetition of at least {} and at most {} times cannot be", least, most);
  if (most == 0) return empty();
  if (least == 1 && most == 1) return body;
  Expression e;
  e.kind = Expression::Kind::Repeat;
  e.parts = {body};
  e.least = least;
  e.most = most;
  return add(std::move(e));
}

Builder::Rule Builder::declare(std::string name) {
  require(rules_.size() < kMostRules, ErrorCode::ResourceLimit,
          "the grammar has more than {} rules", kMostRules);
  rules_.push_back({std::move(name), false, {}});
  return static_cast<Rule>(rules_.size() - 1);
}

void Builder::define(Rule rule, Expr body) {
  RuleOf& of = rules_[static_cast<std::size_t>(rule)];
  of.body = body;
  of.defined = true;
}

Builder::Expr Builder::use(Rule rule) {
  Expression e;
  e.kind = Expression::Kind::Use;
  e.rule = rule;
  return add(std::move(e));
}

/// Lays expressions out from their ends to their beginnings. Depth is bounded by kMostDepth, since
/// expressions are a stranger's.
class Builder::Compiler {
 public:
  explicit Compiler(const Builder& builder) : builder_(builder) {}

  std::shared_ptr<const Grammar> run(Rule root) {
    for (const Expression& e : builder_.expressions_) {
      if (e.kind != Expression::Kind::Use) continue;
      const RuleOf& used = builder_.rules_[static_cast<std::size_t>(e.rule)];
      require(used.defined, ErrorCode::InvalidArgument,
              "the grammar uses '{}', but does not define it", used.name);
    }
    find_properties();
    refuse_left_recursion();
    const RuleOf& first = builder_.rules_[static_cast<std::size_t>(root)];
    require(first.defined && is_productive(first.body), ErrorCode::InvalidArgument,
            "no text can satisfy the grammar");
    grammar_->sets = builder_.sets_;
    starts_.assign(builder_.rules_.size(), kNone);
    grammar_->start = start_of(root);
    while (!pending_.empty()) {
      const auto [placeholder, rule] = pending_.back();
      pending_.pop_back();
      const std::uint32_t end = node({});
      const std::uint32_t begin = lay(builder_.rules_[rule].body, end, 0);
      // The placeholder that others call stands for the beginning.
      Node forward;
      forward.kind = Node::Kind::Split;
      forward.next = forward.other = begin;
      grammar_->nodes[placeholder] = forward;
    }
    return grammar_;
  }

 private:
  static constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();
  static constexpr int kMostDepth = 2000;

  std::uint32_t node(Node node) {
    require(grammar_->nodes.size() < kMostNodes, ErrorCode::ResourceLimit,
            "the grammar needs more than {} states", kMostNodes);
    grammar_->nodes.push_back(node);
    return static_cast<std::uint32_t>(grammar_->nodes.size() - 1);
  }

  std::uint32_t start_of(Rule rule) {
    const auto index = static_cast<std::size_t>(rule);
    if (starts_[index] == kNone) {
      starts_[index] = node({});
      pending_.emplace_back(starts_[index], index);
    }
    return starts_[index];
  }

  /// The node where `e` begins that goes on at `next`.
  std::uint32_t lay(Expr id, std::uint32_t next, int depth) {
    require(depth < kMostDepth, ErrorCode::ResourceLimit, "the grammar nests deeper than {}",
            kMostDepth);
    const Expression& e = builder_.at(id);
    using Kind = Expression::Kind;
    switch (e.kind) {
      case Kind::Empty:
        return next;
      case Kind::Bytes: {
        Node n;
        n.kind = Node::Kind::Bytes;
        n.set = e.set;
        n.next = next;
        return node(n);
      }
      case Kind::Sequence:
        for (std::size_t i = e.parts.size(); i-- > 0;) next = lay(e.parts[i], next, depth + 1);
        return next;
      case Kind::Choice: {
        std::optional<std::uint32_t> begin;
        for (std::size_t i = e.parts.size(); i-- > 0;) {
          if (!is_productive(e.parts[i])) continue;
          const std::uint32_t option = lay(e.parts[i], next, depth + 1);
          if (!begin) {
            begin = option;
            continue;
          }
          Node n;
          n.kind = Node::Kind::Split;
          n.next = option;
          n.other = *begin;
          begin = node(n);
        }
        require(begin.has_value(), ErrorCode::Internal, "nothing of a choice can be satisfied");
        return *begin;
      }
      case Kind::Use: {
        Node n;
        n.kind = Node::Kind::Call;
        n.other = start_of(e.rule);
        n.next = next;
        return node(n);
      }
      case Kind::Repeat: {
        if (!is_productive(e.parts[0])) return next;  // none at all, as it is allowed
        const bool nullable = is_nullable(e.parts[0]);
        if (e.most == kUnbounded && (e.least == 0 || nullable)) {
          // A loop in the graph needs no count.
          const std::uint32_t loop = node({});
          Node n;
          n.kind = Node::Kind::Split;
          n.next = lay(e.parts[0], loop, depth + 1);
          n.other = next;
          grammar_->nodes[loop] = n;
          return loop;
        }
        Node n;
        n.kind = Node::Kind::Repeat;
        // What may be empty can fill any least number with nothing.
        n.least = nullable ? 0 : e.least;
        n.most = e.most;
        n.next = next;
        n.other = lay(e.parts[0], node({}), depth + 1);
        return node(n);
      }
    }
    return next;
  }

  bool is_nullable(Expr id) const { return nullable_[static_cast<std::size_t>(id)]; }
  bool is_productive(Expr id) const { return productive_[static_cast<std::size_t>(id)]; }

  /// The least fixed point of a property of expressions and rules. Parts come before what is made
  /// of them, so that one pass does all but what rules change.
  template <typename Holds>
  std::vector<bool> least_fixed_point(const Holds& holds) const {
    const auto& expressions = builder_.expressions_;
    std::vector<bool> of(expressions.size(), false);
    std::vector<bool> rules(builder_.rules_.size(), false);
    std::vector<std::vector<std::size_t>> bodies(expressions.size());  // the rules' of each
    for (std::size_t r = 0; r < rules.size(); ++r) {
      const RuleOf& rule = builder_.rules_[r];
      if (rule.defined) bodies[static_cast<std::size_t>(rule.body)].push_back(r);
    }
    constexpr int kMostPasses = 1000;
    std::size_t budget = 20'000'000;
    for (int pass = 0;; ++pass) {
      bool changed = false;
      for (std::size_t i = 0; i < expressions.size(); ++i) {
        if (of[i] || !holds(expressions[i], of, rules)) continue;
        of[i] = true;
        for (const std::size_t r : bodies[i]) rules[r] = changed = true;
      }
      if (!changed) return of;
      const std::size_t cost = std::min(budget, expressions.size() + 1);
      budget -= cost;
      require(pass < kMostPasses && budget > 0, ErrorCode::ResourceLimit,
              "the grammar's rules depend on each other in too many steps");
    }
  }

  /// What holds of an expression if it holds of enough of its parts, and of single bytes by
  /// `bytes`.
  template <typename OfBytes>
  std::vector<bool> inherited(const OfBytes& bytes) const {
    using Kind = Expression::Kind;
    return least_fixed_point([&](const Expression& e, const auto& of, const auto& rules) {
      const auto in = [&](Expr part) { return of[static_cast<std::size_t>(part)]; };
      switch (e.kind) {
        case Kind::Empty:
          return true;
        case Kind::Bytes:
          return bytes(e);
        case Kind::Sequence:
          return std::ranges::all_of(e.parts, in);
        case Kind::Choice:
          return std::ranges::any_of(e.parts, in);
        case Kind::Repeat:
          return e.least == 0 || in(e.parts[0]);
        case Kind::Use:
          return static_cast<bool>(rules[static_cast<std::size_t>(e.rule)]);
      }
      return false;
    });
  }

  void find_properties() {
    nullable_ = inherited([](const Expression&) { return false; });
    productive_ = inherited([this](const Expression& e) { return builder_.sets_[e.set].any(); });
  }

  /// Rules that `id` may begin with. `mark`: what this walk has seen, `walk` being its number.
  void leftmost(Expr id, std::vector<std::uint32_t>& mark, std::uint32_t walk,
                std::vector<std::size_t>& out) const {
    std::vector<Expr> open{id};
    while (!open.empty()) {
      const Expr at = open.back();
      open.pop_back();
      if (std::exchange(mark[static_cast<std::size_t>(at)], walk) == walk) continue;
      const Expression& e = builder_.at(at);
      if (e.kind == Expression::Kind::Use) out.push_back(static_cast<std::size_t>(e.rule));
      if (e.kind == Expression::Kind::Sequence) {
        for (const Expr part : e.parts) {
          open.push_back(part);
          if (!is_nullable(part)) break;
        }
      } else {
        open.insert(open.end(), e.parts.begin(), e.parts.end());
      }
    }
  }

  void refuse_left_recursion() const {
    const std::size_t count = builder_.rules_.size();
    std::vector<std::vector<std::size_t>> begins(count);
    std::vector<std::uint32_t> seen(builder_.expressions_.size(), 0);
    for (std::size_t r = 0; r < count; ++r) {
      if (!builder_.rules_[r].defined) continue;
      leftmost(builder_.rules_[r].body, seen, static_cast<std::uint32_t>(r + 1), begins[r]);
    }
    // Depth first, without recursion: 1 is on the path, 2 is done.
    std::vector<char> mark(count, 0);
    for (std::size_t root = 0; root < count; ++root) {
      std::vector<std::pair<std::size_t, std::size_t>> path;
      if (mark[root] == 0) path.emplace_back(root, 0);
      while (!path.empty()) {
        auto& [rule, child] = path.back();
        mark[rule] = 1;
        if (child == begins[rule].size()) {
          mark[rule] = 2;
          path.pop_back();
          continue;
        }
        const std::size_t to = begins[rule][child++];
        require(mark[to] != 1, ErrorCode::InvalidArgument,
                "the grammar's rule '{}' begins with itself", builder_.rules_[to].name);
        if (mark[to] == 0) path.emplace_back(to, 0);
      }
    }
  }

  const Builder& builder_;
  std::shared_ptr<Grammar> grammar_ = std::make_shared<Grammar>();
  std::vector<std::uint32_t> starts_;                           // by rule
  std::vector<std::pair<std::uint32_t, std::size_t>> pending_;  // placeholders and their rules
  std::vector<bool> nullable_;                                  // by expression: may be empty
  std::vector<bool> productive_;                                // some finite text satisfies it
};

std::shared_ptr<const Grammar> Builder::compile(Rule root) const {
  return Compiler(*this).run(root);
}

std::shared_ptr<const Grammar> either(const Grammar& one, const Grammar& other) {
  auto both = std::make_shared<Grammar>(one);
  const auto node_base = static_cast<std::uint32_t>(both->nodes.size());
  const auto set_base = static_cast<std::uint32_t>(both->sets.size());
  both->sets.insert(both->sets.end(), other.sets.begin(), other.sets.end());
  for (Node node : other.nodes) {
    node.next += node_base;
    node.other += node_base;
    node.set += set_base;
    both->nodes.push_back(node);
  }
  both->start = static_cast<std::uint32_t>(both->nodes.size());
  both->nodes.push_back({Node::Kind::Split, one.start, other.start + node_base});
  return both;
}

}  // namespace fathom::grammar
