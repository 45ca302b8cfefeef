// Walks a template's syntax tree and collects its output.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tokenizer/jinja_ast.h"
#include "tokenizer/jinja_runtime.h"

namespace fathom::jinja {

/// The variables of one block of the template, and the block around it.
struct Scope {
  explicit Scope(std::shared_ptr<Scope> outer) : parent(std::move(outer)) {}

  const Value* find(NameId id) const {
    for (const Scope* scope = this; scope != nullptr; scope = scope->parent.get()) {
      for (const auto& [name, value] : scope->variables) {
        if (name == id) return &value;
      }
    }
    return nullptr;
  }
  /// False if the variable is new.
  bool replace(NameId id, Value& value) {
    for (auto& [name, old] : variables) {
      if (name == id) {
        old = std::move(value);
        return true;
      }
    }
    return false;
  }

  std::shared_ptr<Scope> parent;
  std::vector<std::pair<NameId, Value>> variables;
  Charge charge;
};

/// Text on its way out: the rendering's, or what a block or macro prints.
struct Output {
  std::string text;
  Charge charge;
};

class Interpreter : public Runtime {
 public:
  Interpreter(const Template& tree, const TemplateLimits& limits) : Runtime(limits), tree_(tree) {}
  ~Interpreter() override;

  std::string render(const Json& inputs);

  // For the macros and loops that values hold.
  Value call_macro(const Stmt& macro, const std::shared_ptr<Scope>& closure, Args& args);
  Value recurse(const Stmt& loop, const std::shared_ptr<Scope>& scope, const Value& items,
                size_t depth);
  bool loop_changed(size_t loop, Value value);
  const std::string& name(NameId id) const { return tree_.names[id]; }

  Value apply_filter(std::string_view name, const Value& value, Args& args) override;
  bool apply_test(std::string_view name, const Value& value, Args& args) override;

 private:
  enum class Flow : uint8_t { Next, Break, Continue };
  using ScopePtr = std::shared_ptr<Scope>;

  // Statements: jinja_interpreter.cpp.
  Flow run(const Body& body, const ScopePtr& scope);
  Flow run(const Stmt& stmt, const ScopePtr& scope);
  Flow run_if(const Stmt& stmt, const ScopePtr& scope);
  void run_for(const Stmt& stmt, const ScopePtr& scope, const Value& iterable, size_t depth);
  void run_with(const Stmt& stmt, const ScopePtr& scope);
  void run_call_block(const Stmt& stmt, const ScopePtr& scope);
  void assign(const Expr& target, const Value& value, const ScopePtr& scope);
  std::string capture(const Body& body, const ScopePtr& scope);
  Value make_macro(const Stmt& stmt, const ScopePtr& scope, std::string macro_name);
  void write(std::string_view text);
  ScopePtr new_scope(const ScopePtr& parent);
  /// Sets the variable in this very scope.
  void set(Scope& scope, NameId id, Value value);

  // Expressions: jinja_expr.cpp.
  Value eval(const Expr& expr, const ScopePtr& scope);
  Value eval_inner(const Expr& expr, const ScopePtr& scope);
  Value eval_name(const Expr& expr, const ScopePtr& scope);
  Value eval_pair(const Expr& expr, const ScopePtr& scope);
  Value eval_items(const Expr& expr, const ScopePtr& scope);
  Value eval_dict(const Expr& expr, const ScopePtr& scope);
  Value eval_slice(const Expr& expr, const ScopePtr& scope);
  Value eval_call(const Expr& expr, const ScopePtr& scope, const Value* caller);
  Value eval_filter(const Expr& expr, const ScopePtr& scope, const Value* input);
  Value eval_test(const Expr& expr, const ScopePtr& scope);
  Value eval_compare(const Expr& expr, const ScopePtr& scope);
  Value eval_concat(const Expr& expr, const ScopePtr& scope);
  Value eval_conditional(const Expr& expr, const ScopePtr& scope);
  bool holds(Expr::Comparison op, const Value& a, const Value& b);
  Args arguments(const Expr& expr, const ScopePtr& scope);

  const Template& tree_;
  Output* out_ = nullptr;
  Value now_;
  // Scopes that a macro keeps alive. A macro lies in its own scope, so these are emptied at the
  // end.
  std::vector<ScopePtr> captured_;
  std::vector<Value> changed_;  // by loop: what loop.changed() saw last
  Charge kept_;                 // of these two, which only grow
};

}  // namespace fathom::jinja
