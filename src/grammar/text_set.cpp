#include "grammar/text_set.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "base/error.h"
#include "grammar/automaton.h"
#include "grammar/pattern_text.h"
#include "grammar/regex.h"

namespace fathom::grammar {
namespace {

using Expr = Builder::Expr;
using Ranges = std::vector<CodeRange>;

constexpr std::size_t kMostStates = 2000;   // without counts
constexpr std::size_t kMostCounted = 4000;  // with them
constexpr std::size_t kMostClasses = 250;   // a class is a byte of the automata's own texts

/// Characters by what conditions tell apart.
class Alphabet {
 public:
  explicit Alphabet(const TextConditions& conditions) {
    const auto note = [this](const Ranges& ranges) { named_.push_back(normal(ranges)); };
    for (const auto* patterns : {&conditions.patterns, &conditions.excluded}) {
      for (const std::string& pattern : *patterns) {
        Builder unused;
        text_matching(unused, pattern, [&](const Ranges& ranges) {
          note(ranges);
          return unused.empty();
        });
      }
    }
    for (const std::string& text : conditions.taken) {
      for (const std::uint32_t c : code_points(text)) note({{c, c}});
    }
    std::ranges::sort(named_, {}, key);
    named_.erase(std::unique(named_.begin(), named_.end(), same), named_.end());
    cut();
  }

  std::size_t size() const { return ranges_.size(); }
  /// Of these classes.
  Ranges ranges_of(const std::vector<std::uint8_t>& classes) const {
    Ranges all;
    for (const std::uint8_t c : classes) {
      all.insert(all.end(), ranges_[c].begin(), ranges_[c].end());
    }
    return normal(std::move(all));
  }
  /// Classes of these characters, which are some that a condition names, or all.
  ByteSet classes_of(const Ranges& ranges) const {
    const Ranges wanted = normal(ranges);
    ByteSet classes;
    for (std::size_t c = 0; c < ranges_.size(); ++c) {
      if (holds(wanted, ranges_[c].front().first)) classes.set(c);
    }
    return classes;
  }
  std::uint8_t class_of(std::uint32_t character) const {
    for (std::size_t c = 0; c < ranges_.size(); ++c) {
      if (holds(ranges_[c], character)) return static_cast<std::uint8_t>(c);
    }
    fail(ErrorCode::InvalidArgument, "half a character in a text");  // a surrogate
  }

 private:
  static std::vector<std::pair<std::uint32_t, std::uint32_t>> key(const Ranges& ranges) {
    std::vector<std::pair<std::uint32_t, std::uint32_t>> pairs;
    for (const CodeRange& r : ranges) pairs.emplace_back(r.first, r.last);
    return pairs;
  }
  static bool same(const Ranges& a, const Ranges& b) { return key(a) == key(b); }
  static bool holds(const Ranges& sorted, std::uint32_t c) {
    const auto after = std::ranges::upper_bound(sorted, c, {}, &CodeRange::first);
    return after != sorted.begin() && c <= std::prev(after)->last;
  }

  void cut() {
    std::set<std::uint32_t> cuts;
    for (const Ranges& ranges : named_) {
      for (const CodeRange& r : ranges) {
        cuts.insert(r.first);
        cuts.insert(r.last + 1);
      }
    }
    std::map<std::vector<bool>, std::size_t> classes;
    for (const CodeRange& all : normal({{0, kLastCodePoint}})) {
      for (std::uint32_t first = all.first; first <= all.last;) {
        const auto next = cuts.upper_bound(first);
        const std::uint32_t last = next == cuts.end() ? all.last : std::min(all.last, *next - 1);
        std::vector<bool> in;
        for (const Ranges& ranges : named_) in.push_back(holds(ranges, first));
        const auto [found, fresh] = classes.emplace(std::move(in), ranges_.size());
        if (fresh) ranges_.emplace_back();
        ranges_[found->second].push_back({first, last});
        first = last + 1;
      }
    }
    require(ranges_.size() <= kMostClasses, ErrorCode::Unsupported,
            "patterns that tell more than {} kinds of characters apart are not supported together "
            "with lengths or others",
            kMostClasses);
  }

  std::vector<Ranges> named_;   // that conditions name, each once
  std::vector<Ranges> ranges_;  // by class
};

/// Automata of all conditions but lengths, side by side.
class SideBySide {
 public:
  using Places = std::vector<Automaton::State>;

  SideBySide(const TextConditions& conditions, const Alphabet& alphabet) {
    for (const std::string& pattern : conditions.patterns) {
      wanted_.push_back(automaton([&](Builder& b) { return matching(b, pattern, alphabet); }));
    }
    for (const std::string& pattern : conditions.excluded) {
      barred_.push_back(automaton([&](Builder& b) { return matching(b, pattern, alphabet); }));
    }
    if (!conditions.taken.empty()) {
      barred_.push_back(
          automaton([&](Builder& b) { return words(b, conditions.taken, alphabet); }));
    }
  }

  std::size_t work() const {
    std::size_t sum = 0;
    for (const Automaton& a : wanted_) sum += a.work();
    for (const Automaton& a : barred_) sum += a.work();
    return sum;
  }
  Places start() const {
    Places places;
    for (const Automaton& a : wanted_) places.push_back(a.start());
    for (const Automaton& a : barred_) places.push_back(a.start());
    return places;
  }
  /// After a character of this class; nothing if no text goes on so.
  std::optional<Places> next(Places places, std::uint8_t c) {
    for (std::size_t i = 0; i < wanted_.size(); ++i) {
      places[i] = wanted_[i].next(places[i], c);
      if (places[i] == Automaton::kDead) return std::nullopt;
    }
    for (std::size_t i = 0; i < barred_.size(); ++i) {
      Automaton::State& place = places[wanted_.size() + i];
      if (place != Automaton::kDead) place = barred_[i].next(place, c);
    }
    return places;
  }
  bool accept(const Places& places) const {
    for (std::size_t i = 0; i < wanted_.size(); ++i) {
      if (!wanted_[i].accepts(places[i])) return false;
    }
    for (std::size_t i = 0; i < barred_.size(); ++i) {
      const Automaton::State at = places[wanted_.size() + i];
      if (at != Automaton::kDead && barred_[i].accepts(at)) return false;
    }
    return true;
  }

 private:
  template <typename Make>
  static Automaton automaton(const Make& make) {
    Builder b;
    const Builder::Rule root = b.declare("text");
    // A pattern that nothing matches is one too: no class is called so.
    b.define(root, b.choice({make(b), b.literal("\xFF")}));
    Automaton made(b.compile(root), 1);
    made.begin_work();
    return made;
  }
  static Expr matching(Builder& b, const std::string& pattern, const Alphabet& alphabet) {
    return text_matching(
        b, pattern, [&](const Ranges& ranges) { return b.bytes(alphabet.classes_of(ranges)); });
  }
  static Expr words(Builder& b, const std::vector<std::string>& texts, const Alphabet& alphabet) {
    std::vector<Expr> options;
    for (const std::string& text : texts) {
      std::string classes;
      for (const std::uint32_t c : code_points(text)) {
        classes += static_cast<char>(alphabet.class_of(c));
      }
      options.push_back(classes.empty() ? b.empty() : b.literal(classes));
    }
    return b.choice(std::move(options));
  }

  std::vector<Automaton> wanted_, barred_;
};

/// The same as one automaton.
class Product {
 public:
  struct State {
    std::vector<std::int32_t> next;  // by class; kDead
    bool accepts = false;
    bool live = false;  // an accepting one can be reached
  };
  static constexpr std::int32_t kDead = -1;

  Product(const TextConditions& conditions, const Alphabet& alphabet, TextWork& work) {
    SideBySide all(conditions, alphabet);
    std::size_t spent = 0;
    intern(all, all.start());
    for (std::size_t s = 0; s < states_.size(); ++s) {
      work.spend(10 * alphabet.size() + all.work() - std::exchange(spent, all.work()));
      std::vector<std::int32_t> next;
      for (std::size_t c = 0; c < alphabet.size(); ++c) {
        const auto to = all.next(*places_[s], static_cast<std::uint8_t>(c));
        next.push_back(to ? intern(all, *to) : kDead);
      }
      states_[s].next = std::move(next);
    }
    find_live();
  }

  const std::vector<State>& states() const { return states_; }  // the first is the start

 private:
  std::int32_t intern(const SideBySide& all, SideBySide::Places places) {
    const auto [found, fresh] =
        ids_.emplace(std::move(places), static_cast<std::int32_t>(states_.size()));
    if (fresh) {
      require(states_.size() < kMostStates, ErrorCode::Unsupported,
              "patterns that need more than {} states are not supported together with lengths or "
              "others",
              kMostStates);
      states_.push_back({{}, all.accept(found->first)});
      places_.push_back(&found->first);
    }
    return found->second;
  }
  void find_live() {
    std::vector<std::vector<std::size_t>> from(states_.size());
    std::vector<std::size_t> open;
    for (std::size_t s = 0; s < states_.size(); ++s) {
      for (const std::int32_t to : states_[s].next) {
        if (to != kDead) from[static_cast<std::size_t>(to)].push_back(s);
      }
      if (states_[s].accepts) open.push_back(s);
    }
    while (!open.empty()) {
      const std::size_t s = open.back();
      open.pop_back();
      if (std::exchange(states_[s].live, true)) continue;
      open.insert(open.end(), from[s].begin(), from[s].end());
    }
  }

  std::vector<State> states_;
  std::map<SideBySide::Places, std::int32_t> ids_;
  std::vector<const SideBySide::Places*> places_;  // of each state, in ids_
};

/// The product and a count, as rules.
class Writer {
 public:
  Writer(JsonText& json, const TextConditions& conditions, TextWork& work)
      : json_(json),
        b_(json.builder()),
        least_(conditions.least),
        most_(conditions.most),
        alphabet_(conditions),
        product_(conditions, alphabet_, work) {}

  Expr write() {
    if (!product_.states().front().live || least_ > most_) return b_.bytes({});
    const Expr text = use(0, 0);
    for (std::size_t i = 0; i < places_.size(); ++i) find_options(i);
    // Rules after those that they use, so that it shows at once which of them a text satisfies.
    for (std::size_t i = places_.size(); i-- > 0;) b_.define(places_[i].rule, body(places_[i]));
    return b_.sequence({b_.literal("\""), text, b_.literal("\"")});
  }

 private:
  struct Option {
    std::vector<std::uint8_t> classes;
    std::int32_t to;
  };
  struct Place {
    std::int32_t state;
    std::uint32_t count;  // characters so far, as far as it matters
    Builder::Rule rule;
    std::vector<std::pair<Expr, Expr>> options;  // a character, and what follows
  };

  const Product::State& state(std::int32_t s) const {
    return product_.states()[static_cast<std::size_t>(s)];
  }
  Expr use(std::int32_t s, std::uint32_t count) {
    if (most_ == kUnbounded) count = std::min(count, least_);
    const auto [found, fresh] = ids_.emplace(std::pair(s, count), places_.size());
    if (fresh) {
      require(places_.size() < kMostCounted, ErrorCode::Unsupported,
              "a pattern with lengths that needs more than {} states is not supported",
              kMostCounted);
      places_.push_back({s, count, b_.declare("text"), {}});
    }
    return b_.use(places_[found->second].rule);
  }
  /// Where characters lead, each place once.
  std::vector<Option> options_of(std::int32_t s) const {
    std::map<std::int32_t, std::vector<std::uint8_t>> by_target;
    const std::vector<std::int32_t>& next = state(s).next;
    for (std::size_t c = 0; c < next.size(); ++c) {
      if (next[c] != Product::kDead && state(next[c]).live) {
        by_target[next[c]].push_back(static_cast<std::uint8_t>(c));
      }
    }
    std::vector<Option> options;
    for (auto& [to, classes] : by_target) options.push_back({std::move(classes), to});
    return options;
  }
  void find_options(std::size_t i) {
    const auto [s, count] = std::pair(places_[i].state, places_[i].count);
    const std::vector<Option> options = options_of(s);
    if (only_repeats(s, options) || count >= most_) return;
    for (const Option& option : options) {
      const Expr rest = use(option.to, count + 1);
      places_[i].options.emplace_back(one_of(option.classes), rest);
    }
  }
  static bool only_repeats(std::int32_t s, const std::vector<Option>& options) {
    return std::ranges::all_of(options, [s](const Option& option) { return option.to == s; });
  }
  Expr body(const Place& place) {
    const std::vector<Option> options = options_of(place.state);
    const std::uint32_t missing = least_ - std::min(least_, place.count);
    if (only_repeats(place.state, options)) {  // it is live, so that it accepts
      if (options.empty()) return missing == 0 ? b_.empty() : b_.bytes({});
      const std::uint32_t left = most_ == kUnbounded ? most_ : most_ - place.count;
      return b_.repeat(one_of(options.front().classes), missing, left);
    }
    std::vector<Expr> ways;
    for (const auto& [character, rest] : place.options) {
      ways.push_back(b_.sequence({character, rest}));
    }
    if (state(place.state).accepts && missing == 0) ways.push_back(b_.empty());
    if (ways.empty()) return b_.bytes({});
    return b_.choice(std::move(ways));
  }
  Expr one_of(const std::vector<std::uint8_t>& classes) {
    if (classes.size() == alphabet_.size()) return json_.any_character();
    const auto [found, fresh] = sets_.emplace(classes, Builder::Rule{});
    if (fresh) {
      found->second = b_.declare("character");
      b_.define(found->second, json_.character(alphabet_.ranges_of(classes)));
    }
    return b_.use(found->second);
  }

  JsonText& json_;
  Builder& b_;
  const std::uint32_t least_, most_;
  const Alphabet alphabet_;
  const Product product_;
  std::vector<Place> places_;
  std::map<std::pair<std::int32_t, std::uint32_t>, std::size_t> ids_;
  std::map<std::vector<std::uint8_t>, Builder::Rule> sets_;
};

/// Reading them.
void spend_on(const TextConditions& conditions, TextWork& work) {
  std::size_t bytes = 100;
  for (const auto* texts : {&conditions.patterns, &conditions.excluded, &conditions.taken}) {
    for (const std::string& text : *texts) bytes += 20 + text.size();
  }
  work.spend(10 * bytes);
}

}  // namespace

void TextWork::spend(std::size_t work) {
  require(work <= left, ErrorCode::ResourceLimit,
          "the schema's patterns, lengths and names together cost too much");
  left -= work;
}

Builder::Expr string_of(JsonText& json, const TextConditions& conditions, TextWork& work) {
  spend_on(conditions, work);
  return Writer(json, conditions, work).write();
}

bool satisfies(std::string_view text, const TextConditions& conditions, TextWork& work) {
  const std::vector<std::uint32_t> all = code_points(text);
  if (all.size() < conditions.least || all.size() > conditions.most) return false;
  if (conditions.patterns.empty() && conditions.excluded.empty() && conditions.taken.empty()) {
    return true;
  }
  spend_on(conditions, work);
  const Alphabet alphabet(conditions);
  SideBySide automata(conditions, alphabet);
  std::optional<SideBySide::Places> at = automata.start();
  for (std::size_t i = 0; i < all.size() && at; ++i) {
    at = automata.next(std::move(*at), alphabet.class_of(all[i]));
  }
  work.spend(all.size() + automata.work());
  return at && automata.accept(*at);
}

}  // namespace fathom::grammar
