// The matrix unit of Intel's AMX, as tile_unit.h describes it: only for units named *_amx.cpp.
//
// In assembly, because compilers' intrinsics are macros that want tiles as written numbers, and
// GCC 12's do not say that a load reads memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cpu/tile_unit.h"

namespace fathom::cpu {

struct AmxTiles {
  /// The operand of LDTILECFG, palette 1.
  struct alignas(64) Config {
    std::uint8_t palette;
    std::uint8_t start_row;
    std::uint8_t reserved[14];
    std::uint16_t bytes[16];
    std::uint8_t rows[16];
  };
  static_assert(sizeof(Config) == 64);

  static void open(std::size_t rows, std::size_t bytes) {
    Config config{};
    config.palette = 1;
    for (int t = 0; t < 8; ++t) {
      config.rows[t] = static_cast<std::uint8_t>(t >= 6 ? bytes / 4 : rows);
      config.bytes[t] = static_cast<std::uint16_t>(t == 4 || t == 5 ? bytes : 64);
    }
    asm volatile("ldtilecfg %0" : : "m"(config));
  }
  static void close() { asm volatile("tilerelease"); }

  template <int T>
  static void zero() {
    asm volatile("tilezero %%tmm%c0" : : "i"(T));
  }
  template <int T>
  static void load(const void* from, std::size_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(T) : "memory");
  }
  template <int T>
  static void store(void* to, std::size_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride), "i"(T) : "memory");
  }
  template <int C, int A, int B>
  static void add_int8() {
    asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
  }
  template <int C, int A, int B>
  static void add_bf16() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
  }
};

}  // namespace fathom::cpu
