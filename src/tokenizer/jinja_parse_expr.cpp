// Expressions, weakest binding first: conditional, or, and, not, comparison, + -, ~, * / // %, **,
// unary, then the primary with its subscripts, calls, filters and tests.
#include <algorithm>

#include "tokenizer/jinja_parser.h"
#include "tokenizer/jinja_runtime.h"

namespace fathom::jinja {

ExprPtr Parser::make(Expr::Kind kind, uint32_t line) const {
  auto expr = std::make_unique<Expr>();
  expr->kind = kind;
  expr->line = line;
  return expr;
}

void Parser::note_depth(Expr& parent, const Expr* child) const {
  if (child == nullptr) return;
  parent.depth = std::max(parent.depth, child->depth + 1);
  if (parent.depth > max_depth_) {
    fail(ErrorCode::ResourceLimit, "chat template, line {}: an expression more than {} levels deep",
         parent.line, max_depth_);
  }
}

void Parser::adopt(Expr& parent, ExprPtr child) {
  note_depth(parent, child.get());
  parent.items.push_back(std::move(child));
}

bool Parser::tuple_ends(std::string_view end_name) const {
  return current().type == Token::Type::VariableEnd || current().type == Token::Type::BlockEnd ||
         at_op(")") || (!end_name.empty() && at_name(end_name));
}

/// One expression, or a tuple if a comma follows it.
ExprPtr Parser::tuple(bool with_conditional, std::string_view end_name, bool parentheses) {
  const uint32_t line = current().line;
  std::vector<ExprPtr> items;
  bool is_tuple = false;
  while (true) {
    if (!items.empty()) expect_op(",");
    if (tuple_ends(end_name)) break;
    items.push_back(expression(with_conditional));
    if (!at_op(",")) break;
    is_tuple = true;
  }
  if (!is_tuple) {
    if (!items.empty()) return std::move(items[0]);
    if (!parentheses) error("expected an expression, got {}", describe(current()));
  }
  ExprPtr result = make(Expr::Kind::Tuple, line);
  for (ExprPtr& item : items) adopt(*result, std::move(item));
  return result;
}

ExprPtr Parser::expression(bool with_conditional) {
  const Nesting nesting(*this);
  return with_conditional ? conditional() : logical_or();
}

ExprPtr Parser::conditional() {
  const uint32_t line = current().line;
  const size_t unknown_before = unknown_.size();
  ExprPtr value = logical_or();
  while (skip_name("if")) {
    // What an inline if may skip need not exist; the value was read before its "if" was seen.
    unknown_.resize(unknown_before);
    ++branches_;
    ExprPtr result = make(Expr::Kind::Conditional, line);
    adopt(*result, logical_or());
    adopt(*result, std::move(value));
    if (skip_name("else")) {
      const Nesting nesting(*this);
      adopt(*result, conditional());
    } else {
      adopt(*result, nullptr);
    }
    value = std::move(result);
    --branches_;
  }
  return value;
}

ExprPtr Parser::logical_or() {
  ExprPtr left = logical_and();
  while (at_name("or")) {
    ExprPtr node = make(Expr::Kind::Or, next().line);
    adopt(*node, std::move(left));
    adopt(*node, logical_and());
    left = std::move(node);
  }
  return left;
}

ExprPtr Parser::logical_and() {
  ExprPtr left = logical_not();
  while (at_name("and")) {
    ExprPtr node = make(Expr::Kind::And, next().line);
    adopt(*node, std::move(left));
    adopt(*node, logical_not());
    left = std::move(node);
  }
  return left;
}

ExprPtr Parser::logical_not() {
  if (!at_name("not")) return comparison();
  const Nesting nesting(*this);
  ExprPtr node = make(Expr::Kind::Not, next().line);
  adopt(*node, logical_not());
  return node;
}

ExprPtr Parser::comparison() {
  using Comparison = Expr::Comparison;
  static constexpr std::pair<std::string_view, Comparison> operators[] = {
      {"==", Comparison::Equal},  {"!=", Comparison::NotEqual},
      {"<", Comparison::Less},    {"<=", Comparison::LessEqual},
      {">", Comparison::Greater}, {">=", Comparison::GreaterEqual}};
  const uint32_t line = current().line;
  ExprPtr first = sum();
  ExprPtr node;
  while (true) {
    std::optional<Comparison> op;
    for (const auto& [symbol, comparison] : operators) {
      if (at_op(symbol)) op = comparison;
    }
    if (at_name("in")) op = Comparison::In;
    if (at_name("not") && is_name(ahead(), "in")) {
      next();
      op = Comparison::NotIn;
    }
    if (!op) break;
    next();
    if (!node) {
      node = make(Expr::Kind::Compare, line);
      adopt(*node, std::move(first));
    }
    node->ops.push_back(*op);
    adopt(*node, sum());
  }
  return node ? std::move(node) : std::move(first);
}

ExprPtr Parser::binary(char op, ExprPtr left, ExprPtr right, uint32_t line) {
  ExprPtr node = make(Expr::Kind::Binary, line);
  node->op = op;
  adopt(*node, std::move(left));
  adopt(*node, std::move(right));
  return node;
}

ExprPtr Parser::sum() {
  ExprPtr left = concat();
  while (at_op("+") || at_op("-")) {
    const Token& op = next();
    left = binary(op.text[0], std::move(left), concat(), op.line);
  }
  return left;
}

ExprPtr Parser::concat() {
  const uint32_t line = current().line;
  ExprPtr first = product();
  if (!at_op("~")) return first;
  ExprPtr node = make(Expr::Kind::Concat, line);
  adopt(*node, std::move(first));
  while (skip_op("~")) adopt(*node, product());
  return node;
}

ExprPtr Parser::product() {
  ExprPtr left = power();
  while (at_op("*") || at_op("/") || at_op("//") || at_op("%")) {
    const Token& op = next();
    left = binary(op.text == "//" ? 'f' : op.text[0], std::move(left), power(), op.line);
  }
  return left;
}

ExprPtr Parser::power() {
  ExprPtr left = unary();
  while (at_op("**")) {
    const uint32_t line = next().line;
    left = binary('p', std::move(left), unary(), line);
  }
  return left;
}

ExprPtr Parser::unary(bool with_filter) {
  const Nesting nesting(*this);
  ExprPtr node;
  if (at_op("-") || at_op("+")) {
    const Token& op = next();
    node = make(op.text == "-" ? Expr::Kind::Negate : Expr::Kind::Positive, op.line);
    adopt(*node, unary(false));
  } else {
    node = primary();
  }
  node = postfix(std::move(node));
  return with_filter ? filters_and_tests(std::move(node)) : std::move(node);
}

ExprPtr Parser::primary() {
  const Token& token = current();
  const uint32_t line = token.line;
  if (token.type == Token::Type::Name) {
    const std::string name = next().text;
    ExprPtr node = make(Expr::Kind::Constant, line);
    if (name == "true" || name == "True" || name == "false" || name == "False") {
      node->constant = Value(name == "true" || name == "True");
    } else if (name == "none" || name == "None") {
      node->constant = Value(nullptr);
    } else {
      node->kind = Expr::Kind::Name;
      node->id = intern(name);
      node->name = name;
      for (Signature* macro : macros_) {
        macro->uses_caller |= name == "caller";
        macro->uses_varargs |= name == "varargs";
        macro->uses_kwargs |= name == "kwargs";
      }
    }
    return node;
  }
  if (token.type == Token::Type::String) {
    std::string joined;
    while (current().type == Token::Type::String) joined += next().text;
    ExprPtr node = make(Expr::Kind::Constant, line);
    node->constant = Value(String{std::make_shared<const std::string>(std::move(joined)), false});
    return node;
  }
  if (token.type == Token::Type::Number) {
    ExprPtr node = make(Expr::Kind::Constant, line);
    node->constant = next().number;
    return node;
  }
  if (skip_op("(")) {
    ExprPtr inner = tuple(true, "", true);
    expect_op(")");
    return inner;
  }
  if (at_op("[")) return list_literal();
  if (at_op("{")) return dict_literal();
  error("unexpected {}", describe(token));
}

ExprPtr Parser::list_literal() {
  ExprPtr node = make(Expr::Kind::List, next().line);
  while (!at_op("]")) {
    if (!node->items.empty()) expect_op(",");
    if (at_op("]")) break;
    adopt(*node, expression());
  }
  next();
  return node;
}

ExprPtr Parser::dict_literal() {
  ExprPtr node = make(Expr::Kind::Dict, next().line);
  while (!at_op("}")) {
    if (!node->items.empty()) expect_op(",");
    if (at_op("}")) break;
    adopt(*node, expression());
    expect_op(":");
    adopt(*node, expression());
  }
  next();
  return node;
}

ExprPtr Parser::postfix(ExprPtr value) {
  while (true) {
    if (at_op(".") || at_op("[")) {
      value = subscript(std::move(value));
    } else if (at_op("(")) {
      value = call(std::move(value));
    } else {
      return value;
    }
  }
}

ExprPtr Parser::filters_and_tests(ExprPtr value) {
  while (true) {
    if (skip_op("|")) {
      value = filter(std::move(value));
    } else if (at_name("is")) {
      value = test(std::move(value));
    } else if (at_op("(")) {
      value = call(std::move(value));
    } else {
      return value;
    }
  }
}

ExprPtr Parser::subscript(ExprPtr value) {
  const uint32_t line = current().line;
  if (skip_op(".")) {
    if (current().type == Token::Type::Name) {
      ExprPtr node = make(Expr::Kind::Attribute, line);
      node->name = next().text;
      adopt(*node, std::move(value));
      return node;
    }
    if (current().type != Token::Type::Number || current().number.kind() != Kind::Integer) {
      error("expected a name or a number after '.', got {}", describe(current()));
    }
    ExprPtr index = make(Expr::Kind::Constant, line);
    index->constant = next().number;
    ExprPtr node = make(Expr::Kind::Item, line);
    adopt(*node, std::move(value));
    adopt(*node, std::move(index));
    return node;
  }
  next();  // [
  ExprPtr start;
  if (!at_op(":")) start = tuple(true, "", false);
  if (!skip_op(":")) {
    expect_op("]");
    ExprPtr node = make(Expr::Kind::Item, line);
    adopt(*node, std::move(value));
    adopt(*node, std::move(start));
    return node;
  }
  ExprPtr node = make(Expr::Kind::Slice, line);
  adopt(*node, std::move(value));
  adopt(*node, std::move(start));
  adopt(*node, at_op(":") || at_op("]") ? nullptr : expression());
  adopt(*node, skip_op(":") && !at_op("]") ? expression() : nullptr);
  expect_op("]");
  return node;
}

ExprPtr Parser::call(ExprPtr callee) {
  ExprPtr node = make(Expr::Kind::Call, current().line);
  adopt(*node, std::move(callee));
  call_arguments(*node);
  return node;
}

void Parser::call_arguments(Expr& call) {
  expect_op("(");
  bool first = true;
  while (!at_op(")")) {
    if (!first) {
      expect_op(",");
      if (at_op(")")) break;
    }
    first = false;
    if (!call.star && !call.star_star && skip_op("*")) {
      call.star = expression();
      note_depth(call, call.star.get());
    } else if (!call.star_star && skip_op("**")) {
      call.star_star = expression();
      note_depth(call, call.star_star.get());
    } else if (!call.star_star && current().type == Token::Type::Name && is_op(ahead(), "=")) {
      std::string name = next().text;
      next();
      ExprPtr value = expression();
      note_depth(call, value.get());
      call.keywords.emplace_back(std::move(name), std::move(value));
    } else if (!call.star && !call.star_star && call.keywords.empty()) {
      adopt(call, expression());
    } else {
      error("a positional argument after a named one");
    }
  }
  next();
}

/// The filter after a "|"; `value` is null in a filter block.
ExprPtr Parser::filter(ExprPtr value) {
  ExprPtr node = make(Expr::Kind::Filter, current().line);
  node->name = expect_identifier();
  while (skip_op(".")) node->name += "." + expect_identifier();
  if (!is_filter(node->name)) note_unknown("filter", *node);
  adopt(*node, std::move(value));
  if (at_op("(")) call_arguments(*node);
  return node;
}

ExprPtr Parser::test(ExprPtr value) {
  const uint32_t line = next().line;  // is
  const bool negated = skip_name("not");
  ExprPtr node = make(Expr::Kind::Test, line);
  node->name = expect_identifier();
  while (skip_op(".")) node->name += "." + expect_identifier();
  if (!is_test(node->name)) note_unknown("test", *node);
  adopt(*node, std::move(value));
  const Token& token = current();
  const bool literal = token.type == Token::Type::String || token.type == Token::Type::Number ||
                       at_op("[") || at_op("{");
  const bool name =
      token.type == Token::Type::Name && !at_name("else") && !at_name("or") && !at_name("and");
  if (at_op("(")) {
    call_arguments(*node);
  } else if (literal || name) {
    // "x is divisibleby 3": a single argument needs no parentheses.
    if (at_name("is")) error("tests cannot be chained with 'is'");
    adopt(*node, postfix(primary()));
  }
  if (!negated) return node;
  ExprPtr inverse = make(Expr::Kind::Not, line);
  adopt(*inverse, std::move(node));
  return inverse;
}

void Parser::note_unknown(const char* what, const Expr& expr) {
  if (branches_ == 0) unknown_.push_back({what, expr.name, expr.line});
}

void Parser::check_unknown() const {
  if (unknown_.empty()) return;
  const Unknown& first = unknown_.front();
  fail(ErrorCode::InvalidArgument, "chat template, line {}: there is no {} named '{}'", first.line,
       first.what, first.name);
}

}  // namespace fathom::jinja
