// What every operation of a running template shares: its budget, its place for errors, and the
// constructors of values, which charge that budget.
//
// Runtime knows nothing of the syntax tree; the Interpreter derives from it.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/jinja_text.h"
#include "tokenizer/jinja_value.h"

namespace fathom::jinja {

class Runtime {
 public:
  explicit Runtime(const TemplateLimits& limits)
      : limits_(limits),
        text_limit_(limits.max_output_bytes),
        memory_limit_(limits.max_memory_bytes) {}
  virtual ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  const TemplateLimits& limits() const { return limits_; }

  /// Throws Error(InvalidArgument) that names the template's current line.
  template <typename... A>
  [[noreturn]] void error(fmt::format_string<A...> format, A&&... args) const {
    fail(ErrorCode::InvalidArgument, "chat template, line {}: {}", line_,
         fmt::format(format, std::forward<A>(args)...));
  }
  template <typename... A>
  [[noreturn]] void limit_error(fmt::format_string<A...> format, A&&... args) const {
    fail(ErrorCode::ResourceLimit, "chat template, line {}: {}", line_,
         fmt::format(format, std::forward<A>(args)...));
  }

  /// Counts `steps` units of work, about one visited node or item each.
  void charge(size_t steps) {
    steps_ += steps;
    if (steps_ > limits_.max_steps) limit_error("more than {} steps", limits_.max_steps);
  }
  /// Counts the work of a pass over `bytes` of text.
  void charge_text(size_t bytes) { charge(1 + bytes / 64); }
  /// Memory that something of `bytes` takes while the Charge lives. Call it before allocating.
  Charge hold(size_t bytes) {
    check_memory(bytes);
    return {live_, bytes};
  }
  void grow(Charge& charge, size_t bytes) {
    check_memory(bytes);
    charge.grow(live_, bytes);
  }
  /// Memory of the current statement: what is not in a value, or not yet. Given back at its end.
  void allocate(size_t bytes) {
    check_memory(bytes);
    live_ += bytes;
    transient_ += bytes;
  }
  void check_memory(size_t bytes) const {
    if (live_ > memory_limit_ || bytes > memory_limit_ - live_) {
      limit_error("more than {} bytes of memory", memory_limit_);
    }
  }
  /// Call it wherever a text grows: it bounds the output, and each text on the way to it.
  void check_text(size_t bytes) const {
    if (bytes > text_limit_) limit_error("a text of more than {} bytes", text_limit_);
  }
  /// text::code_points, whose array is far larger than the text.
  std::vector<text::CodePoint> code_points(std::string_view s) {
    allocate(s.size() * sizeof(text::CodePoint));
    return text::code_points(s);
  }

  // Constructors of values; each charges the budget.
  Value text(std::string s, bool safe = false);
  /// A text of one character; of ASCII, one value each serves them all.
  Value character(std::string_view c, bool safe);
  Value list(std::vector<Value> items, Sequence::Form form = Sequence::Form::List);
  Value tuple(std::vector<Value> items) { return list(std::move(items), Sequence::Form::Tuple); }
  Value group(Value grouper, Value items);  // one of groupby's
  Value iterator(std::vector<Value> items, const char* type_name);
  /// `items` may hold equal keys; the last value of each wins, at the first one's place.
  Value dict(std::vector<std::pair<Value, Value>> items);
  Value undefined(std::string why);
  Value new_namespace(std::vector<std::pair<std::string, Value>> attributes);
  Value import(const Json& json);
  /// A T made of `args`, which keeps the values of `holds`.
  template <typename T, typename... A>
  Value make(std::span<const Value> holds, A&&... args) {
    charge(1);
    Charge memory = hold(sizeof(T) + kOverhead + holds.size() * sizeof(Value));
    auto object = std::make_shared<T>(std::forward<A>(args)...);
    object->charge = std::move(memory);
    for (const Value& value : holds) object->depth = std::max(object->depth, depth_of(value) + 1);
    check_depth(object->depth);
    return Value(std::shared_ptr<Object>(std::move(object)));
  }

  // Python's operations. All throw as Python would.
  bool equal(const Value& a, const Value& b);
  /// Negative, zero or positive; for NaN, `unordered` is set.
  int compare(const Value& a, const Value& b, const char* op);
  bool less(const Value& a, const Value& b);
  /// The order that sorts `keys`; equal keys stay as they stood, also in reverse.
  std::vector<size_t> sorted_order(const std::vector<Value>& keys, bool reverse);
  bool contains(const Value& container, const Value& item);
  std::string str(const Value& value);   // str(x): what {{ x }} prints
  std::string repr(const Value& value);  // repr(x)
  /// The items that a `for` would visit; an iterator is consumed.
  std::vector<Value> iterate(const Value& value);
  Int length(const Value& value);
  Value attribute(const Value& object, std::string_view name);  // x.name
  Value item(const Value& object, const Value& key);            // x[key]
  Value slice(const Value& object, const Value& start, const Value& stop, const Value& step);
  Value call(const Value& callee, Args& args);
  const Value* find_key(const Dict& dict, const Value& key);

  virtual Value apply_filter(std::string_view name, const Value& value, Args& args) = 0;
  virtual bool apply_test(std::string_view name, const Value& value, Args& args) = 0;

  /// json.dumps(value); without an indent, on one line.
  struct JsonStyle {
    bool ensure_ascii = false;
    bool sort_keys = false;
    std::optional<std::string> indent;
    std::string item_separator;
    std::string key_separator;
  };
  std::string to_json(const Value& value, const JsonStyle& style);

 protected:
  /// One level of nested evaluation; throws when the template nests or recurses too deep.
  class Level {
   public:
    explicit Level(Runtime& runtime) : runtime_(runtime) {
      if (++runtime_.depth_ > runtime_.limits_.max_depth) {
        --runtime_.depth_;
        runtime_.limit_error("nested or recursive more than {} levels deep",
                             runtime_.limits_.max_depth);
      }
    }
    ~Level() { --runtime_.depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    Runtime& runtime_;
  };

  /// The memory that a statement allocates for itself.
  class Statement {
   public:
    explicit Statement(Runtime& runtime) : runtime_(runtime), before_(runtime.transient_) {}
    ~Statement() {
      runtime_.live_ -= runtime_.transient_ - before_;
      runtime_.transient_ = before_;
    }
    Statement(const Statement&) = delete;
    Statement& operator=(const Statement&) = delete;

   private:
    Runtime& runtime_;
    size_t before_;
  };

  // What the allocator and a reference count add to an object.
  static constexpr size_t kOverhead = 32;

  size_t line_ = 0;

 private:
  void check_depth(uint32_t depth) const;
  /// Raises the limits for an input of `bytes` and the value that will hold it.
  void make_room(size_t bytes) {
    memory_limit_ += (bytes + sizeof(Value)) * limits_.per_input_byte;
    text_limit_ += (bytes + sizeof(Value)) * limits_.per_input_byte;
  }
  std::shared_ptr<const std::string> held_text(std::string s);
  void append_repr(std::string& out, const Value& value);
  void append_json(std::string& out, const Value& value, const JsonStyle& style, size_t level);
  Value element(const Value& object, const Value& key);

  TemplateLimits limits_;
  size_t text_limit_;
  size_t memory_limit_;
  size_t steps_ = 0;
  size_t live_ = 0;       // bytes of all values and transients
  size_t transient_ = 0;  // of these, what the statements under way have allocated
  size_t depth_ = 0;
  std::vector<Value> characters_;
  // Every namespace made: they can hold themselves, so they are emptied at the end.
  std::vector<std::shared_ptr<Namespace>> namespaces_;
};

/// The arguments of a Python function, matched to its parameters. Throws as Python does on a
/// missing, unknown or repeated argument. Index i answers for parameters[i].
class Bound {
 public:
  Bound(Runtime& runtime, std::string_view function, Args& args,
        std::initializer_list<std::string_view> parameters, size_t required = 0);
  bool has(size_t i) const { return values_[i].has_value(); }
  const Value& operator[](size_t i) const { return *values_[i]; }
  /// The argument, or `fallback` when absent.
  Value get(size_t i, Value fallback) const { return has(i) ? *values_[i] : std::move(fallback); }
  bool flag(size_t i, bool fallback) const { return has(i) ? truthy(*values_[i]) : fallback; }
  Int integer(size_t i, Int fallback) const;  // throws unless an int
  const std::string& string(size_t i) const;  // throws unless a string

 private:
  Runtime& runtime_;
  std::string_view function_;
  std::vector<std::optional<Value>> values_;
};

// jinja_number.cpp
std::string float_repr(double d);
std::string integer_repr(Int i);
Value binary(Runtime& runtime, char op, const Value& a,
             const Value& b);  // + - * / % ; 'f' //, 'p' **
Value negate(Runtime& runtime, const Value& value);

// jinja_format.cpp
std::string percent_format(Runtime& runtime, const std::string& format, const Value& args);
std::string brace_format(Runtime& runtime, const std::string& format, Args& args);

// jinja_time.cpp
/// strftime of `now`, a text "YYYY-MM-DD HH:MM:SS".
std::string format_time(Runtime& runtime, const std::string& format, const Value& now);

// jinja_methods.cpp: the method `name` of `object`, or nothing if it has none.
std::optional<Value> method(Runtime& runtime, const Value& object, std::string_view name);

// jinja_filters.cpp and jinja_tests.cpp
bool is_filter(std::string_view name);
bool is_test(std::string_view name);
Value run_filter(Runtime& runtime, std::string_view name, const Value& value, Args& args);
bool run_test(Runtime& runtime, std::string_view name, const Value& value, Args& args);

// jinja_globals.cpp: range, dict, namespace, cycler, joiner, raise_exception, strftime_now.
std::optional<Value> global(Runtime& runtime, std::string_view name, const Value& now);

}  // namespace fathom::jinja
