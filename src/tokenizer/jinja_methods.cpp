// The methods of values that do not change them: those of dicts, lists and numbers here, those of
// strings in the files beside this one.
//
// Everything else that Python's types have is absent: a template finds no way from a value to the
// machine (no __class__, no format of attributes that begin with "_", no mutation).
#include "tokenizer/jinja_methods.h"

#include <algorithm>
#include <cmath>

namespace fathom::jinja {
namespace {

class BoundMethod : public Object {
 public:
  BoundMethod(Value self, std::string_view name, MethodBody body)
      : self_(std::move(self)), name_(name), body_(body) {}
  std::string repr() const override { return fmt::format("<built-in method {}>", name_); }
  Value call(Runtime& runtime, Args& args) override {
    // A pass over the text is the least that a string method does.
    if (self_.is_string()) runtime.charge_text(self_.string().size());
    return body_(runtime, self_, args);
  }

 private:
  Value self_;
  std::string_view name_;
  MethodBody body_;
};

Value dict_get(Runtime& runtime, const Value& self, Args& args) {
  if (!args.keyword.empty()) runtime.error("get() takes no keyword arguments");
  const Bound bound(runtime, "get", args, {"key", "default"}, 1);
  const Value* found = runtime.find_key(self.dict(), bound[0]);
  return found != nullptr ? *found : bound.get(1, Value(nullptr));
}

template <Sequence::Form form>
Value dict_view(Runtime& runtime, const Value& self, Args& args) {
  const Bound bound(runtime, "a dict method", args, {});
  std::vector<Value> items;
  for (const auto& [key, value] : self.dict().items) {
    if (form == Sequence::Form::Keys) {
      items.push_back(key);
    } else if (form == Sequence::Form::Values) {
      items.push_back(value);
    } else {
      items.push_back(runtime.tuple({key, value}));
    }
  }
  return runtime.list(std::move(items), form);
}

Value copy(Runtime& runtime, const Value& self, Args& args) {
  const Bound bound(runtime, "copy", args, {});
  return self;  // nobody can change either
}

Value list_count(Runtime& runtime, const Value& self, Args& args) {
  const Bound bound(runtime, "count", args, {"value"}, 1);
  Int hits = 0;
  for (const Value& item : self.sequence().items) hits += runtime.equal(item, bound[0]) ? 1 : 0;
  return Value(hits);
}

Value list_index(Runtime& runtime, const Value& self, Args& args) {
  const Bound bound(runtime, "index", args, {"value", "start", "stop"}, 1);
  const auto size = static_cast<Int>(self.sequence().items.size());
  const auto place = [&](size_t i, Int absent) {
    const Int at = bound.integer(i, absent);
    return std::clamp(at < 0 ? at + size : at, Int{0}, size);
  };
  for (Int i = place(1, 0); i < place(2, size); ++i) {
    if (runtime.equal(self.sequence().items[static_cast<size_t>(i)], bound[0])) return Value(i);
  }
  runtime.error("{} is not in list", runtime.repr(bound[0]));
}

Value is_integer(Runtime& runtime, const Value& self, Args& args) {
  const Bound bound(runtime, "is_integer", args, {});
  return Value(std::isfinite(self.real()) && self.real() == std::floor(self.real()));
}

constexpr Method dict_methods[] = {
    {"copy", copy},
    {"get", dict_get},
    {"items", dict_view<Sequence::Form::Items>},
    {"keys", dict_view<Sequence::Form::Keys>},
    {"values", dict_view<Sequence::Form::Values>},
};
constexpr Method list_methods[] = {{"copy", copy}, {"count", list_count}, {"index", list_index}};
constexpr Method float_methods[] = {{"is_integer", is_integer}};

std::span<const Method> methods_of(const Value& object) {
  if (object.is_dict()) return dict_methods;
  if (object.is_sequence() && object.sequence().has_index()) return list_methods;
  if (object.kind() == Kind::Float) return float_methods;
  return {};
}

}  // namespace

std::optional<Value> method(Runtime& runtime, const Value& object, std::string_view name) {
  if (object.is_sequence() && object.sequence().is_group) {
    if (name == "grouper") return object.sequence().items[0];
    if (name == "list") return object.sequence().items[1];
  }
  const auto in = [&](std::span<const Method> methods) -> std::optional<Value> {
    for (const Method& candidate : methods) {
      if (candidate.name == name) {
        return runtime.make<BoundMethod>({&object, 1}, object, candidate.name, candidate.body);
      }
    }
    return std::nullopt;
  };
  if (!object.is_string()) return in(methods_of(object));
  for (const auto& methods : {text_methods(), split_methods(), ask_methods()}) {
    if (auto found = in(methods)) return found;
  }
  return std::nullopt;
}

}  // namespace fathom::jinja
