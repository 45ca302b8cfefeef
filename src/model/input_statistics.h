// The inputs of a model's linear weights, for importance matrices.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "backend/input_sums.h"

namespace fathom {

/// What each linear weight was multiplied by, by its canonical name; stacked experts and heads have
/// a part each. Filled by forward passes of a model that was loaded with it.
using InputStatistics = std::map<std::string, std::vector<InputSums>, std::less<>>;

}  // namespace fathom
