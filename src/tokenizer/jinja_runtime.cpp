// The budgeted constructors of values and Python's operations on them.
#include "tokenizer/jinja_runtime.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "tokenizer/jinja_text.h"

namespace fathom::jinja {
namespace {

// Deeper values than any schema; it bounds the recursion of every walk over a value.
constexpr uint32_t max_value_depth = 200;

}  // namespace

Runtime::~Runtime() {
  for (const auto& space : namespaces_) space->attributes.clear();
}

void Runtime::check_depth(uint32_t depth) const {
  if (depth > max_value_depth) {
    limit_error("a value nests more than {} levels deep", max_value_depth);
  }
}

std::shared_ptr<const std::string> Runtime::held_text(std::string s) {
  struct Held {
    std::string text;
    Charge charge;
  };
  const size_t outside = s.capacity() > 15 ? s.capacity() + kOverhead : 0;
  Charge memory = hold(sizeof(Held) + kOverhead + outside);
  auto held = std::make_shared<Held>(Held{std::move(s), {}});
  held->charge = std::move(memory);
  return {held, &held->text};
}

Value Runtime::text(std::string s, bool safe) {
  charge_text(s.size());
  check_text(s.size());
  return Value(String{held_text(std::move(s)), safe});
}

Value Runtime::character(std::string_view c, bool safe) {
  if (safe || c.size() != 1 || (c[0] & 0x80) != 0) return text(std::string(c), safe);
  if (characters_.empty()) characters_.resize(128);
  Value& value = characters_[static_cast<size_t>(c[0])];
  if (value.is_undefined()) value = text(std::string(c));
  return value;
}

Value Runtime::list(std::vector<Value> items, Sequence::Form form) {
  charge(1 + items.size() / 8);
  Charge memory = hold(sizeof(Sequence) + kOverhead + items.capacity() * sizeof(Value));
  auto sequence = std::make_shared<Sequence>();
  sequence->charge = std::move(memory);
  sequence->form = form;
  for (const Value& item : items) sequence->depth = std::max(sequence->depth, depth_of(item) + 1);
  check_depth(sequence->depth);
  sequence->items = std::move(items);
  return Value(std::shared_ptr<const Sequence>(std::move(sequence)));
}

Value Runtime::group(Value grouper, Value items) {
  const Value pair = tuple({std::move(grouper), std::move(items)});
  Charge memory = hold(sizeof(Sequence) + kOverhead + 2 * sizeof(Value));
  auto named = std::make_shared<Sequence>(pair.sequence());
  named->charge = std::move(memory);
  named->is_group = true;
  return Value(std::shared_ptr<const Sequence>(std::move(named)));
}

Value Runtime::iterator(std::vector<Value> items, const char* type_name) {
  charge(1 + items.size() / 8);
  Charge memory = hold(sizeof(Sequence) + kOverhead + items.capacity() * sizeof(Value));
  auto sequence = std::make_shared<Sequence>();
  sequence->charge = std::move(memory);
  sequence->form = Sequence::Form::Iterator;
  sequence->type_name = type_name;
  for (const Value& item : items) sequence->depth = std::max(sequence->depth, depth_of(item) + 1);
  check_depth(sequence->depth);
  sequence->items = std::move(items);
  return Value(std::shared_ptr<const Sequence>(std::move(sequence)));
}

Value Runtime::dict(std::vector<std::pair<Value, Value>> items) {
  // Twice the items: the vector grows, and may end with room for as many again.
  Charge memory = hold(sizeof(Dict) + kOverhead + 2 * items.size() * sizeof(items[0]));
  auto dict = std::make_shared<Dict>();
  dict->charge = std::move(memory);
  for (auto& [key, value] : items) {
    const Kind kind = key.kind();
    const bool tuple = kind == Kind::Sequence && key.sequence().form == Sequence::Form::Tuple;
    if (kind == Kind::Dict || (kind == Kind::Sequence && !tuple)) {
      error("unhashable type: '{}'", type_name(key));
    }
    dict->depth = std::max({dict->depth, depth_of(key) + 1, depth_of(value) + 1});
    if (const Value* present = find_key(*dict, key)) {
      *const_cast<Value*>(present) = std::move(value);  // `dict` is still ours alone
    } else {
      dict->items.emplace_back(std::move(key), std::move(value));
    }
  }
  check_depth(dict->depth);
  return Value(std::shared_ptr<const Dict>(std::move(dict)));
}

Value Runtime::undefined(std::string why) { return Value(Undefined{held_text(std::move(why))}); }

Value Runtime::new_namespace(std::vector<std::pair<std::string, Value>> attributes) {
  Charge memory = hold(sizeof(Namespace) + kOverhead + attributes.size() * sizeof(attributes[0]));
  auto space = std::make_shared<Namespace>();
  space->charge = std::move(memory);
  space->attributes = std::move(attributes);
  namespaces_.push_back(space);
  return Value(std::move(space));
}

Value Runtime::import(const Json& json) {
  const Level level(*this);
  charge(1);
  make_room(json.is_string() ? json.get_ref<const std::string&>().size() : 0);
  switch (json.type()) {
    case Json::value_t::null:
      return Value(nullptr);
    case Json::value_t::boolean:
      return Value(json.get<bool>());
    case Json::value_t::number_integer:
      return Value(Int{json.get<int64_t>()});
    case Json::value_t::number_unsigned:
      return Value(Int{json.get<uint64_t>()});
    case Json::value_t::number_float:
      return Value(json.get<double>());
    case Json::value_t::string:
      return text(json.get_ref<const std::string&>());
    case Json::value_t::array: {
      std::vector<Value> items;
      items.reserve(json.size());
      for (const Json& item : json) items.push_back(import(item));
      return list(std::move(items));
    }
    case Json::value_t::object: {
      // A JSON object has no repeated keys, so dict() and its search for them is not needed.
      Charge memory = hold(sizeof(Dict) + kOverhead + 2 * json.size() * sizeof(Value) * 2);
      auto dict = std::make_shared<Dict>();
      dict->charge = std::move(memory);
      for (const auto& [key, item] : json.items()) {
        make_room(key.size());
        Value value = import(item);
        dict->depth = std::max(dict->depth, depth_of(value) + 1);
        dict->items.emplace_back(text(key), std::move(value));
      }
      check_depth(dict->depth);
      return Value(std::shared_ptr<const Dict>(std::move(dict)));
    }
    default:
      error("an input is binary data");
  }
}

const Value* Runtime::find_key(const Dict& dict, const Value& key) {
  charge(1 + dict.items.size() / 8);
  if (key.is_string()) return dict.find(key.string());
  for (const auto& [k, v] : dict.items) {
    if (equal(k, key)) return &v;
  }
  return nullptr;
}

bool Runtime::equal(const Value& a, const Value& b) {
  charge(1);
  if (a.is_number() && b.is_number()) {
    if (a.is_integral() && b.is_integral()) return a.integer() == b.integer();
    return a.number() == b.number();
  }
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::Undefined:
    case Kind::None:
      return true;
    case Kind::String:
      charge_text(std::min(a.string().size(), b.string().size()));
      return a.string() == b.string();
    case Kind::Sequence: {
      const Sequence& x = a.sequence();
      const Sequence& y = b.sequence();
      if (&x == &y) return true;
      if (x.form != y.form || !x.has_length() || x.form == Sequence::Form::Values) return false;
      if (x.items.size() != y.items.size()) return false;
      for (size_t i = 0; i < x.items.size(); ++i) {
        if (!equal(x.items[i], y.items[i])) return false;
      }
      return true;
    }
    case Kind::Dict: {
      const Dict& x = a.dict();
      const Dict& y = b.dict();
      if (x.items.size() != y.items.size()) return false;
      for (const auto& [key, value] : x.items) {
        const Value* other = find_key(y, key);
        if (other == nullptr || !equal(value, *other)) return false;
      }
      return true;
    }
    case Kind::Namespace:
      return &a.space() == &b.space();
    case Kind::Object:
      return &a.object() == &b.object();
    default:
      return false;
  }
}

int Runtime::compare(const Value& a, const Value& b, const char* op) {
  charge(1);
  if (a.is_undefined() || b.is_undefined()) {
    const Value& missing = a.is_undefined() ? a : b;
    error("{}", missing.undefined().why ? *missing.undefined().why : "a value is undefined");
  }
  if (a.is_number() && b.is_number()) {
    if (a.is_integral() && b.is_integral()) {
      return a.integer() < b.integer() ? -1 : a.integer() > b.integer() ? 1 : 0;
    }
    return a.number() < b.number() ? -1 : a.number() > b.number() ? 1 : 0;
  }
  if (a.is_string() && b.is_string()) {
    charge_text(std::min(a.string().size(), b.string().size()));
    // UTF-8 sorts as its code points do.
    const int order = a.string().compare(b.string());
    return order < 0 ? -1 : order > 0 ? 1 : 0;
  }
  if (a.is_sequence() && b.is_sequence() && a.sequence().form == b.sequence().form &&
      (a.sequence().form == Sequence::Form::List || a.sequence().form == Sequence::Form::Tuple)) {
    const std::vector<Value>& x = a.sequence().items;
    const std::vector<Value>& y = b.sequence().items;
    for (size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
      if (!equal(x[i], y[i])) return compare(x[i], y[i], op);
    }
    return x.size() < y.size() ? -1 : x.size() > y.size() ? 1 : 0;
  }
  error("'{}' not supported between instances of '{}' and '{}'", op, type_name(a), type_name(b));
}

bool Runtime::less(const Value& a, const Value& b) { return compare(a, b, "<") < 0; }

std::vector<size_t> Runtime::sorted_order(const std::vector<Value>& keys, bool reverse) {
  // A merge sort of our own: the library's may misbehave when an order contradicts itself (NaN).
  allocate(2 * keys.size() * sizeof(size_t));
  std::vector<size_t> order(keys.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::vector<size_t> merged(keys.size());
  for (size_t run = 1; run < keys.size(); run *= 2) {
    for (size_t begin = 0; begin < keys.size(); begin += 2 * run) {
      const size_t middle = std::min(begin + run, keys.size());
      const size_t end = std::min(begin + 2 * run, keys.size());
      size_t left = begin;
      size_t right = middle;
      for (size_t out = begin; out < end; ++out) {
        bool take_right = left == middle;
        if (left < middle && right < end) {
          const Value& a = keys[order[left]];
          const Value& b = keys[order[right]];
          take_right = reverse ? less(a, b) : less(b, a);
        }
        merged[out] = take_right ? order[right++] : order[left++];
      }
    }
    order.swap(merged);
  }
  return order;
}

bool Runtime::contains(const Value& container, const Value& item) {
  switch (container.kind()) {
    case Kind::String:
      if (!item.is_string()) {
        error("'in <string>' requires string as left operand, not {}", type_name(item));
      }
      charge_text(container.string().size());
      return text::find(container.string(), item.string()) != std::string_view::npos;
    case Kind::Dict:
      return find_key(container.dict(), item) != nullptr;
    case Kind::Undefined:
      return false;
    case Kind::Sequence: {
      const Sequence& sequence = container.sequence();
      size_t i = sequence.form == Sequence::Form::Iterator ? sequence.next : 0;
      for (; i < sequence.items.size(); ++i) {
        if (equal(sequence.items[i], item)) break;
      }
      const bool found = i < sequence.items.size();
      // Searching an iterator consumes it up to the hit.
      if (sequence.form == Sequence::Form::Iterator) sequence.next = i + (found ? 1 : 0);
      return found;
    }
    default:
      error("argument of type '{}' is not iterable", type_name(container));
  }
}

std::vector<Value> Runtime::iterate(const Value& value) {
  switch (value.kind()) {
    case Kind::Undefined:
      return {};
    case Kind::String: {
      const std::string& s = value.string();
      std::vector<Value> items;
      const size_t count = text::length(s);
      allocate(count * sizeof(Value));
      items.reserve(count);
      for (size_t at = 0; at < s.size();) {
        const size_t size = text::decode(s, at).size;
        charge(1);
        items.push_back(character(std::string_view(s).substr(at, size), value.is_safe()));
        at += size;
      }
      return items;
    }
    case Kind::Sequence: {
      const Sequence& sequence = value.sequence();
      const bool once = sequence.form == Sequence::Form::Iterator;
      const size_t first = once ? std::exchange(sequence.next, sequence.items.size()) : 0;
      charge(1 + sequence.items.size() / 8);
      allocate((sequence.items.size() - first) * sizeof(Value));
      return {sequence.items.begin() + static_cast<ptrdiff_t>(first), sequence.items.end()};
    }
    case Kind::Dict: {
      charge(1 + value.dict().items.size() / 8);
      allocate(value.dict().items.size() * sizeof(Value));
      std::vector<Value> keys;
      keys.reserve(value.dict().items.size());
      for (const auto& entry : value.dict().items) keys.push_back(entry.first);
      return keys;
    }
    default:
      error("'{}' object is not iterable", type_name(value));
  }
}

Int Runtime::length(const Value& value) {
  switch (value.kind()) {
    case Kind::Undefined:
      return 0;
    case Kind::String:
      charge_text(value.string().size());
      return static_cast<Int>(text::length(value.string()));
    case Kind::Dict:
      return static_cast<Int>(value.dict().items.size());
    case Kind::Sequence:
      if (value.sequence().has_length()) return static_cast<Int>(value.sequence().items.size());
      [[fallthrough]];
    default:
      error("object of type '{}' has no len()", type_name(value));
  }
}

/// x[key] where x holds items; undefined if there is none, or if x has no items at all.
Value Runtime::element(const Value& object, const Value& key) {
  if (object.is_dict()) {
    if (const Value* found = find_key(object.dict(), key)) return *found;
  } else if (object.kind() == Kind::Namespace && key.is_string()) {
    if (const Value* found = object.space().find(key.string())) return *found;
  } else if (key.is_integral()) {
    const Int index = key.integer();
    if (object.is_sequence() && object.sequence().has_index()) {
      const auto size = static_cast<Int>(object.sequence().items.size());
      const Int at = index < 0 ? index + size : index;
      if (at >= 0 && at < size) return object.sequence().items[static_cast<size_t>(at)];
    } else if (object.is_string()) {
      const std::string& s = object.string();
      const Int size = length(object);
      const Int at = index < 0 ? index + size : index;
      if (at >= 0 && at < size) {
        const size_t begin = text::byte_offset(s, static_cast<size_t>(at));
        return text(s.substr(begin, text::decode(s, begin).size), object.is_safe());
      }
    }
  }
  return Value();
}

namespace {

/// "'dict object' has no attribute 'x'", or the like.
std::string missing(Runtime& runtime, const Value& object, const Value& key) {
  const std::string owner = object.is_none() ? "'None'"
                            : object.kind() == Kind::Namespace
                                ? "the namespace"
                                : "'" + type_name(object) + " object'";
  if (!key.is_string()) return owner + " has no element " + runtime.repr(key);
  return owner + " has no attribute '" + key.string() + "'";
}

}  // namespace

Value Runtime::attribute(const Value& object, std::string_view name) {
  charge(1);
  if (object.is_undefined()) {
    error("{}", object.undefined().why ? *object.undefined().why : "a value is undefined");
  }
  if (object.kind() == Kind::Object) {
    if (std::optional<Value> found = object.object().attribute(*this, name)) return *found;
  } else if (std::optional<Value> found = method(*this, object, name)) {
    return *found;
  }
  const Value key = text(std::string(name));
  Value found = element(object, key);
  if (!found.is_undefined() || found.undefined().why) return found;
  return undefined(missing(*this, object, key));
}

Value Runtime::item(const Value& object, const Value& key) {
  charge(1);
  if (object.is_undefined()) {
    error("{}", object.undefined().why ? *object.undefined().why : "a value is undefined");
  }
  Value found = element(object, key);
  if (!found.is_undefined() || found.undefined().why) return found;
  if (key.is_string()) {
    if (object.kind() == Kind::Object) {
      if (std::optional<Value> member = object.object().attribute(*this, key.string())) {
        return *member;
      }
    } else if (std::optional<Value> member = method(*this, object, key.string())) {
      return *member;
    }
  }
  return undefined(missing(*this, object, key));
}

Value Runtime::slice(const Value& object, const Value& start, const Value& stop,
                     const Value& step) {
  charge(1);
  if (object.is_undefined()) {
    error("{}", object.undefined().why ? *object.undefined().why : "a value is undefined");
  }
  const bool sliceable =
      object.is_string() || (object.is_sequence() && object.sequence().has_index());
  if (!sliceable) return undefined("'" + type_name(object) + " object' cannot be sliced");
  const auto bound = [&](const Value& v, Int absent) {
    if (v.is_none()) return absent;
    if (!v.is_integral()) error("slice indices must be integers or None");
    return v.integer();
  };
  const Int by = bound(step, 1);
  if (by == 0) error("slice step cannot be zero");
  const Int size = length(object);
  const auto clamp = [&](Int i) {
    if (i < 0) i = std::max(i + size, by < 0 ? Int{-1} : Int{0});
    return std::min(i, by < 0 ? size - 1 : size);
  };
  const Int from = start.is_none() ? (by < 0 ? size - 1 : 0) : clamp(bound(start, 0));
  const Int to = stop.is_none() ? (by < 0 ? -1 : size) : clamp(bound(stop, 0));

  if (object.is_string() && by == 1) {
    const std::string& s = object.string();
    const size_t begin = text::byte_offset(s, static_cast<size_t>(from));
    const size_t end = from >= to ? begin : text::byte_offset(s, static_cast<size_t>(to));
    charge_text(end);
    return text(s.substr(begin, end - begin), object.is_safe());
  }
  std::vector<size_t> indices;
  for (Int i = from; by > 0 ? i < to : i > to; i += by) {
    charge(1);
    allocate(sizeof(size_t) + sizeof(Value));
    indices.push_back(static_cast<size_t>(i));
    // One step past the ends is enough, and keeps the sum from overflowing.
    if (by > size || by < -size) break;
  }
  if (object.is_string()) {
    const std::string& s = object.string();
    const std::vector<text::CodePoint> points = code_points(s);
    std::string out;
    for (const size_t i : indices) out += s.substr(points[i].offset, points[i].size);
    return text(std::move(out), object.is_safe());
  }
  std::vector<Value> items;
  for (const size_t i : indices) items.push_back(object.sequence().items[i]);
  return list(std::move(items), object.sequence().form == Sequence::Form::Tuple
                                    ? Sequence::Form::Tuple
                                    : Sequence::Form::List);
}

Value Runtime::call(const Value& callee, Args& args) {
  charge(1);
  if (callee.is_undefined()) {
    error("{}", callee.undefined().why ? *callee.undefined().why : "a value is undefined");
  }
  if (callee.kind() != Kind::Object) error("'{}' object is not callable", type_name(callee));
  const Level level(*this);
  return callee.object().call(*this, args);
}

}  // namespace fathom::jinja
