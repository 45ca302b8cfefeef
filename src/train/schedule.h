// How the learning rate and the batch change during a run, as functions of how far it is.
#pragma once

#include <cstdint>
#include <string_view>

namespace fathom::train {

/// What follows the warm-up. Shares are of the run's tokens.
enum class RateShape {
  Constant,
  Cosine,  // to a tenth of the peak at the end
  Wsd,     // constant, then a linear fall to nothing over the last fifth (arXiv 2405.18392)
  V3       // arXiv 2412.19437, 4.2: constant, cosine to a tenth, that rate, a thirtieth
};
/// "constant", "cosine", "wsd", "v3". Throws Error(InvalidArgument).
RateShape rate_shape(std::string_view name);
const char* to_string(RateShape shape);

struct RateSchedule {
  double peak = 1e-3;
  std::int64_t warmup_steps = 100;
  RateShape shape = RateShape::Cosine;

  /// Of step number `step` (from 0), which begins when `done` (0 to 1) of the run's tokens were
  /// seen.
  double at(std::int64_t step, double done) const;
};

struct BatchSchedule {
  std::int64_t first = 0;       // rows a step at the beginning; 0: as at the end
  std::int64_t last = 1;        // rows a step from `ramp` on
  double ramp = 469 / 14800.0;  // share of the run's tokens over which it grows, as in V3

  std::int64_t at(double done) const;
};

}  // namespace fathom::train
