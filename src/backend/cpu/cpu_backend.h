// The Backend of the machine's own CPUs: device memory is plain memory, operations return when
// done.
#pragma once

#include <memory>

#include "backend/backend.h"
#include "backend/cpu/kept_weights.h"
#include "base/numa.h"

namespace fathom {

enum class CpuPrecision {
  F32,   // weights dequantised exactly, activations never rounded
  Fine,  // activations rounded to 15 bits before quantised weights
  Fast   // rounded to INT8 blocks
};

struct CpuBackendOptions {
  CpuPrecision precision = CpuPrecision::Fast;
  unsigned threads = 0;  // 0: all CPUs that this process may use
  NumaOptions numa = {};
  KeptWeights kept = {};
};

/// Kernels for selected_cpu_level(). Throws as that does.
std::unique_ptr<Backend> make_cpu_backend(const CpuBackendOptions& options);

}  // namespace fathom
