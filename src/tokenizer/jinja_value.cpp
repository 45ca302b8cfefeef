#include "tokenizer/jinja_value.h"

#include <algorithm>

#include "tokenizer/jinja_runtime.h"

namespace fathom::jinja {

const Value* Dict::find(std::string_view key) const {
  for (const auto& [k, v] : items) {
    if (k.is_string() && k.string() == key) return &v;
  }
  return nullptr;
}

const Value* Namespace::find(std::string_view name) const {
  for (const auto& [k, v] : attributes) {
    if (k == name) return &v;
  }
  return nullptr;
}

void Namespace::set(std::string_view name, Value value) {
  for (auto& [k, v] : attributes) {
    if (k == name) {
      v = std::move(value);
      return;
    }
  }
  attributes.emplace_back(std::string(name), std::move(value));
}

Value Object::call(Runtime& runtime, Args& /*args*/) {
  runtime.error("{} is not callable", repr());
}

std::optional<Value> Object::attribute(Runtime& /*runtime*/, std::string_view /*name*/) {
  return std::nullopt;
}

std::string type_name(const Value& value) {
  switch (value.kind()) {
    case Kind::Undefined:
      return "Undefined";
    case Kind::None:
      return "NoneType";
    case Kind::Bool:
      return "bool";
    case Kind::Integer:
      return "int";
    case Kind::Float:
      return "float";
    case Kind::String:
      return value.is_safe() ? "Markup" : "str";
    case Kind::Dict:
      return "dict";
    case Kind::Namespace:
      return "Namespace";
    case Kind::Object:
      return "object";
    case Kind::Sequence:
      break;
  }
  switch (value.sequence().form) {
    case Sequence::Form::List:
      return "list";
    case Sequence::Form::Tuple:
      return "tuple";
    case Sequence::Form::Range:
      return "range";
    case Sequence::Form::Keys:
      return "dict_keys";
    case Sequence::Form::Values:
      return "dict_values";
    case Sequence::Form::Items:
      return "dict_items";
    case Sequence::Form::Iterator:
      return value.sequence().type_name;
  }
  return "object";
}

bool truthy(const Value& value) {
  switch (value.kind()) {
    case Kind::Undefined:
    case Kind::None:
      return false;
    case Kind::Bool:
      return value.boolean();
    case Kind::Integer:
      return value.integer() != 0;
    case Kind::Float:
      return value.real() != 0;
    case Kind::String:
      return !value.string().empty();
    case Kind::Sequence:
      return !value.sequence().has_length() || !value.sequence().items.empty();
    case Kind::Dict:
      return !value.dict().items.empty();
    case Kind::Namespace:
    case Kind::Object:
      return true;
  }
  return false;
}

uint32_t depth_of(const Value& value) {
  if (value.is_sequence()) return value.sequence().depth;
  if (value.is_dict()) return value.dict().depth;
  if (value.kind() == Kind::Object) return value.object().depth;
  return 0;
}

}  // namespace fathom::jinja
