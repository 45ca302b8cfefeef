#include "cli/counts.h"

#include <fmt/format.h>

#include <cmath>
#include <exception>
#include <iterator>
#include <string_view>

#include "base/error.h"

namespace fathom {
namespace {

constexpr std::string_view kUnits[] = {"", "K", "M", "B", "T"};

}  // namespace

double read_count(const std::string& option, const std::string& text) {
  double value = 0;
  std::size_t end = 0;
  try {
    value = std::stod(text, &end);
  } catch (const std::exception&) {
    end = text.size() + 1;
  }
  double factor = 0;
  double power = 1;
  for (const std::string_view unit : kUnits) {
    if (end <= text.size() && text.substr(end) == unit) factor = power;
    power *= 1000;
  }
  require(factor > 0 && value > 0 && std::isfinite(value), ErrorCode::InvalidArgument,
          "{} {}: expected a number such as 14.8T, 300B, 5M or 1e9", option, text);
  return value * factor;
}

std::string short_count(double value) {
  std::size_t unit = 0;
  while (value >= 1000 && unit + 1 < std::size(kUnits)) {
    value /= 1000;
    ++unit;
  }
  return unit == 0 && value == std::floor(value) ? fmt::format("{:.0f}", value)
                                                 : fmt::format("{:.4g}{}", value, kUnits[unit]);
}

}  // namespace fathom
