// Python's arithmetic: floor division, remainders with the divisor's sign, shortest float text.
#include <charconv>
#include <cmath>
#include <limits>

#include "tokenizer/jinja_runtime.h"
#include "tokenizer/jinja_text.h"

namespace fathom::jinja {
namespace {

[[noreturn]] void overflow(Runtime& runtime) {
  runtime.limit_error("an integer grows past 128 bits");
}

Int power(Runtime& runtime, Int base, Int exponent) {
  Int result = 1;
  while (true) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) overflow(runtime);
    exponent >>= 1;
    if (exponent == 0) return result;
    if (__builtin_mul_overflow(base, base, &base)) overflow(runtime);
  }
}

Value int_operation(Runtime& runtime, char op, Int a, Int b) {
  Int result = 0;
  switch (op) {
    case '+':
      if (__builtin_add_overflow(a, b, &result)) overflow(runtime);
      return Value(result);
    case '-':
      if (__builtin_sub_overflow(a, b, &result)) overflow(runtime);
      return Value(result);
    case '*':
      if (__builtin_mul_overflow(a, b, &result)) overflow(runtime);
      return Value(result);
    case 'p':
      if (b < 0) {
        if (a == 0) runtime.error("0.0 cannot be raised to a negative power");
        return Value(std::pow(static_cast<double>(a), static_cast<double>(b)));
      }
      return Value(power(runtime, a, b));
    default:
      break;
  }
  if (b == 0) runtime.error("division by zero");
  if (op == '/') return Value(static_cast<double>(a) / static_cast<double>(b));
  if (b == -1) {  // the one quotient that may overflow
    if (op == '%') return Value(Int{0});
    if (__builtin_sub_overflow(Int{0}, a, &result)) overflow(runtime);
    return Value(result);
  }
  Int quotient = a / b;
  Int remainder = a % b;
  if (remainder != 0 && (remainder < 0) != (b < 0)) {
    --quotient;
    remainder += b;
  }
  return Value(op == 'f' ? quotient : remainder);
}

Value float_operation(Runtime& runtime, char op, double a, double b) {
  switch (op) {
    case '+':
      return Value(a + b);
    case '-':
      return Value(a - b);
    case '*':
      return Value(a * b);
    case 'p':
      if (a == 0 && b < 0) runtime.error("0.0 cannot be raised to a negative power");
      if (a < 0 && std::isfinite(a) && std::isfinite(b) && b != std::floor(b)) {
        runtime.error("a negative number to a fractional power is complex");
      }
      if (std::isfinite(a) && std::isfinite(b) && std::isinf(std::pow(a, b))) {
        runtime.error("the result of '**' is too large");
      }
      return Value(std::pow(a, b));
    default:
      break;
  }
  if (b == 0) runtime.error("division by zero");
  if (op == '/') return Value(a / b);
  double remainder = std::fmod(a, b);
  double quotient = (a - remainder) / b;
  if (remainder != 0) {
    if ((remainder < 0) != (b < 0)) {
      remainder += b;
      quotient -= 1;
    }
  } else {
    remainder = std::copysign(0.0, b);
  }
  if (op == '%') return Value(remainder);
  if (quotient == 0) return Value(std::copysign(0.0, a / b));
  const double floor = std::floor(quotient);
  return Value(quotient - floor > 0.5 ? floor + 1 : floor);
}

Value repeat(Runtime& runtime, const Value& value, Int count) {
  if (count < 0) count = 0;
  if (count > Int{1} << 40) runtime.limit_error("a value repeated too often");
  const auto times = static_cast<size_t>(count);
  const size_t size = value.is_string() ? value.string().size() : value.sequence().items.size();
  if (size == 0 || times == 0) {
    return value.is_string() ? runtime.text("", value.is_safe())
                             : runtime.list({}, value.sequence().form);
  }
  if (times > (size_t{1} << 40) / size) runtime.limit_error("a value repeated too often");
  if (value.is_string()) {
    runtime.check_text(size * times);
    runtime.charge_text(size * times);
    std::string out;
    out.reserve(size * times);
    for (size_t i = 0; i < times; ++i) out += value.string();
    return runtime.text(std::move(out), value.is_safe());
  }
  runtime.check_memory(size * times * sizeof(Value));
  runtime.charge(size * times);
  std::vector<Value> items;
  items.reserve(size * times);
  for (size_t i = 0; i < times; ++i) {
    items.insert(items.end(), value.sequence().items.begin(), value.sequence().items.end());
  }
  return runtime.list(std::move(items), value.sequence().form);
}

Value add(Runtime& runtime, const Value& a, const Value& b) {
  if (a.is_string() && b.is_string()) {
    const bool safe = a.is_safe() || b.is_safe();
    // Text marked safe escapes what is added to it.
    const auto side = [&](const Value& v) {
      return safe && !v.is_safe() ? text::escape(v.string()) : v.string();
    };
    runtime.check_text(a.string().size() + b.string().size());
    return runtime.text(side(a) + side(b), safe);
  }
  using Form = Sequence::Form;
  if (a.is_sequence() && b.is_sequence() && a.sequence().form == b.sequence().form &&
      (a.sequence().form == Form::List || a.sequence().form == Form::Tuple)) {
    std::vector<Value> items = runtime.iterate(a);
    const std::vector<Value> more = runtime.iterate(b);
    items.insert(items.end(), more.begin(), more.end());
    return runtime.list(std::move(items), a.sequence().form);
  }
  return Value();
}

bool is_repeatable(const Value& value) {
  return value.is_string() ||
         (value.is_sequence() && (value.sequence().form == Sequence::Form::List ||
                                  value.sequence().form == Sequence::Form::Tuple));
}

}  // namespace

std::string integer_repr(Int i) {
  if (i == 0) return "0";
  std::string digits;
  const bool negative = i < 0;
  // Digits one by one from the low end; the sign is taken off each, so the smallest Int works too.
  for (; i != 0; i /= 10) {
    const int digit = static_cast<int>(i % 10);
    digits.insert(digits.begin(), static_cast<char>('0' + (digit < 0 ? -digit : digit)));
  }
  return negative ? "-" + digits : digits;
}

std::string float_repr(double d) {
  if (std::isnan(d)) return "nan";
  if (std::isinf(d)) return d < 0 ? "-inf" : "inf";
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), d, std::chars_format::scientific);
  const std::string shortest(buffer, end.ptr);
  const size_t e = shortest.find('e');
  const int exponent = std::stoi(shortest.substr(e + 1));
  if (exponent < -4 || exponent >= 16) return shortest;  // "1e-05" and "1e+16" as Python has it
  std::string digits;
  for (const char c : shortest.substr(0, e)) {
    if (c >= '0' && c <= '9') digits += c;
  }
  std::string out = d < 0 || std::signbit(d) ? "-" : "";
  if (exponent < 0) {
    out += "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
    return out;
  }
  const auto whole = static_cast<size_t>(exponent) + 1;
  if (digits.size() < whole) digits.append(whole - digits.size(), '0');
  out += digits.substr(0, whole) + "." + (digits.size() > whole ? digits.substr(whole) : "0");
  return out;
}

Value binary(Runtime& runtime, char op, const Value& a, const Value& b) {
  runtime.charge(1);
  if (a.is_undefined() || b.is_undefined()) {
    // "%" on a string is formatting, which prints an undefined value as nothing.
    if (!(op == '%' && a.is_string())) {
      const Value& missing = a.is_undefined() ? a : b;
      runtime.error("{}",
                    missing.undefined().why ? *missing.undefined().why : "a value is undefined");
    }
  }
  if (a.is_number() && b.is_number()) {
    if (a.is_integral() && b.is_integral()) {
      return int_operation(runtime, op, a.integer(), b.integer());
    }
    return float_operation(runtime, op, a.number(), b.number());
  }
  if (op == '+') {
    Value sum = add(runtime, a, b);
    if (!sum.is_undefined()) return sum;
  }
  if (op == '*') {
    if (is_repeatable(a) && b.is_integral()) return repeat(runtime, a, b.integer());
    if (is_repeatable(b) && a.is_integral()) return repeat(runtime, b, a.integer());
  }
  if (op == '%' && a.is_string()) {
    return runtime.text(percent_format(runtime, a.string(), b), a.is_safe());
  }
  const std::string symbol = op == 'f' ? "//" : op == 'p' ? "**" : std::string(1, op);
  runtime.error("unsupported operand type(s) for {}: '{}' and '{}'", symbol, type_name(a),
                type_name(b));
}

Value negate(Runtime& runtime, const Value& value) {
  if (value.is_integral()) {
    Int result = 0;
    if (__builtin_sub_overflow(Int{0}, value.integer(), &result)) overflow(runtime);
    return Value(result);
  }
  if (value.kind() == Kind::Float) return Value(-value.real());
  if (value.is_undefined() && value.undefined().why) runtime.error("{}", *value.undefined().why);
  runtime.error("bad operand type for unary -: '{}'", type_name(value));
}

}  // namespace fathom::jinja
