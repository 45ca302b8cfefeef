// The kernels of attention_table.h as templates over the lanes of simd_*.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "backend/cpu/attention_table.h"
#include "backend/cpu/kernel_trace.h"
#include "backend/cpu/tile_attention.h"
#include "backend/cpu/vector_math.h"

namespace fathom::cpu {

template <class S>
struct AttentionKernels {
  using F = typename S::F;
  static constexpr int L = S::kLanes;
  static constexpr int V = 16 / L;  // vectors of a group
  // Sums kept in registers: with sixteen lanes 4 groups of 6 rows or 1 of 12, with eight 1 of 6.
  static constexpr int kGroups = L == 16 ? 4 : 1;
  static constexpr int kSums = L == 16 ? 24 : L == 8 ? 6 : 1;

  // ---- the product --------------------------------------------------------------------------

  /// Rows of a panel that lie in one step, and how each is read.
  struct F32Panel {
    static constexpr int kRows = 1;
    static F load(const std::byte* p, int) { return S::load(reinterpret_cast<const float*>(p)); }
  };
  struct BF16Panel {
    static constexpr int kRows = 2;
    static F load(const std::byte* p, int row) {
      return row == 0 ? S::brain_even(p) : S::brain_odd(p);
    }
  };

  struct F16Panel {
    static constexpr int kRows = 2;
    static F load(const std::byte* p, int row) {
      const typename S::I both = S::words(p);
      return S::half_words(row == 0 ? S::bit_and(both, S::all_words(0xFFFFU)) : S::right(both, 16));
    }
  };

  /// What is to be added to an address in `here` for its counterpart in `next`.
  static std::ptrdiff_t distance(const std::byte* here, const std::byte* next) {
    if (next == nullptr) return 0;
    return static_cast<std::ptrdiff_t>(reinterpret_cast<std::uintptr_t>(next) -
                                       reinterpret_cast<std::uintptr_t>(here));
  }

  template <class Panel, int R, int T>
  static void tile(const PanelProduct& a, const std::byte* panel, const float* x, float* sums) {
    // Copies: what is stored might be `a` itself, for all that the compiler knows.
    const std::size_t panel_step = a.panel_step;
    const std::size_t panel_group = a.panel_group;
    const std::size_t x_row = a.x_row;
    const std::size_t x_step = a.x_step;
    const std::size_t sums_row = a.sums_row;
    const std::size_t sums_group = a.sums_group;
    const std::ptrdiff_t ahead = distance(a.panel, a.next);
    F acc[R * V * T];
    if (a.add) {
#pragma GCC unroll 12
      for (std::size_t t = 0; t < T; ++t) {
#pragma GCC unroll 16
        for (std::size_t v = 0; v < R * V; ++v) {
          acc[t * R * V + v] = S::load(sums + t * sums_row + v / V * sums_group + v % V * L);
        }
      }
    } else {
#pragma GCC unroll 24
      for (int i = 0; i < R * V * T; ++i) acc[i] = S::zero();
    }
    for (std::size_t step = a.steps; step > 0; --step, panel += panel_step) {
#pragma GCC unroll 2
      for (int row = 0; row < Panel::kRows; ++row, x += x_step) {
        // Else the compiler keeps both rows' words in registers that it does not have.
        if constexpr (Panel::kRows > 1) asm("" : "+r"(panel));
        if (Panel::kRows > 1 && row == 0) {
#pragma GCC unroll 4
          for (std::size_t r = 0; r < R; ++r) {
            __builtin_prefetch(panel + r * panel_group + ahead, 0, 2);
          }
        }
        F w[R * V];
#pragma GCC unroll 16
        for (std::size_t v = 0; v < R * V; ++v) {
          w[v] = Panel::load(panel + v / V * panel_group + v % V * L * 4, row);
        }
#pragma GCC unroll 12
        for (std::size_t t = 0; t < T; ++t) {
          const F xt = S::all(x[t * x_row]);
#pragma GCC unroll 16
          for (std::size_t v = 0; v < R * V; ++v) {
            acc[t * R * V + v] = S::fma(w[v], xt, acc[t * R * V + v]);
          }
        }
      }
    }
#pragma GCC unroll 12
    for (std::size_t t = 0; t < T; ++t) {
#pragma GCC unroll 16
      for (std::size_t v = 0; v < R * V; ++v) {
        S::store(sums + t * sums_row + v / V * sums_group + v % V * L, acc[t * R * V + v]);
      }
    }
  }

  /// The next smaller number of rows that has a kernel of its own.
  static constexpr int fewer(int rows) {
    constexpr int sizes[] = {12, 6, 4, 3, 2, 1, 0};
    for (const int size : sizes) {
      if (size < rows) return size;
    }
    return 0;
  }

  template <class Panel, int R, int T>
  static void rows(const PanelProduct& a, const std::byte* panel, const float* x, float* sums,
                   std::size_t count) {
    for (; count >= T; count -= T, x += T * a.x_row, sums += T * a.sums_row) {
      tile<Panel, R, T>(a, panel, x, sums);
    }
    if constexpr (T > 1) {
      if (count > 0) rows<Panel, R, fewer(T)>(a, panel, x, sums, count);
    }
  }

  template <class Panel, int R>
  static void groups(const PanelProduct& a, const std::byte* panel, float* sums,
                     std::size_t count) {
    constexpr int T = kSums / R < 12 ? kSums / R : 12;
    for (; count >= R; count -= R, panel += R * a.panel_group, sums += R * a.sums_group) {
      rows<Panel, R, T>(a, panel, a.x, sums, a.rows);
    }
    if constexpr (R > 1) {
      if (count > 0) groups<Panel, R / 2>(a, panel, sums, count);
    }
  }

  static void multiply(const PanelProduct& a) {
    if (a.dtype == DType::F32) {
      groups<F32Panel, kGroups>(a, a.panel, a.sums, a.groups);
    } else if (a.dtype == DType::F16) {
      groups<F16Panel, kGroups>(a, a.panel, a.sums, a.groups);
    } else {
      groups<BF16Panel, kGroups>(a, a.panel, a.sums, a.groups);
    }
  }

  // ---- changes of layout --------------------------------------------------------------------

  template <class Panel>
  static void unpack_rows(const std::byte* in, std::size_t in_stride, std::size_t rows,
                          std::size_t width, float* out, std::size_t out_stride,
                          std::ptrdiff_t ahead) {
    const std::size_t whole = width / 16 * 16;
    for (std::size_t r = 0; r < rows; ++r, in += in_stride, out += Panel::kRows * out_stride) {
      const auto group = [&](const std::byte* from, std::size_t i) {
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) {
          for (int row = 0; row < Panel::kRows; ++row) {
            S::store(out + static_cast<std::size_t>(row) * out_stride + i + v * L,
                     Panel::load(from + v * L * 4, row));
          }
        }
      };
      for (std::size_t i = 0; i < whole; i += 16) {
        __builtin_prefetch(in + 4 * i + ahead, 0, 2);
        group(in + 4 * i, i);
      }
      if (whole < width) {
        std::byte tail[64] = {};
        std::memcpy(tail, in + 4 * whole, 4 * (width - whole));
        group(tail, whole);
      }
    }
  }

  static void unpack(DType dtype, const std::byte* in, std::size_t in_stride, std::size_t rows,
                     std::size_t width, float* out, std::size_t out_stride, const std::byte* next) {
    const std::ptrdiff_t ahead = distance(in, next);
    if (dtype == DType::F32) {
      unpack_rows<F32Panel>(in, in_stride, rows, width, out, out_stride, ahead);
    } else if (dtype == DType::F16) {
      unpack_rows<F16Panel>(in, in_stride, rows, width, out, out_stride, ahead);
    } else {
      unpack_rows<BF16Panel>(in, in_stride, rows, width, out, out_stride, ahead);
    }
  }

  static void unpack_keys_q8(const std::byte* in, std::size_t words, const std::byte* scales,
                             float* out, const std::byte* next) {
    const std::ptrdiff_t ahead = distance(in, next);
    constexpr std::size_t kWords = 8;  // that share scales
    for (std::size_t w = 0; w < words; ++w, in += 64, out += 64) {
      __builtin_prefetch(in + ahead, 0, 2);
      const std::byte* scale = scales + w / kWords * 64 * 2;
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) {
        const F lanes = S::half(scale + 2 * v * L);
        const typename S::I codes = S::words(in + 4 * v * L);
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k) {
          S::store(out + 16 * k + v * L, S::mul(S::to_float(S::signed_byte(codes, k)), lanes));
        }
      }
    }
  }

  static void unpack_rows_q8(const std::byte* in, std::size_t in_stride, std::size_t rows,
                             std::size_t width, const std::byte* scales, float* out,
                             std::size_t out_stride, const std::byte* next) {
    const std::ptrdiff_t ahead = distance(in, next);
    constexpr std::size_t kShared = 32;  // elements that share a scale
    constexpr std::size_t kTokens = 64;
    for (std::size_t begin = 0; begin < width; begin += kShared, scales += 2 * kTokens) {
      const std::size_t count = width - begin < kShared ? width - begin : kShared;
      float scale[kTokens];
      for (std::size_t t = 0; t < 4 * rows; t += L) S::store(scale + t, S::half(scales + 2 * t));
      for (std::size_t r = 0; r < rows; ++r) {
        const std::byte* row = in + r * in_stride + 4 * begin;
        float* to = out + 4 * r * out_stride + begin;
        for (std::size_t i = 0; i < count; i += 16) {
          __builtin_prefetch(row + 4 * i + ahead, 0, 2);
          std::byte tail[64] = {};
          const std::byte* from = row + 4 * i;
          if (count - i < 16) {
            std::memcpy(tail, from, 4 * (count - i));
            from = tail;
          }
#pragma GCC unroll 16
          for (int v = 0; v < V; ++v) {
            const typename S::I codes = S::words(from + 4 * v * L);
#pragma GCC unroll 4
            for (std::size_t k = 0; k < 4; ++k) {
              const F x = S::to_float(S::signed_byte(codes, static_cast<int>(k)));
              S::store(to + k * out_stride + i + v * L, S::mul(x, S::all(scale[4 * r + k])));
            }
          }
        }
      }
    }
  }

  static void turn(const float* const* rows, std::size_t count, std::size_t dim, float* panel) {
    for (std::size_t lane = 0; lane < 16; lane += L) {
      for (std::size_t i = 0; i < dim; i += L) {
        const std::size_t width = dim - i < L ? dim - i : L;
        F block[L];
        for (std::size_t l = 0; l < L; ++l) {
          if (lane + l >= count) {
            block[l] = S::zero();
          } else if (width == L) {
            block[l] = S::load(rows[lane + l] + i);
          } else {
            float tail[L] = {};
            std::memcpy(tail, rows[lane + l] + i, width * sizeof(float));
            block[l] = S::load(tail);
          }
        }
        S::transpose(block);
        for (std::size_t l = 0; l < width; ++l) S::store(panel + 16 * (i + l) + lane, block[l]);
      }
    }
  }

  // ---- softmax ------------------------------------------------------------------------------

  static constexpr float kNever = -__builtin_inff();

  static void softmax_row(float* scores, std::size_t limit, std::size_t keys, float factor,
                          float* most, float* sum) {
    if (limit == 0) {
      std::memset(scores, 0, keys * sizeof(float));
      *most = kNever;
      *sum = 0;
      return;
    }
    const std::size_t padded = (limit + 15) / 16 * 16;
    for (std::size_t k = limit; k < padded; ++k) scores[k] = kNever;
    F high[V];
    for (int v = 0; v < V; ++v) high[v] = S::load(scores + v * L);
    for (std::size_t k = 16; k < padded; k += 16) {
      for (int v = 0; v < V; ++v) high[v] = S::max(high[v], S::load(scores + k + v * L));
    }
    for (int n = V / 2; n > 0; n /= 2) {
      for (int v = 0; v < n; ++v) high[v] = S::max(high[v], high[v + n]);
    }
    const float base = S::largest(high[0]) * factor;
    const F scale = S::all(factor);
    const F less = S::all(-base);
    F total[V];
    for (int v = 0; v < V; ++v) total[v] = S::zero();
    for (std::size_t k = 0; k < padded; k += 16) {
      for (int v = 0; v < V; ++v) {
        float* at = scores + k + v * L;
        const F weight = exp2<S>(S::fma(S::load(at), scale, less));
        S::store(at, weight);
        total[v] = S::add(total[v], weight);
      }
    }
    // exp2() does not reach 0; what its 2^-126 added to a sum of at least about 1 is nothing.
    for (std::size_t k = limit; k < padded || k < keys; ++k) scores[k] = 0;
    for (int n = V / 2; n > 0; n /= 2) {
      for (int v = 0; v < n; ++v) total[v] = S::add(total[v], total[v + n]);
    }
    *most = base;
    *sum = S::sum(total[0]);
  }

  static void softmax_columns(float* scores, std::size_t queries, const std::size_t* limits,
                              std::size_t keys, float factor, float* most, float* sum) {
    const std::size_t lanes = (queries + 15) / 16 * 16;
    const auto hide = [&](float value) {
      for (std::size_t q = 0; q < queries; ++q) {
        for (std::size_t k = limits[q]; k < keys; ++k) scores[k * lanes + q] = value;
      }
    };
    hide(kNever);
    const F scale = S::all(factor);
    for (std::size_t lane = 0; lane < lanes; lane += L) {
      float* column = scores + lane;
      // Four keys at a time: chains of additions and maxima would wait for each other.
      F high[4];
      for (int i = 0; i < 4; ++i) high[i] = S::load(column);
      std::size_t k = 0;
      for (; k + 4 <= keys; k += 4) {
        for (std::size_t i = 0; i < 4; ++i) {
          high[i] = S::max(high[i], S::load(column + (k + i) * lanes));
        }
      }
      for (; k < keys; ++k) high[0] = S::max(high[0], S::load(column + k * lanes));
      const F highest = S::max(S::max(high[0], high[1]), S::max(high[2], high[3]));
      // A query that sees nothing has no highest score: any finite number keeps NaN away.
      const F base = S::max(S::mul(highest, scale), S::all(-3.0e38F));
      const F less = S::sub(S::zero(), base);
      F total[4];
      for (int i = 0; i < 4; ++i) total[i] = S::zero();
      const auto weigh = [&](float* at, F& into) {
        const F weight = exp2<S>(S::fma(S::load(at), scale, less));
        S::store(at, weight);
        into = S::add(into, weight);
      };
      for (k = 0; k + 4 <= keys; k += 4) {
        for (std::size_t i = 0; i < 4; ++i) weigh(column + (k + i) * lanes, total[i]);
      }
      for (std::size_t i = 0; k < keys; ++k, ++i) weigh(column + k * lanes, total[i]);
      const F all = S::add(S::add(total[0], total[1]), S::add(total[2], total[3]));
      float bases[L];
      float sums[L];
      S::store(bases, base);
      S::store(sums, all);
      for (std::size_t l = 0; l < L && lane + l < queries; ++l) {
        const bool none = limits[lane + l] == 0;
        most[lane + l] = none ? kNever : bases[l];
        sum[lane + l] = none ? 0 : sums[l];
      }
    }
    hide(0);
  }

  // ---- parts of a context -------------------------------------------------------------------

  /// 2^x of one number, with the bits that every lane would give.
  static float power(float x) {
    float lanes[L];
    S::store(lanes, exp2<S>(S::all(x)));
    return lanes[0];
  }

  static void merge(float* most, float* sum, float* values, float part_most, float part_sum,
                    const float* part_values, std::size_t dim) {
    if (part_sum == 0) return;
    const float now = part_most > *most ? part_most : *most;
    const float a = power(*most - now);
    const float b = power(part_most - now);
    *sum = *sum * a + part_sum * b;
    *most = now;
    const F before = S::all(a);
    const F part = S::all(b);
    for (std::size_t i = 0; i < dim; i += L) {
      const F from = S::load(part_values + i);
      S::store(values + i, S::fma(from, part, S::mul(S::load(values + i), before)));
    }
  }

  static void write(const float* values, std::size_t dim, float sum, float* out) {
    ran(g_attention_ran, S::kLevel);
    const F divisor = S::all(sum);
    std::size_t i = 0;
    for (; i + L <= dim; i += L) S::store(out + i, S::div(S::load(values + i), divisor));
    for (; i < dim; ++i) out[i] = values[i] / sum;
  }

  static constexpr AttentionTable table() {
    AttentionTable t{S::kName, &multiply,    &unpack,          &unpack_keys_q8, &unpack_rows_q8,
                     &turn,    &softmax_row, &softmax_columns, &merge,          &write,
                     {}};
    if constexpr (requires { typename S::Tiles; }) {
      t.rounded = TileAttention<S, typename S::Tiles>::kernels();
    }
    return t;
  }
};

}  // namespace fathom::cpu
