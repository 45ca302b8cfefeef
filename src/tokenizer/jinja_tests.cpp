// What may follow "is": is defined, is string, is divisibleby 3, ...
#include <cmath>

#include "tokenizer/jinja_runtime.h"
#include "tokenizer/jinja_text.h"

namespace fathom::jinja {
namespace {

using Test = bool (*)(Runtime&, const Value& value, const Value& argument);

bool remainder_is(Runtime& runtime, const Value& value, const Value& divisor, Int wanted) {
  const Value rest = binary(runtime, '%', value, divisor);
  return runtime.equal(rest, Value(wanted));
}

/// isupper and islower of the value's text, by its string method.
bool has_case(Runtime& runtime, const Value& value, std::string_view name) {
  Args none;
  const Value self = runtime.text(runtime.str(value));
  return truthy(runtime.call(*method(runtime, self, name), none));
}

bool is_nan(const Value& value) { return value.kind() == Kind::Float && std::isnan(value.real()); }

template <bool (*Holds)(int order)>
bool ordered(Runtime& runtime, const Value& a, const Value& b) {
  const int order = runtime.compare(a, b, "<");
  return !is_nan(a) && !is_nan(b) && Holds(order);
}
bool less(int order) { return order < 0; }
bool less_equal(int order) { return order <= 0; }
bool greater(int order) { return order > 0; }
bool greater_equal(int order) { return order >= 0; }

bool is_sequence(Runtime& /*runtime*/, const Value& v, const Value& /*a*/) {
  if (v.is_sequence()) return v.sequence().has_index();
  return v.is_string() || v.is_dict() || v.is_undefined();
}

bool is_iterable(Runtime& /*runtime*/, const Value& v, const Value& /*a*/) {
  return v.is_sequence() || v.is_string() || v.is_dict() || v.is_undefined();
}

bool is_same(Runtime& runtime, const Value& v, const Value& a) {
  // Identity, as far as a template can tell values apart.
  if (v.kind() != a.kind()) return false;
  if (v.is_sequence()) return v.sequence_ref() == a.sequence_ref();
  if (v.is_dict()) return v.dict_ref() == a.dict_ref();
  return runtime.equal(v, a);
}

bool equal(Runtime& runtime, const Value& v, const Value& a) { return runtime.equal(v, a); }
bool not_equal(Runtime& runtime, const Value& v, const Value& a) { return !runtime.equal(v, a); }

struct Entry {
  std::string_view name;
  bool takes_argument;
  Test run;
};

constexpr Entry tests[] = {
    {"odd", false,
     [](Runtime& r, const Value& v, const Value&) { return remainder_is(r, v, Value(Int{2}), 1); }},
    {"even", false,
     [](Runtime& r, const Value& v, const Value&) { return remainder_is(r, v, Value(Int{2}), 0); }},
    {"divisibleby", true,
     [](Runtime& r, const Value& v, const Value& a) { return remainder_is(r, v, a, 0); }},
    {"defined", false, [](Runtime&, const Value& v, const Value&) { return !v.is_undefined(); }},
    {"undefined", false, [](Runtime&, const Value& v, const Value&) { return v.is_undefined(); }},
    {"filter", false,
     [](Runtime&, const Value& v, const Value&) { return v.is_string() && is_filter(v.string()); }},
    {"test", false,
     [](Runtime&, const Value& v, const Value&) { return v.is_string() && is_test(v.string()); }},
    {"none", false, [](Runtime&, const Value& v, const Value&) { return v.is_none(); }},
    {"boolean", false,
     [](Runtime&, const Value& v, const Value&) { return v.kind() == Kind::Bool; }},
    {"false", false,
     [](Runtime&, const Value& v, const Value&) { return v.kind() == Kind::Bool && !v.boolean(); }},
    {"true", false,
     [](Runtime&, const Value& v, const Value&) { return v.kind() == Kind::Bool && v.boolean(); }},
    {"integer", false,
     [](Runtime&, const Value& v, const Value&) { return v.kind() == Kind::Integer; }},
    {"float", false,
     [](Runtime&, const Value& v, const Value&) { return v.kind() == Kind::Float; }},
    {"lower", false,
     [](Runtime& r, const Value& v, const Value&) { return has_case(r, v, "islower"); }},
    {"upper", false,
     [](Runtime& r, const Value& v, const Value&) { return has_case(r, v, "isupper"); }},
    {"string", false, [](Runtime&, const Value& v, const Value&) { return v.is_string(); }},
    {"mapping", false, [](Runtime&, const Value& v, const Value&) { return v.is_dict(); }},
    {"number", false, [](Runtime&, const Value& v, const Value&) { return v.is_number(); }},
    {"sequence", false, is_sequence},
    {"iterable", false, is_iterable},
    {"callable", false,
     [](Runtime&, const Value& v, const Value&) {
       return v.is_undefined() || (v.kind() == Kind::Object && v.object().callable());
     }},
    {"sameas", true, is_same},
    {"escaped", false, [](Runtime&, const Value& v, const Value&) { return v.is_safe(); }},
    {"in", true, [](Runtime& r, const Value& v, const Value& a) { return r.contains(a, v); }},
    {"==", true, equal},
    {"eq", true, equal},
    {"equalto", true, equal},
    {"!=", true, not_equal},
    {"ne", true, not_equal},
    {">", true, ordered<greater>},
    {"gt", true, ordered<greater>},
    {"greaterthan", true, ordered<greater>},
    {">=", true, ordered<greater_equal>},
    {"ge", true, ordered<greater_equal>},
    {"<", true, ordered<less>},
    {"lt", true, ordered<less>},
    {"lessthan", true, ordered<less>},
    {"<=", true, ordered<less_equal>},
    {"le", true, ordered<less_equal>},
};

const Entry* find_test(std::string_view name) {
  for (const Entry& entry : tests) {
    if (entry.name == name) return &entry;
  }
  return nullptr;
}

}  // namespace

bool is_test(std::string_view name) { return find_test(name) != nullptr; }

bool run_test(Runtime& runtime, std::string_view name, const Value& value, Args& args) {
  runtime.charge(1);
  const Entry* test = find_test(name);
  if (test == nullptr) runtime.error("there is no test named '{}'", name);
  const size_t given = args.positional.size() + args.keyword.size();
  if (given != (test->takes_argument ? 1U : 0U)) {
    runtime.error("the test '{}' takes {} argument(s), got {}", name, test->takes_argument ? 1 : 0,
                  given);
  }
  const Value argument = !test->takes_argument     ? Value()
                         : args.positional.empty() ? args.keyword[0].second
                                                   : args.positional[0];
  return test->run(runtime, value, argument);
}

}  // namespace fathom::jinja
