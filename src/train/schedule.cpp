#include "train/schedule.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <utility>

#include "base/error.h"

namespace fathom::train {
namespace {

constexpr std::array<std::pair<std::string_view, RateShape>, 4> kShapes{{
    {"constant", RateShape::Constant},
    {"cosine", RateShape::Cosine},
    {"wsd", RateShape::Wsd},
    {"v3", RateShape::V3},
}};

/// From `high` at 0 to `low` at 1.
double cosine(double high, double low, double at) {
  return low + (high - low) * (1 + std::cos(std::numbers::pi * std::clamp(at, 0.0, 1.0))) / 2;
}

/// A share of the peak.
double shape_at(RateShape shape, double done) {
  switch (shape) {
    case RateShape::Constant:
      return 1;
    case RateShape::Cosine:
      return cosine(1, 0.1, done);
    case RateShape::Wsd:
      return std::clamp((1 - done) / 0.2, 0.0, 1.0);
    case RateShape::V3: {
      constexpr double kTotal = 14.8;  // trillions of tokens
      const double tokens = done * kTotal;
      if (tokens < 10) return 1;
      if (tokens < 14.3) return cosine(1, 0.1, (tokens - 10) / 4.3);
      return tokens < 14.633 ? 0.1 : 7.3e-6 / 2.2e-4;
    }
  }
  fail(ErrorCode::Internal, "no such schedule");
}

}  // namespace

RateShape rate_shape(std::string_view name) {
  for (const auto& [word, shape] : kShapes) {
    if (word == name) return shape;
  }
  fail(ErrorCode::InvalidArgument,
       "no schedule is called '{}'; there are constant, cosine, wsd, v3", name);
}

const char* to_string(RateShape shape) {
  return std::ranges::find(kShapes, shape, &std::pair<std::string_view, RateShape>::second)
      ->first.data();
}

double RateSchedule::at(std::int64_t step, double done) const {
  const double warm =
      warmup_steps > 0
          ? std::min(1.0, static_cast<double>(step + 1) / static_cast<double>(warmup_steps))
          : 1.0;
  return peak * std::min(warm, shape_at(shape, done));
}

std::int64_t BatchSchedule::at(double done) const {
  if (first <= 0 || done >= ramp) return last;
  const double grown = static_cast<double>(first) + static_cast<double>(last - first) * done / ramp;
  return std::max<std::int64_t>(1, std::llround(grown));
}

}  // namespace fathom::train
