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
#include "grammar/schema_keywords.h"
#include "grammar/schema_merge.h"
#include "grammar/text_set.h"

namespace fathom::grammar {
namespace {

using Expr = Builder::Expr;

/// Keywords that would change what is valid and that no grammar here keeps to, whatever the type.
constexpr const char* kRefused[] = {"not",     "if",       "dependentSchemas", "$dynamicRef",
                                    "extends", "disallow", "$recursiveRef"};
constexpr const char* kRefusedOfObjects[] = {"dependentRequired", "dependencies"};
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
      const auto of_reference = [&](const Json& ref) -> const Json& { return resolve(ref, path); };
      for (std::size_t i = 0; i < list.size(); ++i) {
        for (std::size_t k = 0; k < i; ++k) {
          require(
              disjoint(list[k], list[i], of_reference, path), ErrorCode::Unsupported,
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
  bool satisfies(const Json& value, const Json& s, const std::string& path) {
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
      TextConditions all = text_conditions(s, path);
      if (!s.contains("pattern")) all.patterns.clear();  // a format is taken at the list's word
      return grammar::satisfies(value.get<std::string>(), all, text_work_);
    }
    if ((type & (kInteger | kFraction)) != 0) {
      refuse_any({"multipleOf", "exclusiveMinimum", "exclusiveMaximum"});
      const auto x = value.get<double>();
      return !(s.contains("minimum") && x < number_of(s, "minimum", path)) &&
             !(s.contains("maximum") && x > number_of(s, "maximum", path));
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
      if (has({"properties", "required", "additionalProperties", "patternProperties",
               "propertyNames"})) {
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

  Expr string(const Json& s, const std::string& path) {
    const TextConditions all = text_conditions(s, path);
    if (all.least > all.most) return nothing();
    const bool bounded = all.least > 0 || all.most != kUnbounded;
    if (all.patterns.empty()) {
      return bounded ? text_.string_of(all.least, all.most) : text_.string();
    }
    return bounded ? string_of(text_, all, text_work_)
                   : string_matching(text_, all.patterns.front());
  }

  Expr numeric(const Json& s, bool integer, const std::string& path) {
    NumberBounds bounds;
    if (s.contains("multipleOf")) {
      if (number_of(s, "multipleOf", path) == 1) {
        integer = true;
      } else {
        bounds.multiple_of = s.at("multipleOf");
      }
    }
    bounds.integer = integer;
    using Bound = std::optional<NumberBounds::Bound>;
    const auto read = [&](const char* inclusive, const char* exclusive, Bound& to, bool low) {
      if (s.contains(inclusive)) {
        number_of(s, inclusive, path);
        // Draft 4 says by a boolean that the bound is exclusive.
        to = {s.at(inclusive), s.contains(exclusive) && s.at(exclusive) == true};
      }
      if (!s.contains(exclusive) || s.at(exclusive).is_boolean()) return;
      const double x = number_of(s, exclusive, path);
      const bool tighter =
          !to || (low ? x >= to->value.get<double>() : x <= to->value.get<double>());
      if (tighter) to = {s.at(exclusive), true};
    };
    read("minimum", "exclusiveMinimum", bounds.low, true);
    read("maximum", "exclusiveMaximum", bounds.high, false);
    if (bounds.low || bounds.high || bounds.multiple_of) return number_range(b_, bounds);
    return integer ? text_.integer() : text_.number();
  }

  /// A value that satisfies all of them.
  Expr of_all(const std::vector<const Json*>& schemas, const std::string& path) {
    if (schemas.size() == 1) return schema(*schemas[0], path);
    Json all = *schemas[0];
    for (std::size_t i = 1; i < schemas.size(); ++i) all = merged(all, *schemas[i], path);
    return made(std::move(all), path);
  }
  /// Of a name that `properties` lists.
  Expr value_of(const std::string& name, const Json& own, const std::string& own_path,
                const NameRules& rule, const std::string& path) {
    if (rule.none()) return schema(own, own_path);
    if (!rule.allow(name, text_work_)) return nothing();
    std::vector<const Json*> schemas = rule.called_for(name, text_work_);
    schemas.insert(schemas.begin(), &own);
    return of_all(schemas, schemas.size() == 1 ? own_path : path);
  }
  /// Of one that it does not.
  Expr other_value_of(const std::string& name, const Json& more, const std::string& more_path,
                      const NameRules& rule, const std::string& path) {
    if (rule.none()) return schema(more, more_path);
    if (!rule.allow(name, text_work_)) return nothing();
    const std::vector<const Json*> schemas = rule.called_for(name, text_work_);
    return schemas.empty() ? schema(more, more_path) : of_all(schemas, path);
  }
  /// Members with other names than these. `more`: what those without a pattern are, if there are
  /// any.
  std::optional<Expr> other_members(const std::vector<std::string>& names, const Json* more,
                                    const std::string& more_path, const NameRules& rule,
                                    const std::string& path) {
    if (rule.none()) {
      if (more == nullptr) return std::nullopt;
      const Expr name = names.empty() ? text_.string() : text_.string_but(names);
      return text_.member(name, schema(*more, more_path));
    }
    std::vector<Expr> options;
    const std::size_t patterns = rule.patterns.size();
    // Names by the patterns that they match, each set of patterns for itself.
    for (unsigned set = more == nullptr ? 1 : 0; set < 1U << patterns; ++set) {
      TextConditions conditions = rule.all;
      conditions.taken = names;
      std::vector<const Json*> schemas;
      for (std::size_t i = 0; i < patterns; ++i) {
        const bool in = (set >> i & 1U) != 0;
        (in ? conditions.patterns : conditions.excluded).push_back(rule.patterns[i].text);
        if (in) schemas.push_back(rule.patterns[i].schema);
      }
      const Expr value = set == 0 ? schema(*more, more_path) : of_all(schemas, path);
      options.push_back(text_.member(string_of(text_, conditions, text_work_), value));
    }
    if (options.empty()) return std::nullopt;
    return b_.choice(std::move(options));
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
    const NameRules rule = name_rules(s, path);
    const char* more_word = s.contains("additionalProperties")    ? "additionalProperties"
                            : s.contains("unevaluatedProperties") ? "unevaluatedProperties"
                                                                  : nullptr;
    const Json any = true;
    const Json& more = more_word == nullptr ? any : s.at(more_word);
    const std::string more_path = more_word == nullptr ? path : path + "/" + more_word;

    std::vector<JsonText::Member> members;
    std::vector<std::string> names;
    const auto add = [&](const std::string& name, Expr value, bool needed) {
      members.push_back({text_.member(text_.quoted(name), value), needed});
      names.push_back(name);
      require(name.size() <= 1000, ErrorCode::ResourceLimit, "{}: a property's name is too long",
              path);
    };
    for (const auto& [name, value] : properties.items()) {
      const bool needed = required.erase(name) > 0;
      add(name, value_of(name, value, path + "/properties/" + name, rule, path), needed);
    }
    // That no property describes: what must be there, and what may.
    const auto add_other = [&](const std::string& name, bool needed) {
      add(name, other_value_of(name, more, more_path, rule, path), needed);
    };
    for (const std::string& name : required) add_other(name, true);
    for (const std::string& name : rule.listed.value_or(std::vector<std::string>{})) {
      if (!properties.contains(name) && !required.contains(name)) add_other(name, false);
    }
    std::optional<Expr> others;
    if (!rule.listed) {
      const bool closed = !properties.empty() || !rule.patterns.empty();
      const bool open = more_word == nullptr ? !closed : more != false;
      others = other_members(names, open ? &more : nullptr, more_path, rule, path);
    }
    const auto needed = static_cast<std::size_t>(
        std::ranges::count_if(members, [](const JsonText::Member& m) { return m.required; }));
    if (const auto least = count_of(s, "minProperties", path); least && *least > needed) {
      refuse(path, "minProperties");
    }
    if (const auto most = count_of(s, "maxProperties", path);
        most && (others || *most < members.size())) {
      refuse(path, "maxProperties");
    }
    return text_.object_of(members, others);
  }

  Expr array(const Json& s, const std::string& path) {
    for (const char* word : kRefusedOfArrays) {
      if (s.contains(word)) refuse(path, word);
    }
    const std::uint32_t least = count_of(s, "minItems", path).value_or(0);
    const std::uint32_t most = count_of(s, "maxItems", path).value_or(kUnbounded);
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
  TextWork text_work_;
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
