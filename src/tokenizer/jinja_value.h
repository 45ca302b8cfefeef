// The values a chat template computes with: Python's, as far as templates can reach them.
//
// Containers are immutable once built, as transformers' sandbox makes them; only a namespace can
// change, and the interpreter owns every namespace. Values share their storage by reference count.
// A container knows how deep it nests, and that depth is bounded, so every walk over a value
// (print, compare, destroy) has bounded recursion.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace fathom::jinja {

/// Python's int. 128 bits hold every number JSON can bring (to 2^64); past them is an error.
__extension__ typedef __int128 Int;

class Runtime;
class Value;
struct Dict;
struct Sequence;
struct Namespace;
class Object;

/// A share of a rendering's memory budget, given back when its owner dies. A copy has no share.
class Charge {
 public:
  Charge() = default;
  Charge(size_t& live, size_t bytes) { grow(live, bytes); }
  Charge(const Charge& /*other*/) {}
  Charge& operator=(const Charge&) = delete;
  Charge& operator=(Charge&& other) noexcept {
    std::swap(live_, other.live_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Charge() {
    if (live_ != nullptr) *live_ -= bytes_;
  }
  void grow(size_t& live, size_t bytes) {
    live_ = &live;
    bytes_ += bytes;
    live += bytes;
  }

 private:
  size_t* live_ = nullptr;  // the Runtime's count, which outlives every value
  size_t bytes_ = 0;
};

/// The arguments of a call to a macro, a method, a filter or a test.
struct Args {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> keyword;
};

/// A name or attribute that does not exist; `why` is the message should the template insist on it.
struct Undefined {
  std::shared_ptr<const std::string> why;
};

struct String {
  std::shared_ptr<const std::string> text;
  bool safe = false;  // marked by `|safe`: adding to it escapes the other side (markupsafe.Markup)
};

enum class Kind : uint8_t {
  Undefined,
  None,
  Bool,
  Integer,
  Float,
  String,
  Sequence,  // list, tuple, range, dict view or iterator: see Sequence::Form
  Dict,
  Namespace,  // namespace(...): the one mutable thing
  Object,     // macro, function, method, loop, cycler, joiner
};

class Value {
 public:
  Value() : data_(Undefined{}) {}
  explicit Value(Undefined undefined) : data_(std::move(undefined)) {}
  explicit Value(std::nullptr_t) : data_(nullptr) {}
  explicit Value(bool b) : data_(b) {}
  explicit Value(Int i) : data_(i) {}
  explicit Value(double d) : data_(d) {}
  explicit Value(String s) : data_(std::move(s)) {}
  explicit Value(std::shared_ptr<const Sequence> s) : data_(std::move(s)) {}
  explicit Value(std::shared_ptr<const Dict> d) : data_(std::move(d)) {}
  explicit Value(std::shared_ptr<Namespace> n) : data_(std::move(n)) {}
  explicit Value(std::shared_ptr<Object> o) : data_(std::move(o)) {}

  Kind kind() const { return static_cast<Kind>(data_.index()); }
  bool is_undefined() const { return kind() == Kind::Undefined; }
  bool is_none() const { return kind() == Kind::None; }
  bool is_string() const { return kind() == Kind::String; }
  bool is_dict() const { return kind() == Kind::Dict; }
  bool is_sequence() const { return kind() == Kind::Sequence; }
  /// Python's bool is an int: both count here.
  bool is_integral() const { return kind() == Kind::Integer || kind() == Kind::Bool; }
  bool is_number() const { return is_integral() || kind() == Kind::Float; }

  const Undefined& undefined() const { return std::get<Undefined>(data_); }
  bool boolean() const { return std::get<bool>(data_); }
  /// Of an Int or a Bool.
  Int integer() const { return kind() == Kind::Bool ? Int{boolean()} : std::get<Int>(data_); }
  double real() const { return std::get<double>(data_); }
  /// Any number as a double.
  double number() const { return kind() == Kind::Float ? real() : static_cast<double>(integer()); }
  const std::string& string() const { return *std::get<String>(data_).text; }
  bool is_safe() const { return is_string() && std::get<String>(data_).safe; }
  const Sequence& sequence() const { return *std::get<std::shared_ptr<const Sequence>>(data_); }
  const std::shared_ptr<const Sequence>& sequence_ref() const {
    return std::get<std::shared_ptr<const Sequence>>(data_);
  }
  const Dict& dict() const { return *std::get<std::shared_ptr<const Dict>>(data_); }
  const std::shared_ptr<const Dict>& dict_ref() const {
    return std::get<std::shared_ptr<const Dict>>(data_);
  }
  Namespace& space() const { return *std::get<std::shared_ptr<Namespace>>(data_); }
  Object& object() const { return *std::get<std::shared_ptr<Object>>(data_); }

 private:
  // In the order of Kind.
  std::variant<Undefined, std::nullptr_t, bool, Int, double, String,
               std::shared_ptr<const Sequence>, std::shared_ptr<const Dict>,
               std::shared_ptr<Namespace>, std::shared_ptr<Object>>
      data_;
};

/// Everything one can iterate over by position.
struct Sequence {
  enum class Form : uint8_t {
    List,
    Tuple,
    Range,     // range(...)
    Keys,      // dict.keys()
    Values,    // dict.values()
    Items,     // dict.items()
    Iterator,  // what map, select, reverse, items, ... give: consumed once, no length, always true
  };
  Form form = Form::List;
  uint32_t depth = 1;  // 1 + the deepest item's
  std::vector<Value> items;
  mutable size_t next = 0;     // Iterator: the first item not consumed yet
  const char* type_name = "";  // Iterator: Python's name of its type
  bool is_group = false;       // Tuple: of groupby, with the names "grouper" and "list"
  Int range[3] = {0, 0, 1};    // Range: start, stop, step
  Charge charge;

  /// Python gives it len(), indices and a truth value; an Iterator has none of them.
  bool has_length() const { return form != Form::Iterator; }
  bool has_index() const {
    return form == Form::List || form == Form::Tuple || form == Form::Range;
  }
};

/// An insertion-ordered dict. Lookups are linear: template dicts are small, and each lookup is
/// charged to the step budget.
struct Dict {
  uint32_t depth = 1;
  std::vector<std::pair<Value, Value>> items;
  Charge charge;

  const Value* find(std::string_view key) const;
};

struct Namespace {
  std::vector<std::pair<std::string, Value>> attributes;
  Charge charge;

  const Value* find(std::string_view name) const;
  void set(std::string_view name, Value value);
};

/// A thing with behaviour: it may be callable and may have attributes.
class Object {
 public:
  virtual ~Object() = default;
  virtual std::string repr() const = 0;
  virtual bool callable() const { return true; }
  virtual Value call(Runtime& runtime, Args& args);
  /// The attribute, or nothing if there is none of this name.
  virtual std::optional<Value> attribute(Runtime& runtime, std::string_view name);

  uint32_t depth = 1;  // 1 + the deepest value it holds; set by Runtime::make
  Charge charge;
};

/// Python's name of the value's type, as its error messages spell it: "str", "NoneType", ...
std::string type_name(const Value& value);

bool truthy(const Value& value);
uint32_t depth_of(const Value& value);

}  // namespace fathom::jinja
