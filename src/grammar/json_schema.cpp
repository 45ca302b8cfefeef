#include "grammar/json_schema.h"

#include <algorithm>
#include <deque>
#include <map>
#include <set>
#include <string>

#include "base/error.h"
#include "grammar/json_text.h"
#include "grammar/number_range.h"
#include "grammar/regex.h"
#include "grammar/schema_merge.h"
#include "grammar/string_formats.h"

namespace fathom::grammar {
namespace {

using Expr = Builder::Expr;

/// Keywords that would change what is valid and that no grammar here keeps to, whatever the type.
constexpr const char* kRefused[] = {"not",     "if",       "dependentSchemas", "$dynamicRef",
                                    "extends", "disallow", "$recursiveRef"};
constexpr const char* kRefusedOfObjects[] = {"patternProperties", "propertyNames",
                                             "dependentRequired", "dependencies"};
constexpr const char* kRefusedOfArrays[] = {"contains", "minContains", "maxContains",
                                            "unevaluatedItems"};

class Compiler {
 public:
  Compiler(JsonText& text, const Json& root) : root_(root), b_(text.builder()), text_(text) {}

  Expr run(const std::string& name) { return schema(root_, name); }

 private:
  static constexpr int kMostDepth = 150;
  static constexpr std::size_t kMostMerges = 5000;

  [[noreturn]] static void refuse(const std::string& path, const std::string& keyword) {
    fail(ErrorCode::Unsupported, "{}: the schema's keyword {} is not supported", path, keyword);
  }

  Expr nothing() { return b_.bytes({}); }

  Expr schema(const Json& s, const std::string& path) {
    if (s.is_boolean()) return s.get<bool>() ? text_.value() : nothing();
    require(s.is_object(), ErrorCode::InvalidArgument, "{}: {} is no schema", path, s.dump());
    const auto known = rules_.find(&s);
    if (known != rules_.end()) return b_.use(known->second);
    const Builder::Rule rule = b_.declare(path);
    rules_.emplace(&s, rule);
    require(++depth_ < kMostDepth, ErrorCode::ResourceLimit, "{}: the schema nests deeper than {}",
            path, kMostDepth);
    b_.define(rule, body(s, path));
    --depth_;
    return b_.use(rule);
  }

  /// A schema made here, which lives as long as the rules that stand for it.
  Expr made(Json s, const std::string& path) {
    require(++merges_ < kMostMerges, ErrorCode::ResourceLimit,
            "the schema combines too many others");
    owned_.push_back(std::move(s));
    return schema(owned_.back(), path);
  }

  static bool asserts(const Json& s) {
    return std::ranges::any_of(s.items(),
                               [](const auto& item) { return !is_annotation(item.key()); });
  }

  Expr body(const Json& s, const std::string& path) {
    for (const char* word : kRefused) {
      if (s.contains(word)) refuse(path, word);
    }
    require(!s.contains("$id") || &s == &root_ || !s.at("$id").is_string(), ErrorCode::Unsupported,
            "{}: an $id within the schema is not supported", path);
    if (s.contains("$ref")) {
      const Json& target = resolve(s.at("$ref"), path);
      const Json rest = without(s, "$ref");
      if (!asserts(rest)) return schema(target, path);
      return made(merged(rest, target, path), path);
    }
    if (s.contains("allOf")) {
      Json all = without(s, "allOf");
      require(s.at("allOf").is_array(), ErrorCode::InvalidArgument, "{}: allOf is no list", path);
      for (const Json& one : s.at("allOf")) all = merged(all, one, path);
      return made(std::move(all), path);
    }
    for (const char* word : {"anyOf", "oneOf"}) {
      if (s.contains(word)) return any_of(s, word, path);
    }
    if (s.contains("const") || s.contains("enum")) return one_of_values(s, path);
    return of_types(s, path);
  }

  static Json without(const Json& s, const char* word) {
    Json rest = Json::object();
    for (const auto& [key, value] : s.items()) {
      if (key != word) rest[key] = value;
    }
    return rest;
  }

  const Json& resolve(const Json& ref, const std::string& path) const {
    require(ref.is_string(), ErrorCode::InvalidArgument, "{}: $ref is no string", path);
    std::string at = ref.get<std::string>();
    if (at == "#") return root_;
    require(at.starts_with("#/"), ErrorCode::Unsupported,
            "{}: $ref '{}' does not begin with #/: only what is in this schema can be used", path,
            at);
    // Percent signs as in an address (RFC 6901, section 6).
    std::string pointer;
    for (std::size_t i = 1; i < at.size(); ++i) {
      const auto digit = [&](std::size_t k) {
        return k < at.size() && std::isxdigit(static_cast<unsigned char>(at[k])) != 0;
      };
      if (at[i] == '%' && digit(i + 1) && digit(i + 2)) {
        pointer += static_cast<char>(std::stoi(at.substr(i + 1, 2), nullptr, 16));
        i += 2;
      } else {
        pointer += at[i];
      }
    }
    try {
      const Json::json_pointer where(pointer);
      require(root_.contains(where), ErrorCode::InvalidArgument, "{}: $ref '{}' leads nowhere",
              path, at);
      return root_.at(where);
    } catch (const Json::exception&) {
      fail(ErrorCode::InvalidArgument, "{}: $ref '{}' leads nowhere", path, at);
    }
  }

  Expr any_of(const Json& s, const char* word, const std::string& path) {
    const Json& list = s.at(word);
    require(list.is_array() && !list.empty(), ErrorCode::InvalidArgument,
            "{}: {} is no list of schemas", path, word);
    if (word == std::string("oneOf")) {
      for (std::size_t i = 0; i < list.size(); ++i) {
        for (std::size_t k = 0; k < i; ++k) {
          require(
              disjoint(list[k], list[i], path, 0), ErrorCode::Unsupported,
              "{}: what satisfies one schema of oneOf may satisfy another: not supported; anyOf "
              "is",
              path);
        }
      }
    }
    const Json rest = without(s, word);
    const bool alone = !asserts(rest);
    std::vector<Expr> options;
    for (std::size_t i = 0; i < list.size(); ++i) {
      const std::string where = path + "/" + word + "/" + std::to_string(i);
      options.push_back(alone ? schema(list[i], where) : made(merged(rest, list[i], where), where));
    }
    return b_.choice(std::move(options));
  }

  /// That no value satisfies both is certain.
  bool disjoint(const Json& a, const Json& b, const std::string& path, int depth) const {
    if (a == false || b == false) return true;
    if (!a.is_object() || !b.is_object() || depth > 10) return false;
    if (a.contains("$ref")) return disjoint(resolve(a.at("$ref"), path), b, path, depth + 1);
    if (b.contains("$ref")) return disjoint(a, resolve(b.at("$ref"), path), path, depth + 1);
    const auto types = [&](const Json& s) {
      unsigned bits = s.contains("type") ? type_bits(s.at("type"), path) : unsigned{kAllTypes};
      if (s.contains("const")) bits &= type_of_value(s.at("const"));
      return bits;
    };
    const unsigned common = types(a) & types(b);
    if (common == 0) return true;
    const auto values = [](const Json& s) {
      return s.contains("const")                             ? Json::array({s.at("const")})
             : s.contains("enum") && s.at("enum").is_array() ? s.at("enum")
                                                             : Json();
    };
    const Json of_a = values(a);
    const Json of_b = values(b);
    if (of_a.is_array() && of_b.is_array()) {
      return std::ranges::none_of(
          of_a, [&](const Json& x) { return std::ranges::find(of_b, x) != of_b.end(); });
    }
    // Objects that must both have a member whose schemas are apart.
    if (common != kObject) return false;
    const auto member = [](const Json& s, const std::string& name) -> const Json* {
      const bool has = s.contains("required") && s.at("required").is_array() &&
                       std::ranges::find(s.at("required"), Json(name)) != s.at("required").end() &&
                       s.contains("properties") && s.at("properties").contains(name);
      return has ? &s.at("properties").at(name) : nullptr;
    };
    if (!a.contains("properties") || !a.at("properties").is_object()) return false;
    for (const auto& [name, unused] : a.at("properties").items()) {
      const Json* x = member(a, name);
      const Json* y = member(b, name);
      if (x != nullptr && y != nullptr && disjoint(*x, *y, path, depth + 1)) return true;
    }
    return false;
  }

  // ---- values that are listed ---------------------------------------------------------------

  Expr one_of_values(const Json& s, const std::string& path) {
    Json values = s.contains("enum") ? s.at("enum") : Json::array({s.at("const")});
    require(values.is_array(), ErrorCode::InvalidArgument, "{}: enum is no list", path);
    if (s.contains("enum") && s.contains("const")) {
      values = std::ranges::find(values, s.at("const")) != values.end()
                   ? Json::array({s.at("const")})
                   : Json::array();
    }
    std::vector<Expr> options{nothing()};
    for (const Json& value : values) {
      if (satisfies(value, s, path)) options.push_back(literal(value));
    }
    return b_.choice(std::move(options));
  }

  /// Of a listed value, what else its schema says.
  bool satisfies(const Json& value, const Json& s, const std::string& path) const {
    const unsigned type = type_of_value(value);
    if (s.contains("type") && (type_bits(s.at("type"), path) & type) == 0) return false;
    const auto refuse_any = [&](std::initializer_list<const char*> words) {
      for (const char* word : words) {
        if (s.contains(word)) {
          fail(ErrorCode::Unsupported, "{}: {} beside listed values is not supported", path, word);
        }
      }
    };
    if (type == kString) {
      refuse_any({"pattern"});
      const auto text = value.get<std::string>();
      const auto length = static_cast<double>(std::ranges::count_if(
          text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80; }));
      return !(s.contains("minLength") && length < number(s, "minLength", path)) &&
             !(s.contains("maxLength") && length > number(s, "maxLength", path));
    }
    if ((type & (kInteger | kFraction)) != 0) {
      refuse_any({"multipleOf", "exclusiveMinimum", "exclusiveMaximum"});
      const auto x = value.get<double>();
      return !(s.contains("minimum") && x < number(s, "minimum", path)) &&
             !(s.contains("maximum") && x > number(s, "maximum", path));
    }
    if (type == kArray) {
      refuse_any({"items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains",
                  "additionalItems", "unevaluatedItems"});
    }
    if (type == kObject) {
      refuse_any({"properties", "required", "additionalProperties", "patternProperties",
                  "propertyNames", "minProperties", "maxProperties", "dependentRequired",
                  "dependencies", "unevaluatedProperties"});
    }
    return true;
  }

  static double number(const Json& s, const char* word, const std::string& path) {
    require(s.at(word).is_number(), ErrorCode::InvalidArgument, "{}: {} is no number", path, word);
    return s.at(word).get<double>();
  }

  Expr literal(const Json& value) {
    if (value.is_array()) {
      std::vector<Expr> items;
      for (const Json& each : value) items.push_back(literal(each));
      const auto count = static_cast<std::uint32_t>(items.size());
      return text_.array_of(items, std::nullopt, count, count);
    }
    if (value.is_object()) {
      std::vector<JsonText::Member> members;
      for (const auto& [name, each] : value.items()) {
        members.push_back({text_.member(text_.quoted(name), literal(each)), true});
      }
      return text_.object_of(members, std::nullopt);
    }
    return b_.literal(value.dump());
  }

  // ---- types --------------------------------------------------------------------------------

  Expr of_types(const Json& s, const std::string& path) {
    unsigned types = kAllTypes;
    if (s.contains("type")) {
      types = type_bits(s.at("type"), path);
      // As OpenAPI has it.
      if (s.contains("nullable") && s.at("nullable") == true) types |= kNull;
    } else {
      // Keywords of one type alone: that type is meant. (Others would be valid too.)
      const auto has = [&](std::initializer_list<const char*> words) {
        return std::ranges::any_of(words, [&](const char* word) { return s.contains(word); });
      };
      unsigned meant = 0;
      if (has({"properties", "required", "additionalProperties", "patternProperties"})) {
        meant |= kObject;
      }
      if (has({"items", "prefixItems", "minItems", "maxItems"})) meant |= kArray;
      if (has({"minLength", "maxLength", "pattern"})) meant |= kString;
      if (has({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})) {
        meant |= kInteger | kFraction;
      }
      if (meant != 0) types = meant;
    }
    std::vector<Expr> options{nothing()};
    if ((types & kObject) != 0) options.push_back(object(s, path));
    if ((types & kArray) != 0) options.push_back(array(s, path));
    if ((types & kString) != 0) options.push_back(string(s, path));
    if ((types & (kInteger | kFraction)) != 0) {
      options.push_back(numeric(s, (types & kFraction) == 0, path));
    }
    if ((types & kBoolean) != 0) options.push_back(text_.boolean());
    if ((types & kNull) != 0) options.push_back(text_.null());
    return b_.choice(std::move(options));
  }

  std::optional<std::uint32_t> count(const Json& s, const char* word, const std::string& path) {
    if (!s.contains(word)) return std::nullopt;
    const double n = number(s, word, path);
    require(n >= 0 && n == static_cast<double>(static_cast<std::int64_t>(std::min(n, 1e15))),
            ErrorCode::InvalidArgument, "{}: {} is {}, no count", path, word, s.at(word).dump());
    return static_cast<std::uint32_t>(std::min(n, 1e9));
  }

  Expr string(const Json& s, const std::string& path) {
    const auto least = count(s, "minLength", path);
    const auto most = count(s, "maxLength", path);
    if (s.contains("pattern")) {
      require(!least && !most, ErrorCode::Unsupported,
              "{}: pattern together with minLength or maxLength is not supported", path);
      require(s.at("pattern").is_string(), ErrorCode::InvalidArgument, "{}: pattern is no string",
              path);
      return string_matching(text_, s.at("pattern").get_ref<const std::string&>());
    }
    if (s.contains("format") && s.at("format").is_string() && !least && !most) {
      const char* pattern = pattern_of_format(s.at("format").get_ref<const std::string&>());
      if (pattern != nullptr) return string_matching(text_, pattern);
    }
    if (!least && !most) return text_.string();
    if (least.value_or(0) > most.value_or(kUnbounded)) return nothing();
    return text_.string_of(least.value_or(0), most.value_or(kUnbounded));
  }

  Expr numeric(const Json& s, bool integer, const std::string& path) {
    NumberBounds bounds;
    if (s.contains("multipleOf")) {
      if (number(s, "multipleOf", path) == 1) {
        integer = true;
      } else {
        bounds.multiple_of = s.at("multipleOf");
      }
    }
    bounds.integer = integer;
    using Bound = std::optional<NumberBounds::Bound>;
    const auto read = [&](const char* inclusive, const char* exclusive, Bound& to, bool low) {
      if (s.contains(inclusive)) {
        number(s, inclusive, path);
        // Draft 4 says by a boolean that the bound is exclusive.
        to = {s.at(inclusive), s.contains(exclusive) && s.at(exclusive) == true};
      }
      if (!s.contains(exclusive) || s.at(exclusive).is_boolean()) return;
      const double x = number(s, exclusive, path);
      const bool tighter =
          !to || (low ? x >= to->value.get<double>() : x <= to->value.get<double>());
      if (tighter) to = {s.at(exclusive), true};
    };
    read("minimum", "exclusiveMinimum", bounds.low, true);
    read("maximum", "exclusiveMaximum", bounds.high, false);
    if (bounds.low || bounds.high || bounds.multiple_of) return number_range(b_, bounds);
    return integer ? text_.integer() : text_.number();
  }

  Expr object(const Json& s, const std::string& path) {
    for (const char* word : kRefusedOfObjects) {
      if (s.contains(word) && !s.at(word).empty()) refuse(path, word);
    }
    const Json none = Json::object();
    const Json& properties = s.contains("properties") ? s.at("properties") : none;
    require(properties.is_object(), ErrorCode::InvalidArgument, "{}: properties is no object",
            path);
    std::set<std::string> required;
    if (s.contains("required") && s.at("required").is_array()) {
      for (const Json& name : s.at("required")) {
        require(name.is_string(), ErrorCode::InvalidArgument, "{}: required holds {}, no name",
                path, name.dump());
        required.insert(name.get<std::string>());
      }
    }
    const char* more_word = s.contains("additionalProperties")    ? "additionalProperties"
                            : s.contains("unevaluatedProperties") ? "unevaluatedProperties"
                                                                  : nullptr;
    const Json* more = more_word == nullptr ? nullptr : &s.at(more_word);

    std::vector<JsonText::Member> members;
    std::vector<std::string> names;
    const auto add = [&](const std::string& name, Expr value, bool needed) {
      members.push_back({text_.member(text_.quoted(name), value), needed});
      names.push_back(name);
      require(name.size() <= 1000, ErrorCode::ResourceLimit, "{}: a property's name is too long",
              path);
    };
    for (const auto& [name, value] : properties.items()) {
      add(name, schema(value, path + "/properties/" + name), required.contains(name));
      required.erase(name);
    }
    for (const std::string& name : required) {  // that no property describes
      const Expr value = more == nullptr ? text_.value() : schema(*more, path + "/" + more_word);
      add(name, value, true);
    }
    std::optional<Expr> others;
    const bool open = more == nullptr ? properties.empty() : *more != false;
    if (open) {
      const Expr value = more == nullptr ? text_.value() : schema(*more, path + "/" + more_word);
      const Expr name = names.empty() ? text_.string() : text_.string_but(names);
      others = text_.member(name, value);
    }
    const auto needed = static_cast<std::size_t>(
        std::ranges::count_if(members, [](const JsonText::Member& m) { return m.required; }));
    if (const auto least = count(s, "minProperties", path); least && *least > needed) {
      refuse(path, "minProperties");
    }
    if (const auto most = count(s, "maxProperties", path);
        most && (others || *most < members.size())) {
      refuse(path, "maxProperties");
    }
    return text_.object_of(members, others);
  }

  Expr array(const Json& s, const std::string& path) {
    for (const char* word : kRefusedOfArrays) {
      if (s.contains(word)) refuse(path, word);
    }
    const std::uint32_t least = count(s, "minItems", path).value_or(0);
    const std::uint32_t most = count(s, "maxItems", path).value_or(kUnbounded);
    if (s.contains("uniqueItems") && s.at("uniqueItems") == true && most > 1) {
      refuse(path, "uniqueItems");
    }
    if (least > most) return nothing();
    const bool old_tuple = s.contains("items") && s.at("items").is_array();
    const char* tuple_word = old_tuple ? "items" : "prefixItems";
    std::vector<Expr> first;
    if (s.contains(tuple_word)) {
      require(s.at(tuple_word).is_array(), ErrorCode::InvalidArgument, "{}: {} is no list", path,
              tuple_word);
      for (std::size_t i = 0; i < s.at(tuple_word).size(); ++i) {
        first.push_back(
            schema(s.at(tuple_word)[i], path + "/" + tuple_word + "/" + std::to_string(i)));
      }
    }
    const char* more_word = old_tuple ? "additionalItems" : "items";
    std::optional<Expr> more;
    if (s.contains(more_word)) {
      if (s.at(more_word) != false) more = schema(s.at(more_word), path + "/" + more_word);
    } else {
      more = text_.value();
    }
    return text_.array_of(first, more, least, most);
  }

  const Json& root_;
  Builder& b_;
  JsonText& text_;
  std::map<const Json*, Builder::Rule> rules_;
  std::deque<Json> owned_;
  std::size_t merges_ = 0;
  int depth_ = 0;
};

}  // namespace

Expr json_schema_expr(JsonText& json, const Json& schema, const std::string& name) {
  return Compiler(json, schema).run(name);
}

std::shared_ptr<const Grammar> json_schema_grammar(const Json& schema) {
  Builder b;
  JsonText text(b);
  const Builder::Rule whole = b.declare("#");
  b.define(whole, json_schema_expr(text, schema, "#"));
  return b.compile(whole);
}

std::shared_ptr<const Grammar> json_object_grammar() {
  Builder b;
  JsonText text(b);
  const Builder::Rule whole = b.declare("object");
  b.define(whole, text.object());
  return b.compile(whole);
}

}  // namespace fathom::grammar
