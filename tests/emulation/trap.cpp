// A library to preload on a CPU that lacks AMX or AVX-VNNI: it carries out their instructions when
// the CPU refuses them (SIGILL), decoded from their bytes. See docs/emulation.md.
//
// Written from the tables of the Intel SDM (volume 2, LDTILECFG to VPDPBUSD) and sharing nothing
// with the program, it is what shows that operands, strides and tile shapes in the kernels'
// assembly are what their twin in C++ takes them for. What the CPU would refuse ends the process.
#include <signal.h>
#include <ucontext.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>

namespace {

struct Tiles {
  bool configured;
  std::uint8_t rows[8];
  std::uint16_t bytes[8];
  std::uint8_t tile[8][16][64];
};
thread_local Tiles state;

enum Counted { Config, Release, Zero, Load, Store, Int8, Brain, Vnni, kCounted };
const char* const kNames[] = {"ldtilecfg",  "tilerelease", "tilezero",  "tileloadd",
                              "tilestored", "tdpbssd",     "tdpbf16ps", "vpdpbusd"};
std::atomic<long> counts[kCounted];

[[noreturn]] void refuse(const char* why, const std::uint8_t* code) {
  std::fprintf(stderr, "trap: %s:", why);
  for (int i = 0; i < 10; ++i) std::fprintf(stderr, " %02x", code[i]);
  std::fprintf(stderr, "\n");
  _exit(99);
}

template <typename T>
T read(const void* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

/// A VEX instruction of map 0F38: its operands and its length.
struct Instruction {
  const std::uint8_t* code;
  int op, pp, reg, vvvv, rm, length;
  bool wide, is_256, memory, has_index;
  std::uint8_t* base;
  long index;
};

Instruction decode(ucontext_t* context) {
  const auto at = [&](int number) {
    static const int kOrder[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                 REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                 REG_R12, REG_R13, REG_R14, REG_R15};
    return static_cast<long>(context->uc_mcontext.gregs[kOrder[number]]);
  };
  Instruction i{};
  i.code = reinterpret_cast<const std::uint8_t*>(context->uc_mcontext.gregs[REG_RIP]);
  const std::uint8_t* p = i.code;
  if (p[0] != 0xC4 || (p[1] & 0x1F) != 2) refuse("not an instruction that is emulated", p);
  // The prefix holds the registers' upper bits inverted.
  const int r = (~p[1] >> 7 & 1) << 3;
  const int x = (~p[1] >> 6 & 1) << 3;
  const int b = (~p[1] >> 5 & 1) << 3;
  i.wide = (p[2] & 0x80) != 0;
  i.vvvv = ~p[2] >> 3 & 15;
  i.is_256 = (p[2] & 4) != 0;
  i.pp = p[2] & 3;
  i.op = p[3];
  const int mod = p[4] >> 6;
  i.reg = (p[4] >> 3 & 7) | r;
  i.rm = (p[4] & 7) | b;
  i.memory = mod != 3;
  const std::uint8_t* next = p + 5;
  if (i.memory) {
    long address = 0;
    bool relative = false;
    if ((p[4] & 7) == 4) {
      const int sib = *next++;
      const int index = (sib >> 3 & 7) | x;
      i.has_index = true;
      i.index = index == 4 ? 0 : at(index) * (1L << (sib >> 6));
      if ((sib & 7) == 5 && mod == 0) {
        address = read<std::int32_t>(next);
        next += 4;
      } else {
        address = at((sib & 7) | b);
      }
    } else if ((p[4] & 7) == 5 && mod == 0) {
      relative = true;
      address = read<std::int32_t>(next);
      next += 4;
    } else {
      address = at(i.rm);
    }
    if (mod == 1) address += static_cast<std::int8_t>(*next++);
    if (mod == 2) {
      address += read<std::int32_t>(next);
      next += 4;
    }
    if (relative) address += reinterpret_cast<long>(next);
    i.base = reinterpret_cast<std::uint8_t*>(address);
  }
  i.length = static_cast<int>(next - p);
  return i;
}

void configure(const Instruction& i) {
  const std::uint8_t* m = i.base + i.index;
  if (m[0] != 1 || m[1] != 0) refuse("#GP: palette or start row", i.code);
  for (int at = 2; at < 64; ++at) {
    const bool used = (at >= 16 && at < 32) || (at >= 48 && at < 56);
    if (!used && m[at] != 0) refuse("#GP: reserved bytes of a configuration", i.code);
  }
  state = {};
  state.configured = true;
  for (int t = 0; t < 8; ++t) {
    state.bytes[t] = read<std::uint16_t>(m + 16 + 2 * t);
    state.rows[t] = m[48 + t];
    if (state.rows[t] > 16 || state.bytes[t] > 64) refuse("#GP: a tile too large", i.code);
  }
}

float brain(std::uint16_t bits) {
  if ((bits & 0x7F80) == 0) bits &= 0x8000;  // subnormal numbers are zero
  const std::uint32_t word = std::uint32_t{bits} << 16;
  return read<float>(&word);
}
float flushed(float x) { return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0F, x) : x; }

void multiply(const Instruction& i, bool int8) {
  const int c = i.reg;
  const int a = i.rm;
  const int b = i.vvvv;
  if (b > 7 || c == a || c == b || a == b) refuse("#UD: tiles must differ", i.code);
  if (state.rows[c] != state.rows[a] || state.bytes[c] != state.bytes[b] ||
      state.bytes[a] != 4 * state.rows[b]) {
    refuse("#UD: shapes do not fit", i.code);
  }
  for (int m = 0; m < state.rows[c]; ++m) {
    for (int n = 0; n < state.bytes[b]; n += 4) {
      std::uint8_t* to = state.tile[c][m] + n;
      auto sum = read<std::int32_t>(to);
      float even = 0;
      float odd = 0;
      for (int k = 0; k < state.rows[b]; ++k) {
        const std::uint8_t* x = state.tile[a][m] + 4 * k;
        const std::uint8_t* y = state.tile[b][k] + n;
        if (int8) {
          for (int byte = 0; byte < 4; ++byte) {
            sum += static_cast<std::int8_t>(x[byte]) * static_cast<std::int8_t>(y[byte]);
          }
        } else {
          even =
              flushed(std::fma(brain(read<std::uint16_t>(x)), brain(read<std::uint16_t>(y)), even));
          odd = flushed(
              std::fma(brain(read<std::uint16_t>(x + 2)), brain(read<std::uint16_t>(y + 2)), odd));
        }
      }
      if (int8) {
        std::memcpy(to, &sum, 4);
      } else {
        const float total = flushed(flushed(read<float>(to)) + flushed(even + odd));
        std::memcpy(to, &total, 4);
      }
    }
  }
}

/// VPDPBUSD of three ymm registers, which lie in two halves in the signal's XSAVE area.
void multiply_vectors(const Instruction& i, fpregset_t saved) {
  auto* low = reinterpret_cast<std::uint8_t*>(saved->_xmm);
  auto* all = reinterpret_cast<std::uint8_t*>(saved);
  std::uint8_t* high = all + 576;
  const auto lane = [&](int reg, int n) { return (n < 4 ? low : high) + 16 * reg + 4 * (n % 4); };
  for (int n = 0; n < 8; ++n) {
    auto sum = read<std::int32_t>(lane(i.reg, n));
    for (int byte = 0; byte < 4; ++byte) {
      sum += lane(i.vvvv, n)[byte] * static_cast<std::int8_t>(lane(i.rm, n)[byte]);
    }
    std::memcpy(lane(i.reg, n), &sum, 4);
  }
  all[512] |= 6;  // XSTATE_BV: both halves are to be restored
}

void handle(int, siginfo_t*, void* context_of_signal) {
  auto* context = static_cast<ucontext_t*>(context_of_signal);
  const Instruction i = decode(context);
  Counted what = kCounted;
  if (i.op == 0x50 && i.pp == 1 && i.is_256 && !i.memory) {
    what = Vnni;
    multiply_vectors(i, context->uc_mcontext.fpregs);
  } else if (i.wide || i.is_256 || i.reg > 7) {
    refuse("not an instruction that is emulated", i.code);
  } else if (i.op == 0x49 && i.pp == 0) {
    what = i.memory ? Config : Release;
    if (i.memory) {
      configure(i);
    } else {
      state = {};
    }
  } else if (!state.configured) {
    refuse("#UD: no configuration", i.code);
  } else if (i.op == 0x49 && i.pp == 3 && !i.memory) {
    what = Zero;
    std::memset(state.tile[i.reg], 0, sizeof state.tile[i.reg]);
  } else if (i.op == 0x4B && i.pp >= 2 && i.has_index) {
    what = i.pp == 3 ? Load : Store;
    if (what == Load) std::memset(state.tile[i.reg], 0, sizeof state.tile[i.reg]);
    for (int r = 0; r < state.rows[i.reg]; ++r) {
      std::uint8_t* row = i.base + r * i.index;
      void* to = what == Load ? state.tile[i.reg][r] : row;
      std::memcpy(to, what == Load ? row : state.tile[i.reg][r], state.bytes[i.reg]);
    }
  } else if ((i.op == 0x5E && i.pp == 3) || (i.op == 0x5C && i.pp == 2)) {
    what = i.op == 0x5E ? Int8 : Brain;
    multiply(i, what == Int8);
  } else {
    refuse("not an instruction that is emulated", i.code);
  }
  ++counts[what];
  context->uc_mcontext.gregs[REG_RIP] += i.length;
}

__attribute__((constructor)) void install() {
  struct sigaction action = {};
  action.sa_sigaction = handle;
  action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESTART;
  sigaction(SIGILL, &action, nullptr);
}

__attribute__((destructor)) void tell() {
  std::fprintf(stderr, "emulated:");
  for (int i = 0; i < kCounted; ++i) std::fprintf(stderr, " %s %ld", kNames[i], counts[i].load());
  std::fprintf(stderr, "\n");
}

}  // namespace
