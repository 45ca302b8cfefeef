// Between F32 and the pairs of BF16 that rounded attention multiplies (attention_table.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cpu/attention_table.h"

namespace fathom::cpu {

template <class S>
struct RoundedLayout {
  using F = typename S::F;
  using I = typename S::I;
  static constexpr std::size_t L = S::kLanes;
  static constexpr std::size_t kPairs = 16;  // of elements that a tile holds in a row

  /// The bits of x as BF16, to nearest and ties to even, in the low half of each lane.
  static I rounded(F x) {
    const I bits = S::bits(x);
    const I even = S::bit_and(S::right(bits, 16), S::all_words(1));
    return S::right(S::add_words(bits, S::add_words(even, S::all_words(0x7FFF))), 16);
  }

  static void round_row(const float* x, std::size_t count, std::uint16_t* out) {
    for (std::size_t i = 0; i < count; i += L) S::store_halves(out + i, rounded(S::load(x + i)));
  }

  static void round_columns(const float* columns, std::size_t stride, std::size_t count,
                            std::uint16_t* out, std::size_t out_row) {
    for (std::size_t lane = 0; lane < 16; lane += L) {
      for (std::size_t i = 0; i < count; i += 2 * L) {
        F pairs[L];
        for (std::size_t l = 0; l < L; ++l) {
          const float* at = columns + (i + 2 * l) * stride + lane;
          pairs[l] = S::from_bits(
              S::bit_or(rounded(S::load(at)), S::left(rounded(S::load(at + stride)), 16)));
        }
        S::transpose(pairs);
        for (std::size_t l = 0; l < L; ++l) {
          S::store_words(out + (lane + l) * out_row + i, S::bits(pairs[l]));
        }
      }
    }
  }

  static void round_panel(const float* panel, std::size_t rows, std::uint16_t* out) {
    for (std::size_t k = 0; k < rows; k += 2 * kPairs) {
      for (std::size_t i = 0; i < kPairs; ++i, panel += 16, out += 32) {
        const bool partner = k + kPairs + i < rows;
        for (std::size_t lane = 0; lane < 16; lane += L) {
          I word = rounded(S::load(panel + lane));
          if (partner) {
            const I other = rounded(S::load(panel + 16 * kPairs + lane));
            word = S::bit_or(word, S::left(other, 16));
          }
          S::store_words(out + 2 * lane, word);
        }
      }
      panel += 16 * kPairs;
    }
  }

  static void split_entries(const std::byte* in, std::size_t in_stride, std::size_t rows,
                            std::size_t width, std::uint16_t* out, std::size_t out_row) {
    const I high = S::all_words(0xFFFF0000U);
    const I low = S::all_words(0xFFFFU);
    for (std::size_t r = 0; r < rows; ++r, in += in_stride, out += 2 * out_row) {
      for (std::size_t k = 0; k < width; k += 2 * kPairs) {
        const bool partner = width - k > kPairs;
        for (std::size_t i = 0; i < kPairs; i += L) {
          const I first = S::words(in + 4 * (k + i));
          const I second = partner ? S::words(in + 4 * (k + kPairs + i)) : S::all_words(0);
          S::store_words(out + k + 2 * i, S::bit_or(S::bit_and(first, low), S::left(second, 16)));
          S::store_words(out + out_row + k + 2 * i,
                         S::bit_or(S::right(first, 16), S::bit_and(second, high)));
        }
      }
    }
  }

  /// The kernels of rounded attention but for the product.
  static constexpr RoundedKernels kernels() {
    RoundedKernels k;
    k.round_row = &round_row;
    k.round_columns = &round_columns;
    k.round_panel = &round_panel;
    k.split_entries = &split_entries;
    return k;
  }
};

}  // namespace fathom::cpu
