#include "server/filter.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/json_guard.h"
#include "server/fields.h"

namespace fathom::server {
namespace {

// ---- the file -----------------------------------------------------------------------------------

constexpr JsonLimits kFileLimits{
    .depth = 8, .string_bytes = std::size_t{1} << 20, .values = std::size_t{1} << 16};

/// JSON whose objects have each member once: of two, a reader would follow either.
Json parse_once(std::string_view text, const std::string& origin) {
  guard_json(text, kFileLimits, origin);
  std::vector<std::set<std::string>> open;
  const auto watch = [&](int, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start) open.emplace_back();
    if (event == Json::parse_event_t::object_end) open.pop_back();
    if (event == Json::parse_event_t::key) {
      const auto& name = parsed.get_ref<const std::string&>();
      require(open.back().insert(name).second, ErrorCode::InvalidArgument,
              "{}: the member '{}' stands twice in one object", origin, name);
    }
    return true;
  };
  try {
    return Json::parse(text, watch);
  } catch (const Json::exception& error) {
    fail(ErrorCode::InvalidArgument, "{}: no JSON: {}", origin, json_complaint(error.what()));
  }
}

/// An object of the file, whose members are all known.
class Members {
 public:
  Members(const Json& object, std::string place, std::vector<std::string> known)
      : object_(object), place_(std::move(place)) {
    require(object.is_object(), ErrorCode::InvalidArgument, "{}: expected an object, found {}",
            place_, object.type_name());
    for (const auto& [name, value] : object.items()) {
      require(std::ranges::find(known, name) != known.end(), ErrorCode::InvalidArgument,
              "{}: there is no member '{}'; there are {}", place_, name, fmt::join(known, ", "));
    }
  }

  const Json* find(const char* name) const {
    const auto found = object_.find(name);
    return found == object_.end() ? nullptr : &*found;
  }
  const Json& need(const char* name) const {
    const Json* found = find(name);
    require(found != nullptr, ErrorCode::InvalidArgument, "{}: '{}' is missing", place_, name);
    return *found;
  }
  const std::string& text(const Json& value, const char* name) const {
    expect(value.is_string(), value, name, "a string");
    return value.get_ref<const std::string&>();
  }
  void expect(bool right, const Json& value, const char* name, const char* wanted) const {
    require(right, ErrorCode::InvalidArgument, "{}: {}: expected {}, found {}", place_, name,
            wanted, value.dump());
  }
  const std::string& place() const { return place_; }
  void name_place(const std::string& name) { place_ += fmt::format(" '{}'", name); }

 private:
  const Json& object_;
  std::string place_;
};

bool is_name(std::string_view name) {
  return !name.empty() && name.size() <= 64 && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.';
  });
}

struct Applies {
  bool input = true, output = true;
};

Applies read_applies(const Members& rule) {
  const Json* list = rule.find("applies_to");
  if (list == nullptr) return {};
  Applies to{false, false};
  constexpr const char* kWanted = "a list of \"input\", \"output\" or both";
  rule.expect(list->is_array() && !list->empty(), *list, "applies_to", kWanted);
  for (const Json& one : *list) {
    rule.expect(one == "input" || one == "output", *list, "applies_to", kWanted);
    (one == "input" ? to.input : to.output) = true;
  }
  return to;
}

/// What rules and judges share.
FilterRule read_name(Members& rule) {
  FilterRule made;
  made.name = rule.text(rule.need("name"), "name");
  rule.expect(is_name(made.name), rule.need("name"), "name",
              "1 to 64 letters, digits, '_', '-' or '.'");
  rule.name_place(made.name);
  if (const Json* reason = rule.find("reason")) made.reason = rule.text(*reason, "reason");
  return made;
}

FilterRule read_rule(Members& rule) {
  FilterRule made = read_name(rule);
  bool ignore_case = false;
  if (const Json* value = rule.find("ignore_case")) {
    rule.expect(value->is_boolean(), *value, "ignore_case", "true or false");
    ignore_case = value->get<bool>();
  }
  const std::string& pattern = rule.text(rule.need("pattern"), "pattern");
  try {
    made.pattern = std::make_shared<grammar::TextPattern>(pattern, ignore_case);
  } catch (const Error& error) {
    fail(error.code(), "{}: {}", rule.place(), error.what());
  }
  return made;
}

JudgeRule read_judge(Members& judge) {
  JudgeRule made;
  made.rule = std::make_shared<const FilterRule>(read_name(judge));
  made.model = judge.text(judge.need("model"), "model");
  judge.expect(!made.model.empty(), judge.need("model"), "model", "a model's name or path");
  if (const Json* question = judge.find("question")) {
    made.question = judge.text(*question, "question");
    judge.expect(made.question.find("{text}") != std::string::npos, *question, "question",
                 "{text} in it, where the text is to stand");
  }
  const auto word = [&](const char* name, std::string& into) {
    const Json* value = judge.find(name);
    if (value == nullptr) return;
    into = judge.text(*value, name);
    const auto first = static_cast<unsigned char>(into.empty() ? ' ' : into[0]);
    judge.expect(first > ' ' && into.size() <= 64, *value, name, "a word");
  };
  word("flag_word", made.flag_word);
  word("pass_word", made.pass_word);
  require(made.flag_word[0] != made.pass_word[0], ErrorCode::InvalidArgument,
          "{}: flag_word '{}' and pass_word '{}' must differ in their first letter: a model may "
          "write no more than that in one token",
          judge.place(), made.flag_word, made.pass_word);
  if (const Json* value = judge.find("threshold")) {
    judge.expect(value->is_number() && *value > 0 && *value < 1, *value, "threshold",
                 "a number between 0 and 1");
    made.threshold = value->get<double>();
  }
  if (const Json* value = judge.find("every")) {
    judge.expect(value->is_number_unsigned() && *value >= 1 && *value <= 1'000'000, *value, "every",
                 "a number of bytes from 1 to 1000000");
    made.every = value->get<std::size_t>();
  }
  const Applies to = read_applies(judge);
  made.input = to.input;
  made.output = to.output;
  return made;
}

/// The members of the file called `name`; none if it is not there.
const Json& list_of(const Members& file, const char* name) {
  static const Json none = Json::array();
  const Json* list = file.find(name);
  if (list == nullptr) return none;
  file.expect(list->is_array() && !list->empty(), *list, name, "a list, of one at least");
  return *list;
}

}  // namespace

Filter Filter::parse(std::string_view json, const std::string& origin) {
  const Json file = parse_once(json, origin);
  const Members members(file, origin, {"rules", "judges"});
  const Json& rules = list_of(members, "rules");
  const Json& judges = list_of(members, "judges");
  require(!rules.empty() || !judges.empty(), ErrorCode::InvalidArgument,
          "{}: 'rules' is missing, and so is 'judges'", origin);
  Filter filter;
  std::set<std::string> names;
  const auto once = [&names](const Members& place, const std::string& name) {
    require(names.insert(name).second, ErrorCode::InvalidArgument, "{}: another rule has this name",
            place.place());
  };
  for (std::size_t i = 0; i < rules.size(); ++i) {
    Members rule(rules[i], fmt::format("{}: rules[{}]", origin, i),
                 {"name", "pattern", "applies_to", "ignore_case", "reason"});
    const auto made = std::make_shared<const FilterRule>(read_rule(rule));
    once(rule, made->name);
    const Applies to = read_applies(rule);
    if (to.input) filter.input_.push_back(made);
    if (to.output) filter.output_.push_back(made);
  }
  for (std::size_t i = 0; i < judges.size(); ++i) {
    Members judge(judges[i], fmt::format("{}: judges[{}]", origin, i),
                  {"name", "model", "question", "flag_word", "pass_word", "threshold", "applies_to",
                   "every", "reason"});
    filter.judges_.push_back(read_judge(judge));
    once(judge, filter.judges_.back().rule->name);
  }
  return filter;
}

// ---- texts --------------------------------------------------------------------------------------

namespace {

std::vector<RuleSearch> searches_of(const Filter::Rules& rules) {
  std::vector<RuleSearch> searches;
  for (const auto& rule : rules) searches.push_back({rule, grammar::TextSearch(rule->pattern)});
  return searches;
}

}  // namespace

Screen::Screen(const Filter::Rules& rules, Form form)
    : form_(form), searches_(searches_of(rules)) {}

void Screen::offer(const RuleSearch& search, const grammar::TextSearch::Match& match) {
  const bool sooner = caught_ && match.before && !match_.before;
  const bool earlier = caught_ && match.before == match_.before && match.begin < match_.begin;
  if (caught_ && !sooner && !earlier) return;
  caught_ = search.rule;
  match_ = match;
}

void Screen::step(std::uint8_t byte, std::uint64_t at) {
  for (RuleSearch& search : searches_) {
    if (const auto match = search.search.step(byte, at)) offer(search, *match);
  }
}

std::string Screen::push(std::string_view text) {
  if (caught_) return {};
  for (const char c : text) {
    held_ += c;
    if (form_ == Form::Plain) {
      step(static_cast<std::uint8_t>(c), taken_);
    } else {
      meant_.clear();
      escapes_.push(c, taken_, meant_);
      for (const JsonEscapes::Meant& meant : meant_) {
        if (!caught_) step(meant.byte, meant.at);
      }
    }
    ++taken_;
    if (caught_) return give(match_.begin);
  }
  std::uint64_t end = taken_;
  for (const RuleSearch& search : searches_)
    end = std::min(end, search.search.earliest().value_or(end));
  return give(std::min(end, escapes_.open().value_or(end)));
}

std::string Screen::finish() {
  if (caught_) return {};
  for (RuleSearch& search : searches_) {
    if (const auto match = search.search.finish()) offer(search, *match);
  }
  return give(caught_ ? match_.begin : taken_);
}

std::string Screen::give(std::uint64_t end) {
  const auto count = static_cast<std::size_t>(end - given_);
  given_ = end;
  std::string certain = held_.substr(0, count);
  if (caught_) {
    held_.clear();
  } else {
    held_.erase(0, count);
  }
  return certain;
}

Finder::Finder(const Filter::Rules& rules) : searches_(searches_of(rules)) {}

std::shared_ptr<const FilterRule> Finder::find(std::string_view text) {
  for (auto& [rule, search] : searches_) {
    search.reset();
    std::uint64_t at = 0;
    for (const char c : text) {
      if (search.step(static_cast<std::uint8_t>(c), at++)) return rule;
    }
    if (search.finish()) return rule;
  }
  return nullptr;
}

}  // namespace fathom::server
