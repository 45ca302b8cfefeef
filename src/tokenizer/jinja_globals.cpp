// The functions a template finds without being given them.
#include "tokenizer/jinja_runtime.h"
#include "tokenizer/jinja_text.h"

namespace fathom::jinja {
namespace {

/// A global function: plain code, no state but `now`.
class Function : public Object {
 public:
  using Body = Value (*)(Runtime&, Args&, const Value& now);
  Function(std::string_view name, Body body, Value now)
      : name_(name), body_(body), now_(std::move(now)) {}
  std::string repr() const override { return fmt::format("<function {}>", name_); }
  Value call(Runtime& runtime, Args& args) override { return body_(runtime, args, now_); }

 private:
  std::string_view name_;
  Body body_;
  Value now_;
};

/// cycler(a, b): next() gives its items round and round.
class Cycler : public Object, public std::enable_shared_from_this<Cycler> {
 public:
  explicit Cycler(std::vector<Value> items) : items_(std::move(items)) {}
  std::string repr() const override { return "<jinja2.utils.Cycler object>"; }
  bool callable() const override { return false; }
  std::optional<Value> attribute(Runtime& runtime, std::string_view name) override;
  Value current() const { return items_[at_]; }
  Value advance() {
    const Value value = items_[at_];
    at_ = (at_ + 1) % items_.size();
    return value;
  }
  void reset() { at_ = 0; }

 private:
  std::vector<Value> items_;
  size_t at_ = 0;
};

class CyclerMethod : public Object {
 public:
  CyclerMethod(std::shared_ptr<Cycler> cycler, bool reset)
      : cycler_(std::move(cycler)), reset_(reset) {}
  std::string repr() const override { return "<bound method Cycler>"; }
  Value call(Runtime& /*runtime*/, Args& /*args*/) override {
    if (!reset_) return cycler_->advance();
    cycler_->reset();
    return Value(nullptr);
  }

 private:
  std::shared_ptr<Cycler> cycler_;
  bool reset_;
};

std::optional<Value> Cycler::attribute(Runtime& runtime, std::string_view name) {
  if (name == "current") return current();
  if (name != "next" && name != "reset") return std::nullopt;
  return runtime.make<CyclerMethod>(items_, shared_from_this(), name == "reset");
}

/// joiner(sep): empty when first called, `sep` ever after.
class Joiner : public Object {
 public:
  explicit Joiner(Value separator) : separator_(std::move(separator)) {}
  std::string repr() const override { return "<jinja2.utils.Joiner object>"; }
  Value call(Runtime& runtime, Args& /*args*/) override {
    return std::exchange(used_, true) ? separator_ : runtime.text("");
  }

 private:
  Value separator_;
  bool used_ = false;
};

Value raise_exception(Runtime& runtime, Args& args, const Value& /*now*/) {
  const Bound bound(runtime, "raise_exception", args, {"message"}, 1);
  // The template's own words: they are meant for the person who sent the conversation.
  throw Error(ErrorCode::InvalidArgument, runtime.str(bound[0]));
}

Value range(Runtime& runtime, Args& args, const Value& /*now*/) {
  const Bound bound(runtime, "range", args, {"start", "stop", "step"}, 1);
  if (!args.keyword.empty()) runtime.error("range() takes no keyword arguments");
  const bool one = !bound.has(1);
  const Int start = one ? 0 : bound.integer(0, 0);
  const Int stop = one ? bound.integer(0, 0) : bound.integer(1, 0);
  const Int step = bound.integer(2, 1);
  if (step == 0) runtime.error("range() arg 3 must not be zero");
  auto sequence = std::make_shared<Sequence>();
  sequence->form = Sequence::Form::Range;
  sequence->range[0] = start;
  sequence->range[1] = stop;
  sequence->range[2] = step;
  for (Int i = start; step > 0 ? i < stop : i > stop;) {
    if (sequence->items.size() >= runtime.limits().max_range) {
      runtime.limit_error("range() of more than {} items", runtime.limits().max_range);
    }
    runtime.charge(1);
    if (sequence->items.size() == sequence->items.capacity()) {  // it is about to double
      runtime.grow(sequence->charge, (sequence->items.size() + 1) * sizeof(Value));
    }
    sequence->items.emplace_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return Value(std::shared_ptr<const Sequence>(std::move(sequence)));
}

/// The pairs of dict(mapping or pairs, name=value, ...).
std::vector<std::pair<Value, Value>> dict_items(Runtime& runtime, Args& args) {
  std::vector<std::pair<Value, Value>> items;
  if (args.positional.size() > 1) runtime.error("dict expected at most 1 argument");
  if (args.positional.size() == 1) {
    const Value& from = args.positional[0];
    if (from.is_dict()) {
      items = from.dict().items;
    } else {
      for (const Value& entry : runtime.iterate(from)) {
        std::vector<Value> pair = runtime.iterate(entry);
        if (pair.size() != 2) runtime.error("dict() needs pairs, got {} items", pair.size());
        items.emplace_back(std::move(pair[0]), std::move(pair[1]));
      }
    }
  }
  for (auto& [name, value] : args.keyword) items.emplace_back(runtime.text(name), value);
  return items;
}

Value make_dict(Runtime& runtime, Args& args, const Value& /*now*/) {
  return runtime.dict(dict_items(runtime, args));
}

Value make_namespace(Runtime& runtime, Args& args, const Value& /*now*/) {
  std::vector<std::pair<std::string, Value>> attributes;
  const Value checked = runtime.dict(dict_items(runtime, args));
  for (const auto& [key, value] : checked.dict().items) {
    if (!key.is_string())
      runtime.error("a namespace's attributes have names, not {}", type_name(key));
    if (key.string().starts_with('_')) {
      runtime.error("a namespace cannot hold '{}': its name begins with '_'", key.string());
    }
    attributes.emplace_back(key.string(), value);
  }
  return runtime.new_namespace(std::move(attributes));
}

Value make_cycler(Runtime& runtime, Args& args, const Value& /*now*/) {
  if (args.positional.empty()) runtime.error("at least one item has to be provided");
  return runtime.make<Cycler>(args.positional, args.positional);
}

Value make_joiner(Runtime& runtime, Args& args, const Value& /*now*/) {
  const Bound bound(runtime, "joiner", args, {"sep"});
  const Value separator = bound.get(0, runtime.text(", "));
  return runtime.make<Joiner>({&separator, 1}, separator);
}

Value strftime_now(Runtime& runtime, Args& args, const Value& now) {
  const Bound bound(runtime, "strftime_now", args, {"format"}, 1);
  return runtime.text(format_time(runtime, bound.string(0), now));
}

}  // namespace

std::optional<Value> global(Runtime& runtime, std::string_view name, const Value& now) {
  static constexpr std::pair<std::string_view, Function::Body> functions[] = {
      {"raise_exception", raise_exception}, {"range", range},        {"dict", make_dict},
      {"namespace", make_namespace},        {"cycler", make_cycler}, {"joiner", make_joiner},
      {"strftime_now", strftime_now},
  };
  for (const auto& [known, body] : functions) {
    if (known != name) continue;
    return runtime.make<Function>({}, known, body, now);
  }
  return std::nullopt;
}

}  // namespace fathom::jinja
