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
  /// A core reads memory quickest as one stream. Of AMD's measured (Zen 4) it does, by up to twice;
  /// Intel's (Cascade Lake, Sapphire Rapids) want four or more side by side.
  bool reads_one_stream = false;
};

/// The families of kernels, by rising speed. TileTwin is none that anybody wants to run: the
/// kernels of Amx over a tile unit in plain C++ (tile_unit.h), by which every machine tests them.
enum class CpuLevel { Scalar, Avx2, Avx2Vnni, Avx512, Avx512Bf16, Amx, TileTwin };
inline constexpr CpuLevel kCpuLevels[] = {
    CpuLevel::Scalar,     CpuLevel::Avx2, CpuLevel::Avx2Vnni, CpuLevel::Avx512,
    CpuLevel::Avx512Bf16, CpuLevel::Amx,  CpuLevel::TileTwin};

/// "scalar", "avx2", "avx2-vnni", "avx512", "avx512-bf16", "amx" or "amx-twin".
const char* to_string(CpuLevel level);

/// Detected once. Asks the Linux kernel for AMX tile permission before it reports AMX.
const CpuFeatures& cpu_features();

/// Whether this machine runs kernels of that level. Client CPUs have AVX-VNNI without AVX-512, many
/// servers the reverse.
bool cpu_runs(CpuLevel level);

/// The best level this machine runs.
CpuLevel best_cpu_level();

/// The level to use: best_cpu_level(), or the one whose name FATHOM_CPU holds.
/// Throws Error(InvalidArgument) for another word and Error(Unsupported) for a level this machine
/// does not have: never a silent fallback. Read from the environment on each call.
CpuLevel selected_cpu_level();

/// The inverse of to_string(); throws Error(InvalidArgument).
CpuLevel parse_cpu_level(std::string_view name);

}  // namespace fathom
