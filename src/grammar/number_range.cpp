#include "grammar/number_range.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <tuple>

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

/// Numbers without sign from `low` to `high`.
class Magnitudes {
 public:
  struct End {
    std::string whole, fraction;
    bool exclusive = false;
  };
  Magnitudes(Builder& b, End low, std::optional<End> high, bool integer)
      : b_(b), low_(std::move(low)), high_(std::move(high)), integer_(integer) {}

  Expr build() {
    std::vector<Expr> options{b_.bytes({})};
    const std::size_t least = low_.whole.size();
    const std::size_t most =
        high_ ? high_->whole.size() : std::max<std::size_t>(least, kMostDigits);
    for (std::size_t digits = least; digits <= most; ++digits) {
      digits_ = digits;
      wholes_.clear();
      fractions_.clear();
      options.push_back(whole(0, digits == least, high_ && digits == most));
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
  /// A digit between those of the bounds it must not pass, then what `then(low, high)` gives for
  /// whether the number still equals them.
  template <typename Then>
  Expr step(int at_least, bool on_low, int low, bool on_high, int high, const Then& then) {
    const int from = std::max(at_least, on_low ? low : 0);
    const int to = on_high ? high : 9;
    std::vector<Expr> options{b_.bytes({})};
    for (int d = from; d <= to;) {
      const bool is_low = on_low && d == low;
      const bool is_high = on_high && d == high;
      int end = d;
      if (!is_low && !is_high) end = on_high ? to - 1 : to;
      options.push_back(b_.sequence({digits(d, end), then(is_low, is_high)}));
      d = end + 1;
    }
    return b_.choice(std::move(options));
  }

  /// From digit i of those before the point on. Each is a rule: many ways lead to it.
  Expr whole(std::size_t i, bool on_low, bool on_high) {
    if (i == digits_) return fraction(0, on_low, on_high, true);
    return once(wholes_, {i, on_low, on_high, false}, [&] {
      return step(i == 0 && digits_ > 1 ? 1 : 0, on_low, digit(low_.whole, i), on_high,
                  high_ ? digit(high_->whole, i) : 9,
                  [&](bool l, bool h) { return whole(i + 1, l, h); });
    });
  }

  /// The number may end before digit i of the fraction.
  bool may_end(std::size_t i, bool on_low, bool on_high) const {
    if (on_low) {
      if (i < low_.fraction.size()) return false;  // trailing zeros are cut: something is left
      if (low_.exclusive) return false;
    }
    return !(on_high && i >= high_->fraction.size() && high_->exclusive);
  }

  Expr fraction(std::size_t i, bool on_low, bool on_high, bool point) {
    const Expr end = may_end(i, on_low, on_high) && (i > 0 || point) ? b_.empty() : b_.bytes({});
    const std::size_t longest =
        std::max({low_.fraction.size(), high_ ? high_->fraction.size() : 0,
                  digits_ < kMostDigits ? kMostDigits - digits_ : std::size_t{1}});
    if (integer_ || i >= longest) return end;
    if (on_high && i >= high_->fraction.size()) {
      // Only zeros can follow.
      if (!may_end(i, on_low, on_high)) return end;
      const Expr zeros = b_.repeat(digits(0, 0), point ? 1 : 0, 3);
      return point ? b_.optional(b_.sequence({b_.literal("."), zeros})) : zeros;
    }
    // At the end of the lower bound, more digits cannot fall below it.
    if (on_low && i >= low_.fraction.size() && !low_.exclusive) on_low = false;
    return once(fractions_, {i, on_low, on_high, point}, [&] {
      Expr more = b_.bytes({});
      if (!on_low && !on_high) {
        const auto left = static_cast<std::uint32_t>(longest - i);
        more = b_.repeat(digits(0, 9), point ? 1 : 0, left);
      } else {
        more =
            step(0, on_low, digit(low_.fraction, i), on_high, high_ ? digit(high_->fraction, i) : 9,
                 [&](bool l, bool h) { return fraction(i + 1, l, h, false); });
      }
      if (point) more = b_.sequence({b_.literal("."), more});
      return b_.choice({end, more});
    });
  }

  using Key = std::tuple<std::size_t, bool, bool, bool>;
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
  std::size_t digits_ = 1;  // before the point
  std::map<Key, Builder::Rule> wholes_, fractions_;
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
    if (some) options.push_back(Magnitudes(b, from, to, bounds.integer).build());
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
          b.sequence({b.literal("-"), Magnitudes(b, from, to, bounds.integer).build()}));
    }
  }
  return b.choice(std::move(options));
}

}  // namespace fathom::grammar
