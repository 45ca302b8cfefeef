#include "grammar/number_range.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <string>
#include <tuple>
#include <utility>

#include "base/error.h"

namespace fathom::grammar {
namespace {

using Expr = Builder::Expr;

constexpr int kMostDigits = 15;

/// A number as digits before and after the point.
struct Decimal {
  bool negative = false;
  std::string whole;     // no leading zeros, but "0"
  std::string fraction;  // no trailing zeros
  bool zero() const { return whole == "0" && fraction.empty(); }
};

/// Integers exactly; other numbers as the shortest digits that read back as the same double.
Decimal decimal_of(const nlohmann::ordered_json& number) {
  std::string text =
      number.is_number_float() ? fmt::format("{}", number.get<double>()) : number.dump();
  Decimal out;
  if (text[0] == '-') {
    out.negative = true;
    text.erase(0, 1);
  }
  int exponent = 0;
  if (const std::size_t e = text.find('e'); e != std::string::npos) {
    exponent = std::stoi(text.substr(e + 1));
    text.resize(e);
  }
  const std::size_t point = text.find('.');
  std::string digits = text.substr(0, point);
  auto scale = static_cast<int>(digits.size());
  if (point != std::string::npos) digits += text.substr(point + 1);
  scale += exponent;  // digits before the point
  if (scale <= 0) {
    digits.insert(0, static_cast<std::size_t>(1 - scale), '0');
    scale = 1;
  }
  if (static_cast<std::size_t>(scale) > digits.size()) {
    digits.append(static_cast<std::size_t>(scale) - digits.size(), '0');
  }
  out.whole = digits.substr(0, static_cast<std::size_t>(scale));
  out.fraction = digits.substr(static_cast<std::size_t>(scale));
  out.whole.erase(0, std::min(out.whole.find_first_not_of('0'), out.whole.size() - 1));
  out.fraction.erase(out.fraction.find_last_not_of('0') + 1);
  return out;
}

/// A number that others are multiples of: value * 10^scale leaves nothing over modulus.
struct Multiple {
  std::uint64_t modulus = 1;
  std::size_t scale = 0;  // digits after the point that a multiple may have
};

/// What of `steps` is left to divide by once a value has been multiplied by 10 so often.
std::uint64_t after_tens(std::uint64_t steps, std::size_t tens) {
  for (; tens > 0; --tens) {
    const std::uint64_t common = std::gcd(steps, std::uint64_t{10});
    if (common == 1) break;
    steps /= common;
  }
  return steps;
}

Multiple multiple_of(const nlohmann::ordered_json& number, bool integer) {
  // Remainders are states, and each has a rule for each digit that is left.
  constexpr std::uint64_t kMostSteps = 1000, kMostOdd = 100;
  const Decimal step = decimal_of(number);
  require(!step.negative && !step.zero(), ErrorCode::InvalidArgument,
          "multipleOf is {}, not above 0", number.dump());
  std::string digits = step.whole + step.fraction;
  digits.erase(0, digits.find_first_not_of('0'));
  std::size_t scale = step.fraction.size();
  // Of integers only the whole part counts: its steps are those of the least common multiple.
  std::uint64_t steps = digits.size() < 16 ? std::stoull(digits) : 0;
  if (integer && steps > 0) steps = after_tens(steps, std::exchange(scale, 0));
  require(
      steps > 0 && steps <= kMostSteps && after_tens(steps, 64) <= kMostOdd && scale <= kMostDigits,
      ErrorCode::Unsupported,
      "the schema's keyword multipleOf is not supported for {}: it needs too many remainders",
      number.dump());
  return {steps, scale};
}

/// Numbers without sign from `low` to `high`.
class Magnitudes {
 public:
  struct End {
    std::string whole, fraction;
    bool exclusive = false;
  };
  Magnitudes(Builder& b, End low, std::optional<End> high, bool integer,
             std::optional<Multiple> multiple)
      : b_(b),
        low_(std::move(low)),
        high_(std::move(high)),
        integer_(integer),
        multiple_(multiple) {}

  Expr build() {
    std::vector<Expr> options{b_.bytes({})};
    const std::size_t least = low_.whole.size();
    const std::size_t most =
        high_ ? high_->whole.size() : std::max<std::size_t>(least, kMostDigits);
    for (std::size_t digits = least; digits <= most; ++digits) {
      digits_ = digits;
      wholes_.clear();
      if (!multiple_) fractions_.clear();  // how long they may be depends on the digits before
      options.push_back(whole(0, digits == least, high_ && digits == most, 0));
    }
    return b_.choice(std::move(options));
  }

 private:
  static int digit(const std::string& text, std::size_t i) {
    return i < text.size() ? text[i] - '0' : 0;
  }
  Expr digits(int from, int to) {
    ByteSet set;
    for (int d = from; d <= to; ++d) set.set(static_cast<std::size_t>('0' + d));
    return b_.bytes(set);
  }
  std::uint64_t modulus() const { return multiple_ ? multiple_->modulus : 1; }
  /// What still counts of what is left over, with so many digits to come.
  std::uint64_t counting(std::uint64_t over, std::size_t digits) const {
    return over % after_tens(modulus(), digits);
  }

  /// A digit between those of the bounds it must not pass, then what `then(low, high, over)` gives
  /// for whether the number still equals them, and what it leaves over.
  template <typename Then>
  Expr step(int at_least, bool on_low, int low, bool on_high, int high, std::uint64_t over,
            const Then& then) {
    const int from = std::max(at_least, on_low ? low : 0);
    const int to = on_high ? high : 9;
    std::vector<Expr> options{b_.bytes({})};
    for (int d = from; d <= to;) {
      const bool is_low = on_low && d == low;
      const bool is_high = on_high && d == high;
      int end = d;
      if (!is_low && !is_high && modulus() == 1) end = on_high ? to - 1 : to;
      const std::uint64_t next = (over * 10 + static_cast<std::uint64_t>(d)) % modulus();
      options.push_back(b_.sequence({digits(d, end), then(is_low, is_high, next)}));
      d = end + 1;
    }
    return b_.choice(std::move(options));
  }

  /// From digit i of those before the point on. Each is a rule: many ways lead to it.
  Expr whole(std::size_t i, bool on_low, bool on_high, std::uint64_t over) {
    if (i == digits_) return fraction(0, on_low, on_high, true, over);
    if (multiple_) over = counting(over, digits_ - i + multiple_->scale);
    const auto make = [&] {
      return step(i == 0 && digits_ > 1 ? 1 : 0, on_low, digit(low_.whole, i), on_high,
                  high_ ? digit(high_->whole, i) : 9, over,
                  [&](bool l, bool h, std::uint64_t o) { return whole(i + 1, l, h, o); });
    };
    // Away from the bounds only how many digits are left counts.
    if (multiple_ && i > 0 && !on_low && !on_high) {
      return once(free_, {digits_ - i, false, false, false, over}, make);
    }
    return once(wholes_, {i, on_low, on_high, false, over}, make);
  }

  /// The number may end before digit i of the fraction.
  bool may_end(std::size_t i, bool on_low, bool on_high, std::uint64_t over) const {
    if (multiple_) {
      for (std::size_t left = multiple_->scale - i; left > 0; --left) over = over * 10 % modulus();
      if (over % modulus() != 0) return false;
    }
    if (on_low) {
      if (i < low_.fraction.size()) return false;  // trailing zeros are cut: something is left
      if (low_.exclusive) return false;
    }
    return !(on_high && i >= high_->fraction.size() && high_->exclusive);
  }

  Expr fraction(std::size_t i, bool on_low, bool on_high, bool point, std::uint64_t over) {
    if (multiple_) over = counting(over, multiple_->scale - i);
    const bool ends = may_end(i, on_low, on_high, over);
    const Expr end = ends && (i > 0 || point) ? b_.empty() : b_.bytes({});
    const std::size_t longest =
        multiple_ ? multiple_->scale
                  : std::max({low_.fraction.size(), high_ ? high_->fraction.size() : 0,
                              digits_ < kMostDigits ? kMostDigits - digits_ : std::size_t{1}});
    if (integer_ || i >= longest) return end;
    if (on_high && i >= high_->fraction.size()) {
      // Only zeros can follow.
      if (!ends || multiple_) return end;
      const Expr zeros = b_.repeat(digits(0, 0), point ? 1 : 0, 3);
      return point ? b_.optional(b_.sequence({b_.literal("."), zeros})) : zeros;
    }
    // At the end of the lower bound, more digits cannot fall below it.
    if (on_low && i >= low_.fraction.size() && !low_.exclusive) on_low = false;
    return once(fractions_, {i, on_low, on_high, point, over}, [&] {
      Expr more = b_.bytes({});
      if (!on_low && !on_high && modulus() == 1) {
        const auto left = static_cast<std::uint32_t>(longest - i);
        more = b_.repeat(digits(0, 9), point ? 1 : 0, left);
      } else {
        more = step(
            0, on_low, digit(low_.fraction, i), on_high, high_ ? digit(high_->fraction, i) : 9,
            over, [&](bool l, bool h, std::uint64_t o) { return fraction(i + 1, l, h, false, o); });
      }
      if (point) more = b_.sequence({b_.literal("."), more});
      return b_.choice({end, more});
    });
  }

  using Key = std::tuple<std::size_t, bool, bool, bool, std::uint64_t>;
  template <typename Make>
  Expr once(std::map<Key, Builder::Rule>& made, const Key& key, const Make& make) {
    auto found = made.find(key);
    if (found == made.end()) {
      const Builder::Rule rule = b_.declare("digits");
      b_.define(rule, make());
      found = made.emplace(key, rule).first;
    }
    return b_.use(found->second);
  }

  Builder& b_;
  End low_;
  std::optional<End> high_;
  bool integer_;
  std::optional<Multiple> multiple_;
  std::size_t digits_ = 1;  // before the point
  std::map<Key, Builder::Rule> wholes_, free_, fractions_;
};

/// -1, 0 or 1.
int compare(const Decimal& a, const Decimal& b) {
  const auto magnitude = [](const Decimal& x, const Decimal& y) {
    if (x.whole.size() != y.whole.size()) return x.whole.size() < y.whole.size() ? -1 : 1;
    const int whole = x.whole.compare(y.whole);
    const int both = whole != 0 ? whole : x.fraction.compare(y.fraction);
    return both < 0 ? -1 : both > 0 ? 1 : 0;
  };
  const bool a_negative = a.negative && !a.zero();
  const bool b_negative = b.negative && !b.zero();
  if (a_negative != b_negative) return a_negative ? -1 : 1;
  return a_negative ? magnitude(b, a) : magnitude(a, b);
}

}  // namespace

Builder::Expr number_range(Builder& b, const NumberBounds& bounds) {
  struct Edge {
    Decimal at;
    bool exclusive;
  };
  std::optional<Edge> low;
  std::optional<Edge> high;
  if (bounds.low) low = {decimal_of(bounds.low->value), bounds.low->exclusive};
  if (bounds.high) high = {decimal_of(bounds.high->value), bounds.high->exclusive};
  // A bound of more digits than we write is none, or one that nothing reaches.
  constexpr std::size_t kLong = 300;
  for (const auto& edge : {low, high}) {
    require(!edge || edge->at.whole.size() + edge->at.fraction.size() < kLong,
            ErrorCode::Unsupported, "a numeric bound has more than {} digits", kLong);
  }
  std::optional<Multiple> multiple;
  if (bounds.multiple_of) multiple = multiple_of(*bounds.multiple_of, bounds.integer);
  std::vector<Expr> options{b.bytes({})};
  const Decimal zero{false, "0", ""};
  // Zero and above.
  if (!high || compare(high->at, zero) > 0 || (compare(high->at, zero) == 0 && !high->exclusive)) {
    Magnitudes::End from{"0", "", false};
    if (low && compare(low->at, zero) >= 0)
      from = {low->at.whole, low->at.fraction, low->exclusive};
    std::optional<Magnitudes::End> to;
    if (high) to = {high->at.whole, high->at.fraction, high->exclusive};
    const bool some = !to || !low || compare(low->at, high->at) < 0 ||
                      (compare(low->at, high->at) == 0 && !low->exclusive && !high->exclusive);
    if (some) options.push_back(Magnitudes(b, from, to, bounds.integer, multiple).build());
  }
  // Below zero.
  if (!low || compare(low->at, zero) < 0) {
    Magnitudes::End from{"0", "", true};
    if (high && compare(high->at, zero) < 0) {
      from = {high->at.whole, high->at.fraction, high->exclusive};
    }
    std::optional<Magnitudes::End> to;
    if (low) to = {low->at.whole, low->at.fraction, low->exclusive};
    const bool some = !low || !high || compare(low->at, high->at) < 0 ||
                      (compare(low->at, high->at) == 0 && !low->exclusive && !high->exclusive);
    if (some) {
      options.push_back(
          b.sequence({b.literal("-"), Magnitudes(b, from, to, bounds.integer, multiple).build()}));
    }
  }
  return b.choice(std::move(options));
}

}  // namespace fathom::grammar
