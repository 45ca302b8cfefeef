// What this CPU (and this kernel, for AMX) can run, and which level of kernels to use.
#pragma once

#include <string_view>

namespace fathom {

struct CpuFeatures {
  bool avx2 = false;  // with FMA and F16C: kernels named *_avx2 need all three
  bool avx_vnni = false;
  bool avx512 = false;  // F, BW, DQ, VL and VNNI together: kernels named *_avx512 need all five
  bool avx512_bf16 = false;
  bool amx_int8 = false;  // with tile permission granted by the kernel
  bool amx_bf16 = false;
};

/// The ladder of kernel families; a higher level includes the lower ones.
enum class CpuLevel { Scalar, Avx2, Avx512, Amx };

const char* to_string(CpuLevel level);

/// Detected once. Asks the Linux kernel for AMX tile permission before it reports AMX.
const CpuFeatures& cpu_features();

/// The best level this machine runs.
CpuLevel best_cpu_level();

/// The level to use: best_cpu_level(), or what FATHOM_CPU=scalar|avx2|avx512|amx asks for.
/// Throws Error(InvalidArgument) for another word and Error(Unsupported) for a level this machine
/// does not have: never a silent fallback. Read from the environment on each call.
CpuLevel selected_cpu_level();

/// Parses "scalar", "avx2", "avx512" or "amx"; throws Error(InvalidArgument).
CpuLevel parse_cpu_level(std::string_view name);

}  // namespace fathom
