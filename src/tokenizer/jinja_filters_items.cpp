// Filters of many items: sorting, selecting, joining, grouping.
#include <algorithm>

#include "tokenizer/jinja_filters.h"
#include "tokenizer/jinja_text.h"

namespace fathom::jinja {
namespace {

/// A path like "function.name" or "pairs.0", or an index: what attribute= takes.
std::vector<Value> path_of(Runtime& runtime, const Value& attribute) {
  if (!attribute.is_string()) return {attribute};
  std::vector<Value> parts;
  std::string_view rest = attribute.string();
  while (true) {
    const size_t dot = rest.find('.');
    const std::string_view part = rest.substr(0, dot);
    const bool number = !part.empty() && part.size() < 18 &&
                        part.find_first_not_of("0123456789") == std::string_view::npos;
    if (number) {
      parts.emplace_back(Int{std::stoll(std::string(part))});
    } else {
      parts.push_back(runtime.text(std::string(part)));
    }
    if (dot == std::string_view::npos) return parts;
    rest.remove_prefix(dot + 1);
  }
}

Value follow(Runtime& runtime, Value value, const std::vector<Value>& path,
             const Value* fallback = nullptr) {
  for (const Value& part : path) {
    value = runtime.item(value, part);
    if (fallback != nullptr && value.is_undefined()) value = *fallback;
  }
  return value;
}

Value without_case(Runtime& runtime, const Value& value) {
  if (!value.is_string()) return value;
  return runtime.text(text::lower(value.string()));
}

/// What to sort, compare or group an item by.
struct Key {
  std::vector<std::vector<Value>> paths;
  bool case_sensitive;
  const Value* fallback = nullptr;

  static Key single(Runtime& runtime, const Bound& bound, size_t attribute, bool case_sensitive) {
    Key key{{{}}, case_sensitive};
    if (bound.has(attribute) && !bound[attribute].is_none()) {
      key.paths[0] = path_of(runtime, bound[attribute]);
    }
    return key;
  }

  Value of(Runtime& runtime, const Value& item) const {
    const Value value = follow(runtime, item, paths[0], fallback);
    return case_sensitive ? value : without_case(runtime, value);
  }
};

Value filter_sort(Runtime& runtime, const Value& value, Args& args) {
  const Bound bound(runtime, "sort", args, {"reverse", "case_sensitive", "attribute"});
  const bool case_sensitive = bound.flag(1, false);
  std::vector<std::vector<Value>> paths;
  if (bound.has(2) && bound[2].is_string()) {
    std::string_view rest = bound[2].string();  // "age,name" sorts by both
    while (true) {
      const size_t comma = rest.find(',');
      paths.push_back(path_of(runtime, runtime.text(std::string(rest.substr(0, comma)))));
      if (comma == std::string_view::npos) break;
      rest.remove_prefix(comma + 1);
    }
  } else if (bound.has(2) && !bound[2].is_none()) {
    paths.push_back({bound[2]});
  } else {
    paths.emplace_back();
  }
  const std::vector<Value> items = runtime.iterate(value);
  std::vector<Value> keys;
  for (const Value& item : items) {
    std::vector<Value> key;
    for (const auto& path : paths) {
      const Value part = follow(runtime, item, path);
      key.push_back(case_sensitive ? part : without_case(runtime, part));
    }
    keys.push_back(runtime.list(std::move(key)));
  }
  std::vector<Value> out;
  for (const size_t i : runtime.sorted_order(keys, bound.flag(0, false))) out.push_back(items[i]);
  return runtime.list(std::move(out));
}

Value filter_dictsort(Runtime& runtime, const Value& value, Args& args) {
  const Bound bound(runtime, "dictsort", args, {"case_sensitive", "by", "reverse"});
  const std::string by = bound.has(1) ? runtime.str(bound[1]) : "key";
  if (by != "key" && by != "value")
    runtime.error("dictsort sorts by 'key' or 'value', not '{}'", by);
  if (!value.is_dict()) runtime.error("dictsort needs a dict, not '{}'", type_name(value));
  std::vector<Value> keys;
  for (const auto& [key, item] : value.dict().items) {
    const Value& sort_by = by == "key" ? key : item;
    keys.push_back(bound.flag(0, false) ? sort_by : without_case(runtime, sort_by));
  }
  std::vector<Value> out;
  for (const size_t i : runtime.sorted_order(keys, bound.flag(2, false))) {
    const auto& [key, item] = value.dict().items[i];
    out.push_back(runtime.tuple({key, item}));
  }
  return runtime.list(std::move(out));
}

Value filter_unique(Runtime& runtime, const Value& value, Args& args) {
  const Bound bound(runtime, "unique", args, {"case_sensitive", "attribute"});
  const Key key = Key::single(runtime, bound, 1, bound.flag(0, false));
  std::vector<Value> seen;
  std::vector<Value> out;
  for (const Value& item : runtime.iterate(value)) {
    const Value k = key.of(runtime, item);
    if (k.is_dict() || (k.is_sequence() && k.sequence().form != Sequence::Form::Tuple)) {
      runtime.error("unhashable type: '{}'", type_name(k));
    }
    const auto same = [&](const Value& other) { return runtime.equal(other, k); };
    if (std::any_of(seen.begin(), seen.end(), same)) continue;
    seen.push_back(k);
    out.push_back(item);
  }
  return runtime.iterator(std::move(out), "generator");
}

template <bool largest>
Value filter_extreme(Runtime& runtime, const Value& value, Args& args) {
  const Bound bound(runtime, largest ? "max" : "min", args, {"case_sensitive", "attribute"});
  const Key key = Key::single(runtime, bound, 1, bound.flag(0, false));
  std::optional<std::pair<Value, Value>> best;  // key, item
  for (const Value& item : runtime.iterate(value)) {
    const Value k = key.of(runtime, item);
    if (!best || (largest ? runtime.less(best->first, k) : runtime.less(k, best->first))) {
      best = {k, item};
    }
  }
  return best ? best->second : runtime.undefined("No aggregated item, sequence was empty.");
}

Value filter_sum(Runtime& runtime, const Value& value, Args& args) {
  const Bound bound(runtime, "sum", args, {"attribute", "start"});
  const Key key = Key::single(runtime, bound, 0, true);
  Value total = bound.get(1, Value(Int{0}));
  if (total.is_string()) runtime.error("sum() can't sum strings [use ''.join(seq) instead]");
  for (const Value& item : runtime.iterate(value)) {
    total = binary(runtime, '+', total, key.of(runtime, item));
  }
  return total;
}

Value filter_groupby(Runtime& runtime, const Value& value, Args& args) {
  const Bound bound(runtime, "groupby", args, {"attribute", "default", "case_sensitive"}, 1);
  Key key = Key::single(runtime, bound, 0, bound.flag(2, false));
  if (bound.has(1) && !bound[1].is_none()) key.fallback = &bound[1];
  const std::vector<Value> items = runtime.iterate(value);
  std::vector<Value> keys;
  for (const Value& item : items) keys.push_back(key.of(runtime, item));
  const std::vector<size_t> order = runtime.sorted_order(keys, false);
  std::vector<Value> groups;
  for (size_t begin = 0; begin < order.size();) {
    std::vector<Value> group;
    size_t end = begin;
    for (; end < order.size() && runtime.equal(keys[order[begin]], keys[order[end]]); ++end) {
      group.push_back(items[order[end]]);
    }
    if (end == begin) group.push_back(items[order[end++]]);  // NaN, not even equal to itself
    const Value name = follow(runtime, group[0], key.paths[0], key.fallback);
    groups.push_back(runtime.group(name, runtime.list(std::move(group))));
    begin = end;
  }
  return runtime.list(std::move(groups));
}

Value filter_join(Runtime& runtime, const Value& value, Args& args) {
  const Bound bound(runtime, "join", args, {"d", "attribute"});
  const Key key = Key::single(runtime, bound, 1, true);
  const std::string separator = bound.has(0) ? runtime.str(bound[0]) : "";
  std::string out;
  bool first = true;
  for (const Value& item : runtime.iterate(value)) {
    const std::string part = runtime.str(key.of(runtime, item));
    if (!std::exchange(first, false)) out += separator;
    out += part;
    runtime.charge_text(part.size() + separator.size());
    runtime.check_text(out.size());
  }
  return runtime.text(std::move(out), bound.has(0) && bound[0].is_safe());
}

Value filter_length(Runtime& runtime, const Value& value, Args& args) {
  const Bound bound(runtime, "length", args, {});
  return Value(runtime.length(value));
}

Value filter_first(Runtime& runtime, const Value& value, Args& args) {
  const Bound bound(runtime, "first", args, {});
  if (value.is_sequence() && value.sequence().form == Sequence::Form::Iterator) {
    // Takes one item and leaves the others for the next reader.
    const Sequence& sequence = value.sequence();
    if (sequence.next < sequence.items.size()) return sequence.items[sequence.next++];
  } else {
    const std::vector<Value> items = runtime.iterate(value);
    if (!items.empty()) return items.front();
  }
  return runtime.undefined("No first item, sequence was empty.");
}

bool is_reversible(const Value& value) {
  return value.is_dict() || value.is_string() ||
         (value.is_sequence() && value.sequence().form != Sequence::Form::Iterator);
}

Value filter_last(Runtime& runtime, const Value& value, Args& args) {
  const Bound bound(runtime, "last", args, {});
  if (value.is_undefined()) {
    runtime.error("{}", value.undefined().why ? *value.undefined().why : "a value is undefined");
  }
  if (!is_reversible(value)) runtime.error("'{}' object is not reversible", type_name(value));
  const std::vector<Value> items = runtime.iterate(value);
  return items.empty() ? runtime.undefined("No last item, sequence was empty.") : items.back();
}

Value filter_reverse(Runtime& runtime, const Value& value, Args& args) {
  const Bound bound(runtime, "reverse", args, {});
  std::vector<Value> items = runtime.iterate(value);
  std::reverse(items.begin(), items.end());
  if (value.is_string()) {
    std::string out;
    for (const Value& c : items) out += c.string();
    return runtime.text(std::move(out), value.is_safe());
  }
  if (!is_reversible(value)) return runtime.list(std::move(items));
  return runtime.iterator(std::move(items), "list_reverseiterator");
}

Value filter_list(Runtime& runtime, const Value& value, Args& args) {
  const Bound bound(runtime, "list", args, {});
  return runtime.list(runtime.iterate(value));
}

Value filter_items(Runtime& runtime, const Value& value, Args& args) {
  const Bound bound(runtime, "items", args, {});
  std::vector<Value> pairs;
  if (value.is_dict()) {
    for (const auto& [key, item] : value.dict().items) pairs.push_back(runtime.tuple({key, item}));
  } else if (!value.is_undefined()) {
    runtime.error("Can only get item pairs from a mapping.");
  }
  return runtime.iterator(std::move(pairs), "generator");
}

Value filter_batch(Runtime& runtime, const Value& value, Args& args) {
  const Bound bound(runtime, "batch", args, {"linecount", "fill_with"}, 1);
  const Int size = bound.integer(0, 1);
  std::vector<Value> rows;
  std::vector<Value> row;
  for (const Value& item : runtime.iterate(value)) {
    if (static_cast<Int>(row.size()) == size) rows.push_back(runtime.list(std::exchange(row, {})));
    row.push_back(item);
  }
  if (!row.empty()) {
    if (bound.has(1) && !bound[1].is_none()) {
      while (static_cast<Int>(row.size()) < size) {
        runtime.charge(1);
        runtime.allocate(sizeof(Value));
        row.push_back(bound[1]);
      }
    }
    rows.push_back(runtime.list(std::move(row)));
  }
  return runtime.iterator(std::move(rows), "generator");
}

Value filter_slice(Runtime& runtime, const Value& value, Args& args) {
  const Bound bound(runtime, "slice", args, {"slices", "fill_with"}, 1);
  const Int slices = bound.integer(0, 1);
  const std::vector<Value> items = runtime.iterate(value);
  const auto size = static_cast<Int>(items.size());
  if (slices == 0) runtime.error("integer division or modulo by zero");
  std::vector<Value> out;
  Int begin = 0;
  for (Int i = 0; i < slices; ++i) {
    const bool longer = i < size % slices;
    const Int end = begin + size / slices + (longer ? 1 : 0);
    std::vector<Value> part(items.begin() + static_cast<ptrdiff_t>(begin),
                            items.begin() + static_cast<ptrdiff_t>(end));
    if (!longer && bound.has(1) && !bound[1].is_none()) part.push_back(bound[1]);
    out.push_back(runtime.list(std::move(part)));
    begin = end;
  }
  return runtime.iterator(std::move(out), "generator");
}

Value filter_map(Runtime& runtime, const Value& value, Args& args) {
  std::vector<Value> out;
  if (args.positional.empty()) {
    const Bound bound(runtime, "map", args, {"attribute", "default"}, 1);
    const std::vector<Value> path = path_of(runtime, bound[0]);
    const bool has_default = bound.has(1) && !bound[1].is_none();
    for (const Value& item : runtime.iterate(value)) {
      out.push_back(follow(runtime, item, path, has_default ? &bound[1] : nullptr));
    }
    return runtime.iterator(std::move(out), "generator");
  }
  const std::string name = runtime.str(args.positional[0]);
  for (const Value& item : runtime.iterate(value)) {
    Args inner{{args.positional.begin() + 1, args.positional.end()}, args.keyword};
    out.push_back(runtime.apply_filter(name, item, inner));
  }
  return runtime.iterator(std::move(out), "generator");
}

/// select, reject and their attribute forms: the items whose test is `wanted`.
template <bool by_attribute, bool wanted>
Value filter_select(Runtime& runtime, const Value& value, Args& args) {
  std::vector<Value> out;
  if (!truthy(value)) return runtime.iterator({}, "generator");
  const size_t test = by_attribute ? 1 : 0;
  if (by_attribute && args.positional.empty()) runtime.error("the name of an attribute is missing");
  std::vector<Value> path;
  if (by_attribute) path = path_of(runtime, args.positional[0]);
  for (const Value& item : runtime.iterate(value)) {
    const Value subject = follow(runtime, item, path);
    bool holds = false;
    if (args.positional.size() > test) {
      Args inner{{args.positional.begin() + test + 1, args.positional.end()}, args.keyword};
      holds = runtime.apply_test(runtime.str(args.positional[test]), subject, inner);
    } else {
      holds = truthy(subject);
    }
    if (holds == wanted) out.push_back(item);
  }
  return runtime.iterator(std::move(out), "generator");
}

Value filter_attr(Runtime& runtime, const Value& value, Args& args) {
  const Bound bound(runtime, "attr", args, {"name"}, 1);
  const std::string& name = bound.string(0);
  std::optional<Value> found;
  if (value.is_undefined()) return runtime.attribute(value, name);
  if (value.kind() == Kind::Object) {
    found = value.object().attribute(runtime, name);
  } else if (value.kind() == Kind::Namespace) {
    if (const Value* held = value.space().find(name)) found = *held;
  } else {
    found = method(runtime, value, name);
  }
  if (found) return *found;
  return runtime.undefined("'" + type_name(value) + " object' has no attribute '" + name + "'");
}

constexpr Filter filters[] = {
    {"attr", filter_attr},
    {"batch", filter_batch},
    {"count", filter_length},
    {"dictsort", filter_dictsort},
    {"first", filter_first},
    {"groupby", filter_groupby},
    {"items", filter_items},
    {"join", filter_join},
    {"last", filter_last},
    {"length", filter_length},
    {"list", filter_list},
    {"map", filter_map},
    {"max", filter_extreme<true>},
    {"min", filter_extreme<false>},
    {"reject", filter_select<false, false>},
    {"rejectattr", filter_select<true, false>},
    {"reverse", filter_reverse},
    {"select", filter_select<false, true>},
    {"selectattr", filter_select<true, true>},
    {"slice", filter_slice},
    {"sort", filter_sort},
    {"sum", filter_sum},
    {"unique", filter_unique},
};

}  // namespace

std::span<const Filter> item_filters() { return filters; }

}  // namespace fathom::jinja
