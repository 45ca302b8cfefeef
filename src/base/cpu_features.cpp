#include "base/cpu_features.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>

#include "base/error.h"

namespace fathom {
namespace {

constexpr int kArchReqXcompPerm = 0x1023;  // arch_prctl: ask for an extended state component
constexpr int kXfeatureXtiledata = 18;     // AMX tile registers

bool amx_permitted() { return syscall(SYS_arch_prctl, kArchReqXcompPerm, kXfeatureXtiledata) == 0; }

CpuFeatures detect() {
  CpuFeatures features;
  __builtin_cpu_init();
  features.reads_one_stream = __builtin_cpu_is("amd") != 0;
  // __builtin_cpu_supports also checks that the operating system saves the registers (XGETBV).
  features.avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                  __builtin_cpu_supports("f16c");
  features.avx512 = features.avx2 && __builtin_cpu_supports("avx512f") &&
                    __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
  features.avx512_bf16 = features.avx512 && __builtin_cpu_supports("avx512bf16");
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  if (__get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0) {
    features.avx_vnni = features.avx2 && (eax & (1U << 4)) != 0;
  }
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0) {
    const bool tile = (edx & (1U << 24)) != 0;
    if (tile && features.avx512 && amx_permitted()) {
      features.amx_bf16 = (edx & (1U << 22)) != 0;
      features.amx_int8 = (edx & (1U << 25)) != 0;
    }
  }
  return features;
}

}  // namespace

const char* to_string(CpuLevel level) {
  switch (level) {
    case CpuLevel::Scalar:
      return "scalar";
    case CpuLevel::Avx2:
      return "avx2";
    case CpuLevel::Avx2Vnni:
      return "avx2-vnni";
    case CpuLevel::Avx512:
      return "avx512";
    case CpuLevel::Avx512Bf16:
      return "avx512-bf16";
    case CpuLevel::Amx:
      return "amx";
    case CpuLevel::TileTwin:
      return "amx-twin";
  }
  return "scalar";
}

const CpuFeatures& cpu_features() {
  static const CpuFeatures features = detect();
  return features;
}

bool cpu_runs(CpuLevel level) {
  const CpuFeatures& features = cpu_features();
  switch (level) {
    case CpuLevel::Scalar:
    case CpuLevel::TileTwin:
      return true;
    case CpuLevel::Avx2:
      return features.avx2;
    case CpuLevel::Avx2Vnni:
      return features.avx_vnni;
    case CpuLevel::Avx512:
      return features.avx512;
    case CpuLevel::Avx512Bf16:
      return features.avx512_bf16;
    case CpuLevel::Amx:
      return features.amx_int8 && features.amx_bf16 && features.avx512_bf16;
  }
  return false;
}

CpuLevel best_cpu_level() {
  CpuLevel best = CpuLevel::Scalar;
  for (const CpuLevel level : kCpuLevels) {
    if (level != CpuLevel::TileTwin && cpu_runs(level)) best = level;
  }
  return best;
}

CpuLevel parse_cpu_level(std::string_view name) {
  for (const CpuLevel level : kCpuLevels) {
    if (name == to_string(level)) return level;
  }
  fail(ErrorCode::InvalidArgument,
       "FATHOM_CPU is '{}', expected scalar, avx2, avx2-vnni, avx512, avx512-bf16, amx or amx-twin",
       name);
}

CpuLevel selected_cpu_level() {
  const char* forced = std::getenv("FATHOM_CPU");
  if (forced == nullptr || *forced == '\0') return best_cpu_level();
  const CpuLevel level = parse_cpu_level(forced);
  require(cpu_runs(level), ErrorCode::Unsupported,
          "FATHOM_CPU asks for {} kernels, but this CPU runs {} at best", to_string(level),
          to_string(best_cpu_level()));
  return level;
}

}  // namespace fathom
