// Statements, macros and loops; jinja_expr.cpp has the expressions.
#include "tokenizer/jinja_interpreter.h"

#include <nlohmann/json.hpp>

namespace fathom::jinja {
namespace {

Interpreter& interpreter_of(Runtime& runtime) {
  // The one Runtime there is; macros and loops are made by nothing else.
  return static_cast<Interpreter&>(runtime);
}

class Macro : public Object {
 public:
  Macro(const Stmt& stmt, std::shared_ptr<Scope> closure, std::string name)
      : stmt_(stmt), closure_(std::move(closure)), name_(std::move(name)) {}
  std::string repr() const override { return "<Macro '" + name_ + "'>"; }
  Value call(Runtime& runtime, Args& args) override {
    return interpreter_of(runtime).call_macro(stmt_, closure_, args);
  }
  std::optional<Value> attribute(Runtime& runtime, std::string_view name) override {
    if (name == "name") return runtime.text(name_);
    if (name == "caller") return Value(stmt_.signature.uses_caller);
    if (name == "catch_varargs") return Value(stmt_.signature.uses_varargs);
    if (name == "catch_kwargs") return Value(stmt_.signature.uses_kwargs);
    if (name != "arguments") return std::nullopt;
    std::vector<Value> names;
    for (const NameId id : stmt_.signature.parameters) {
      names.push_back(runtime.text(interpreter_of(runtime).name(id)));
    }
    return runtime.tuple(std::move(names));
  }

 private:
  const Stmt& stmt_;
  std::shared_ptr<Scope> closure_;
  std::string name_;
};

/// The `loop` of a for statement.
class Loop : public Object, public std::enable_shared_from_this<Loop> {
 public:
  Loop(const Stmt& stmt, std::shared_ptr<Scope> scope, std::vector<Value> items, size_t loop_depth,
       size_t number)
      : stmt_(stmt),
        scope_(std::move(scope)),
        items_(std::move(items)),
        loop_depth_(loop_depth),
        number_(number) {}

  std::string repr() const override {
    return fmt::format("<LoopContext {}/{}>", index_ + 1, items_.size());
  }
  size_t size() const { return items_.size(); }
  size_t number() const { return number_; }
  const Value& at(size_t index) {
    index_ = index;
    return items_[index];
  }
  const Value& current() const { return items_[index_]; }
  size_t index() const { return index_; }

  Value call(Runtime& runtime, Args& args) override {
    const Bound bound(runtime, "loop", args, {"iterable"}, 1);
    if (!stmt_.recursive) {
      runtime.error("The loop must have the 'recursive' marker to be called recursively.");
    }
    return interpreter_of(runtime).recurse(stmt_, scope_, bound[0], loop_depth_ + 1);
  }

  std::optional<Value> attribute(Runtime& runtime, std::string_view name) override;

 private:
  const Stmt& stmt_;
  std::shared_ptr<Scope> scope_;
  std::vector<Value> items_;
  size_t index_ = 0;
  size_t loop_depth_;
  size_t number_;
};

/// loop.cycle or loop.changed.
class LoopMethod : public Object {
 public:
  LoopMethod(std::shared_ptr<Loop> loop, bool cycle) : loop_(std::move(loop)), cycle_(cycle) {}
  std::string repr() const override { return "<bound method LoopContext>"; }
  Value call(Runtime& runtime, Args& args) override {
    if (!cycle_) {
      return Value(
          interpreter_of(runtime).loop_changed(loop_->number(), runtime.tuple(args.positional)));
    }
    if (args.positional.empty()) runtime.error("no items for cycling given");
    return args.positional[loop_->index() % args.positional.size()];
  }

 private:
  std::shared_ptr<Loop> loop_;
  bool cycle_;
};

std::optional<Value> Loop::attribute(Runtime& runtime, std::string_view name) {
  const auto number = [](size_t n) { return Value(static_cast<Int>(n)); };
  if (name == "index") return number(index_ + 1);
  if (name == "index0") return number(index_);
  if (name == "first") return Value(index_ == 0);
  if (name == "last") return Value(index_ + 1 == items_.size());
  if (name == "length") return number(items_.size());
  if (name == "revindex") return number(items_.size() - index_);
  if (name == "revindex0") return number(items_.size() - index_ - 1);
  if (name == "depth") return number(loop_depth_ + 1);
  if (name == "depth0") return number(loop_depth_);
  if (name == "previtem") {
    return index_ > 0 ? items_[index_ - 1] : runtime.undefined("there is no previous item");
  }
  if (name == "nextitem") {
    return index_ + 1 < items_.size() ? items_[index_ + 1]
                                      : runtime.undefined("there is no next item");
  }
  if (name == "cycle" || name == "changed") {
    return runtime.make<LoopMethod>(items_, shared_from_this(), name == "cycle");
  }
  return std::nullopt;
}

}  // namespace

Interpreter::~Interpreter() {
  for (const ScopePtr& scope : captured_) scope->variables.clear();
}

std::string Interpreter::render(const Json& inputs) {
  if (!inputs.is_object()) error("the inputs are not a JSON object");
  const auto top = std::make_shared<Scope>(nullptr);
  for (NameId id = 0; id < tree_.names.size(); ++id) {
    const auto found = inputs.find(tree_.names[id]);
    if (found != inputs.end()) set(*top, id, import(*found));
  }
  if (const auto found = inputs.find("now"); found != inputs.end()) now_ = import(*found);
  Output out;
  out_ = &out;
  run(tree_.body, top);
  return std::move(out.text);
}

Value Interpreter::apply_filter(std::string_view name, const Value& value, Args& args) {
  const Level level(*this);
  return run_filter(*this, name, value, args);
}

bool Interpreter::apply_test(std::string_view name, const Value& value, Args& args) {
  const Level level(*this);
  return run_test(*this, name, value, args);
}

void Interpreter::write(std::string_view text) {
  charge_text(text.size());
  check_text(out_->text.size() + text.size());
  grow(out_->charge, text.size());
  out_->text += text;
}

Interpreter::ScopePtr Interpreter::new_scope(const ScopePtr& parent) {
  Charge memory = hold(sizeof(Scope) + kOverhead);
  auto scope = std::make_shared<Scope>(parent);
  scope->charge = std::move(memory);
  return scope;
}

void Interpreter::set(Scope& scope, NameId id, Value value) {
  if (scope.replace(id, value)) return;
  auto& variables = scope.variables;
  if (variables.size() == variables.capacity()) {  // it is about to double
    grow(scope.charge, std::max<size_t>(1, variables.size()) * sizeof(variables[0]));
  }
  variables.emplace_back(id, std::move(value));
}

/// What `body` prints, as a text of its own.
std::string Interpreter::capture(const Body& body, const ScopePtr& scope) {
  Output printed;
  Output* const outer = std::exchange(out_, &printed);
  // On an exception the rendering is over, so `out_` need not be restored for it.
  run(body, scope);
  out_ = outer;
  return std::move(printed.text);
}

Interpreter::Flow Interpreter::run(const Body& body, const ScopePtr& scope) {
  const Level level(*this);
  for (const StmtPtr& stmt : body) {
    const Flow flow = run(*stmt, scope);
    if (flow != Flow::Next) return flow;
  }
  return Flow::Next;
}

Interpreter::Flow Interpreter::run(const Stmt& stmt, const ScopePtr& scope) {
  const Statement statement(*this);
  line_ = stmt.line;
  charge(1);
  switch (stmt.kind) {
    case Stmt::Kind::Text:
      write(stmt.text);
      break;
    case Stmt::Kind::Print: {
      const Value value = eval(*stmt.expr, scope);
      write(value.is_string() ? value.string() : str(value));
      break;
    }
    case Stmt::Kind::If:
      return run_if(stmt, scope);
    case Stmt::Kind::For:
      run_for(stmt, scope, eval(*stmt.expr, scope), 0);
      break;
    case Stmt::Kind::Set:
      assign(*stmt.target, eval(*stmt.expr, scope), scope);
      break;
    case Stmt::Kind::SetBlock: {
      Value value = text(capture(stmt.body, new_scope(scope)));
      if (stmt.expr) value = eval_filter(*stmt.expr, scope, &value);
      assign(*stmt.target, value, scope);
      break;
    }
    case Stmt::Kind::Macro:
      set(*scope, stmt.id, make_macro(stmt, scope, stmt.text));
      break;
    case Stmt::Kind::CallBlock:
      run_call_block(stmt, scope);
      break;
    case Stmt::Kind::FilterBlock: {
      const Value value = text(capture(stmt.body, new_scope(scope)));
      write(str(eval_filter(*stmt.expr, scope, &value)));
      break;
    }
    case Stmt::Kind::With:
      run_with(stmt, scope);
      break;
    case Stmt::Kind::Generation:
      run(stmt.body, new_scope(scope));
      break;
    case Stmt::Kind::Break:
      return Flow::Break;
    case Stmt::Kind::Continue:
      return Flow::Continue;
  }
  return Flow::Next;
}

Interpreter::Flow Interpreter::run_if(const Stmt& stmt, const ScopePtr& scope) {
  for (const auto& [condition, body] : stmt.branches) {
    if (truthy(eval(*condition, scope))) return run(body, scope);
  }
  return run(stmt.otherwise, scope);
}

void Interpreter::run_for(const Stmt& stmt, const ScopePtr& scope, const Value& iterable,
                          size_t depth) {
  std::vector<Value> items = iterate(iterable);
  ScopePtr inner = new_scope(scope);
  if (stmt.test) {
    // The condition sees the loop's target, but not its `loop`.
    allocate(items.size() * sizeof(Value));
    std::vector<Value> kept;
    for (Value& item : items) {
      inner->variables.clear();
      assign(*stmt.target, item, inner);
      if (truthy(eval(*stmt.test, inner))) kept.push_back(std::move(item));
    }
    items = std::move(kept);
  }
  if (items.empty()) {
    run(stmt.otherwise, new_scope(scope));
    return;
  }
  grow(kept_, 2 * sizeof(Value));
  changed_.emplace_back();
  // Only a recursive loop needs its scope again, which then may come to hold the loop.
  if (stmt.recursive) {
    grow(kept_, 2 * sizeof(ScopePtr));
    captured_.push_back(scope);
  }
  const Value loop_value =
      make<Loop>(items, stmt, stmt.recursive ? scope : nullptr, items, depth, changed_.size() - 1);
  auto& loop = static_cast<Loop&>(loop_value.object());
  for (size_t i = 0; i < loop.size(); ++i) {
    const Statement round(*this);
    line_ = stmt.line;
    charge(1);
    // A fresh scope for each round: what a round sets, the next one does not see.
    if (inner.use_count() > 1) {
      inner = new_scope(scope);
    } else {
      inner->variables.clear();
    }
    set(*inner, stmt.id, loop_value);
    assign(*stmt.target, loop.at(i), inner);
    if (run(stmt.body, inner) == Flow::Break) return;
  }
}

Value Interpreter::recurse(const Stmt& loop, const std::shared_ptr<Scope>& scope,
                           const Value& items, size_t depth) {
  Output printed;
  Output* const outer = std::exchange(out_, &printed);
  run_for(loop, scope, items, depth);
  out_ = outer;
  return text(std::move(printed.text));
}

bool Interpreter::loop_changed(size_t loop, Value value) {
  if (!changed_[loop].is_undefined() && equal(changed_[loop], value)) return false;
  changed_[loop] = std::move(value);
  return true;
}

void Interpreter::run_with(const Stmt& stmt, const ScopePtr& scope) {
  const ScopePtr inner = new_scope(scope);
  for (size_t i = 0; i < stmt.targets.size(); ++i) {
    assign(*stmt.targets[i], eval(*stmt.values[i], scope), inner);
  }
  run(stmt.body, inner);
}

void Interpreter::run_call_block(const Stmt& stmt, const ScopePtr& scope) {
  const Value caller = make_macro(stmt, scope, "caller");
  write(str(eval_call(*stmt.expr, scope, &caller)));
}

void Interpreter::assign(const Expr& target, const Value& value, const ScopePtr& scope) {
  switch (target.kind) {
    case Expr::Kind::Name:
      set(*scope, target.id, value);
      break;
    case Expr::Kind::NamespaceAttribute: {
      const Value* space = scope->find(target.id);
      if (space == nullptr || space->kind() != Kind::Namespace) {
        error("cannot assign attribute on non-namespace object '{}'", name(target.id));
      }
      if (target.name.starts_with('_')) {
        error("a namespace cannot hold '{}': its name begins with '_'", target.name);
      }
      if (space->space().find(target.name) == nullptr) {
        grow(space->space().charge, 2 * (sizeof(Value) + target.name.size() + kOverhead));
      }
      space->space().set(target.name, value);
      break;
    }
    default: {
      const std::vector<Value> values = iterate(value);
      if (values.size() != target.items.size()) {
        error("{} values to unpack, expected {}", values.size(), target.items.size());
      }
      for (size_t i = 0; i < values.size(); ++i) assign(*target.items[i], values[i], scope);
    }
  }
}

Value Interpreter::make_macro(const Stmt& stmt, const ScopePtr& scope, std::string macro_name) {
  grow(kept_, 2 * sizeof(ScopePtr));
  captured_.push_back(scope);
  return make<Macro>({}, stmt, scope, std::move(macro_name));
}

Value Interpreter::call_macro(const Stmt& macro, const std::shared_ptr<Scope>& closure,
                              Args& args) {
  const Signature& signature = macro.signature;
  const std::string& macro_name = macro.kind == Stmt::Kind::CallBlock ? "caller" : macro.text;
  const ScopePtr scope = new_scope(closure);
  const size_t count = signature.parameters.size();
  std::vector<bool> given(count, false);
  std::vector<std::pair<Value, Value>> surplus_named;
  Value caller = undefined("No caller defined");
  bool has_caller = false;

  for (size_t i = 0; i < std::min(count, args.positional.size()); ++i) {
    set(*scope, signature.parameters[i], args.positional[i]);
    given[i] = true;
  }
  for (auto& [keyword, value] : args.keyword) {
    size_t i = 0;
    while (i < count && name(signature.parameters[i]) != keyword) ++i;
    if (i < count && !given[i]) {
      set(*scope, signature.parameters[i], value);
      given[i] = true;
    } else if (signature.uses_caller && keyword == "caller") {
      caller = value;
      has_caller = true;
    } else if (signature.uses_kwargs) {
      surplus_named.emplace_back(text(keyword), value);
    } else {
      error("macro '{}' takes no keyword argument '{}'", macro_name, keyword);
    }
  }
  if (args.positional.size() > count && !signature.uses_varargs) {
    error("macro '{}' takes not more than {} argument(s)", macro_name, count);
  }
  for (NameId id = 0; id < tree_.names.size(); ++id) {
    // The special names exist only in macros that use them.
    if (signature.uses_caller && name(id) == "caller") {
      const bool parameter =
          scope->variables.end() != std::find_if(scope->variables.begin(), scope->variables.end(),
                                                 [&](const auto& v) { return v.first == id; });
      if (!parameter || has_caller) set(*scope, id, caller);
    } else if (signature.uses_varargs && name(id) == "varargs") {
      const size_t first = std::min(count, args.positional.size());
      set(*scope, id,
          tuple({args.positional.begin() + static_cast<ptrdiff_t>(first), args.positional.end()}));
    } else if (signature.uses_kwargs && name(id) == "kwargs") {
      set(*scope, id, dict(surplus_named));
    }
  }
  const size_t first_default = count - signature.defaults.size();
  for (size_t i = 0; i < count; ++i) {
    if (given[i]) continue;
    const NameId id = signature.parameters[i];
    // A default may use the parameters before it.
    set(*scope, id,
        i >= first_default ? eval(*signature.defaults[i - first_default], scope)
                           : undefined("parameter '" + name(id) + "' was not provided"));
  }
  return text(capture(macro.body, scope));
}

}  // namespace fathom::jinja
