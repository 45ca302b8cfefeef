// The kernels that this machine can be asked for.
#pragma once

#include <vector>

#include "base/cpu_features.h"

namespace fathom::testing {

inline std::vector<CpuLevel> levels() {
  std::vector<CpuLevel> all;
  for (const CpuLevel level : kCpuLevels) {
    if (cpu_runs(level)) all.push_back(level);
  }
  return all;
}

}  // namespace fathom::testing
