// The Backend of the machine's own CPUs: device memory is plain memory, operations return when
// done.
#pragma once

#include <memory>

#include "backend/backend.h"

namespace fathom {

enum class CpuPrecision {
  F32,  // weights dequantised exactly, activations never rounded
  Fast  // activations rounded to INT8 blocks before quantised weights
};

struct CpuBackendOptions {
  CpuPrecision precision = CpuPrecision::Fast;
  unsigned threads = 0;  // 0: all CPUs that this process may use
};

/// Kernels for selected_cpu_level(). Throws as that does.
std::unique_ptr<Backend> make_cpu_backend(const CpuBackendOptions& options);

}  // namespace fathom
