// Expressions.
#include <cmath>

#include "tokenizer/jinja_interpreter.h"

namespace fathom::jinja {

Value Interpreter::eval(const Expr& expr, const ScopePtr& scope) {
  if (expr.kind == Expr::Kind::Constant) return expr.constant;
  const Level level(*this);
  line_ = expr.line;
  charge(1);
  return eval_inner(expr, scope);
}

// Each kind with locals of its own has its own function: their frames would add up here.
Value Interpreter::eval_inner(const Expr& expr, const ScopePtr& scope) {
  switch (expr.kind) {
    case Expr::Kind::Constant:
      return expr.constant;
    case Expr::Kind::Name:
      return eval_name(expr, scope);
    case Expr::Kind::List:
    case Expr::Kind::Tuple:
      return eval_items(expr, scope);
    case Expr::Kind::Dict:
      return eval_dict(expr, scope);
    case Expr::Kind::Attribute:
      return attribute(eval(*expr.items[0], scope), expr.name);
    case Expr::Kind::Item:
    case Expr::Kind::Binary:
      return eval_pair(expr, scope);
    case Expr::Kind::Slice:
      return eval_slice(expr, scope);
    case Expr::Kind::Call:
      return eval_call(expr, scope, nullptr);
    case Expr::Kind::Filter:
      return eval_filter(expr, scope, nullptr);
    case Expr::Kind::Test:
      return eval_test(expr, scope);
    case Expr::Kind::Not:
      return Value(!truthy(eval(*expr.items[0], scope)));
    case Expr::Kind::And:
    case Expr::Kind::Or: {
      Value left = eval(*expr.items[0], scope);
      const bool decided = truthy(left) == (expr.kind == Expr::Kind::Or);
      return decided ? left : eval(*expr.items[1], scope);
    }
    case Expr::Kind::Compare:
      return eval_compare(expr, scope);
    case Expr::Kind::Negate:
      return negate(*this, eval(*expr.items[0], scope));
    case Expr::Kind::Positive:
      // Python's unary plus takes numbers only, and makes a bool an int.
      return negate(*this, negate(*this, eval(*expr.items[0], scope)));
    case Expr::Kind::Concat:
      return eval_concat(expr, scope);
    case Expr::Kind::Conditional:
      return eval_conditional(expr, scope);
    case Expr::Kind::NamespaceAttribute:
      break;
  }
  error("an assignment's target stands in an expression");
}

/// Subscripts and arithmetic: the left side is evaluated first.
Value Interpreter::eval_pair(const Expr& expr, const ScopePtr& scope) {
  const Value left = eval(*expr.items[0], scope);
  const Value right = eval(*expr.items[1], scope);
  line_ = expr.line;
  return expr.kind == Expr::Kind::Item ? item(left, right) : binary(*this, expr.op, left, right);
}

Value Interpreter::eval_name(const Expr& expr, const ScopePtr& scope) {
  if (const Value* found = scope->find(expr.id)) return *found;
  if (std::optional<Value> found = global(*this, expr.name, now_)) return *found;
  return undefined("'" + expr.name + "' is undefined");
}

Value Interpreter::eval_items(const Expr& expr, const ScopePtr& scope) {
  std::vector<Value> items;
  items.reserve(expr.items.size());
  for (const ExprPtr& child : expr.items) items.push_back(eval(*child, scope));
  return list(std::move(items),
              expr.kind == Expr::Kind::Tuple ? Sequence::Form::Tuple : Sequence::Form::List);
}

Value Interpreter::eval_dict(const Expr& expr, const ScopePtr& scope) {
  std::vector<std::pair<Value, Value>> items;
  for (size_t i = 0; i < expr.items.size(); i += 2) {
    Value key = eval(*expr.items[i], scope);
    items.emplace_back(std::move(key), eval(*expr.items[i + 1], scope));
  }
  return dict(std::move(items));
}

Value Interpreter::eval_slice(const Expr& expr, const ScopePtr& scope) {
  const auto bound = [&](size_t i) {
    return expr.items[i] ? eval(*expr.items[i], scope) : Value(nullptr);
  };
  const Value object = eval(*expr.items[0], scope);
  const Value start = bound(1);
  const Value stop = bound(2);
  return slice(object, start, stop, bound(3));
}

/// The arguments of a call, filter or test; items[0] is what they are given to.
Args Interpreter::arguments(const Expr& expr, const ScopePtr& scope) {
  Args args;
  for (size_t i = 1; i < expr.items.size(); ++i) {
    args.positional.push_back(eval(*expr.items[i], scope));
  }
  for (const auto& [keyword, value] : expr.keywords) {
    args.keyword.emplace_back(keyword, eval(*value, scope));
  }
  if (expr.star) {
    for (Value& value : iterate(eval(*expr.star, scope))) {
      args.positional.push_back(std::move(value));
    }
  }
  if (expr.star_star) {
    const Value more = eval(*expr.star_star, scope);
    if (!more.is_dict()) error("the argument after ** must be a mapping, not {}", type_name(more));
    for (const auto& [key, value] : more.dict().items) {
      if (!key.is_string()) error("keywords must be strings");
      for (const auto& entry : args.keyword) {
        charge(1);
        if (entry.first == key.string()) error("two values for the argument '{}'", key.string());
      }
      args.keyword.emplace_back(key.string(), value);
    }
  }
  return args;
}

Value Interpreter::eval_call(const Expr& expr, const ScopePtr& scope, const Value* caller) {
  const Value callee = eval(*expr.items[0], scope);
  Args args = arguments(expr, scope);
  if (caller != nullptr) args.keyword.emplace_back("caller", *caller);
  line_ = expr.line;
  return call(callee, args);
}

Value Interpreter::eval_filter(const Expr& expr, const ScopePtr& scope, const Value* input) {
  // In a filter block the chain starts with the block's text.
  const Expr* before = expr.items[0].get();
  const Value value = before == nullptr  ? *input
                      : input != nullptr ? eval_filter(*before, scope, input)
                                         : eval(*before, scope);
  Args args = arguments(expr, scope);
  line_ = expr.line;
  return run_filter(*this, expr.name, value, args);
}

Value Interpreter::eval_test(const Expr& expr, const ScopePtr& scope) {
  const Value value = eval(*expr.items[0], scope);
  Args args = arguments(expr, scope);
  line_ = expr.line;
  return Value(run_test(*this, expr.name, value, args));
}

bool Interpreter::holds(Expr::Comparison op, const Value& a, const Value& b) {
  const auto is_nan = [](const Value& v) {
    return v.kind() == Kind::Float && std::isnan(v.real());
  };
  const bool ordered = !is_nan(a) && !is_nan(b);
  switch (op) {
    case Expr::Comparison::Equal:
      return equal(a, b);
    case Expr::Comparison::NotEqual:
      return !equal(a, b);
    case Expr::Comparison::Less:
      return compare(a, b, "<") < 0 && ordered;
    case Expr::Comparison::LessEqual:
      return compare(a, b, "<=") <= 0 && ordered;
    case Expr::Comparison::Greater:
      return compare(a, b, ">") > 0 && ordered;
    case Expr::Comparison::GreaterEqual:
      return compare(a, b, ">=") >= 0 && ordered;
    case Expr::Comparison::In:
      return contains(b, a);
    case Expr::Comparison::NotIn:
      return !contains(b, a);
  }
  return false;
}

Value Interpreter::eval_compare(const Expr& expr, const ScopePtr& scope) {
  Value left = eval(*expr.items[0], scope);
  for (size_t i = 0; i < expr.ops.size(); ++i) {
    Value right = eval(*expr.items[i + 1], scope);
    if (!holds(expr.ops[i], left, right)) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

Value Interpreter::eval_concat(const Expr& expr, const ScopePtr& scope) {
  std::string joined;
  for (const ExprPtr& child : expr.items) {
    joined += str(eval(*child, scope));
    check_text(joined.size());
  }
  return text(std::move(joined));
}

Value Interpreter::eval_conditional(const Expr& expr, const ScopePtr& scope) {
  if (truthy(eval(*expr.items[0], scope))) return eval(*expr.items[1], scope);
  if (expr.items[2]) return eval(*expr.items[2], scope);
  return undefined("the inline if-expression evaluated to false and no else section was defined");
}

}  // namespace fathom::jinja
