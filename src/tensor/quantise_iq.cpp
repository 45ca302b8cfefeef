// Encoders of the lattice types: IQ1, IQ2 and IQ3.
//
// All go the same way. Sub-block by sub-block, trial scales are spread over a range; each trial
// rounds to the lattice (codebook.h), and the ranks, once fixed, give the best scale by least
// squares; the trial that leaves the smallest weighted error wins. Then the super-block's F16 scale
// is chosen so that the sub-blocks' scales, odd multiples of it, round well; each sub-block's
// multiple is reconsidered with the data in view; and a last fit over all ranks moves the F16
// scale.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "tensor/block_fit.h"
#include "tensor/codebook.h"
#include "tensor/encode.h"
#include "tensor/lattices.h"

namespace fathom::encode {
namespace {

// ---- the lattices as codebooks ---------------------------------------------------------------

template <typename Word, std::size_t Count, std::size_t Levels>
Codebook codebook(const std::array<Word, Count>& points,
                  const std::array<std::uint8_t, Levels>& levels) {
  std::vector<std::uint8_t> digits(Count * sizeof(Word));
  std::memcpy(digits.data(), points.data(), digits.size());
  return {digits, sizeof(Word), std::vector<float>(levels.begin(), levels.end())};
}

// Made when first used: some take tens of milliseconds.
const Codebook& iq2_xxs() {
  static const Codebook made = codebook(lattice::kIq2Xxs, lattice::kIq2Levels);
  return made;
}
const Codebook& iq2_xs() {
  static const Codebook made = codebook(lattice::kIq2Xs, lattice::kIq2Levels);
  return made;
}
const Codebook& iq2_s() {
  static const Codebook made = codebook(lattice::kIq2S, lattice::kIq2Levels);
  return made;
}
const Codebook& iq3_xxs() {
  static const Codebook made = codebook(lattice::kIq3Xxs, lattice::kIq3XxsLevels);
  return made;
}
const Codebook& iq3_s() {
  static const Codebook made = codebook(lattice::kIq3S, lattice::kIq3SLevels);
  return made;
}
/// IQ1's digits moved by an eighth up (0) or down (1), in units of eighths.
const Codebook& iq1(std::size_t minus) {
  static const Codebook plus = codebook(lattice::kIq1, std::array<std::uint8_t, 3>{0, 1, 2});
  static const std::array<Codebook, 2> made{Codebook(plus, std::array{-7.0F, 1.0F, 9.0F}),
                                            Codebook(plus, std::array{-9.0F, -1.0F, 7.0F})};
  return made[minus];
}

// ---- a super-block -----------------------------------------------------------------------------

/// The data, and what an error in each element costs. For types with signs x is without them.
struct Input {
  alignas(16) float x[kSuperBlock];
  alignas(16) float w[kSuperBlock];
  std::uint8_t signs[kSuperBlock / 8] = {};  // of octets
};

/// False if the block is zero as far as F16 scales can tell. Without importance large weights count
/// more, by the square: these types are too coarse to serve all.
bool weigh(const float* x, const float* importance, DType dtype, Input& in) {
  float largest = 0;
  double squares = 0;
  for (std::size_t i = 0; i < kSuperBlock; ++i) {
    in.x[i] = x[i];
    largest = std::max(largest, std::fabs(x[i]));
    squares += static_cast<double>(x[i]) * x[i];
  }
  require_codable(largest, dtype);
  if (largest < 1e-12F) return false;
  if (importance != nullptr) {
    weigh_by_importance(x, importance, in.w);
    return true;
  }
  double raw[kSuperBlock];
  for (std::size_t i = 0; i < kSuperBlock; ++i) {
    raw[i] = static_cast<double>(x[i]) * x[i] + 0.25 * squares / kSuperBlock;
  }
  normalise(raw, in.w);
  return true;
}

/// Takes signs off x. With `even`, each octet's number of negative elements is made even by
/// giving the wrong sign to the element where that costs least.
void take_signs(Input& in, bool even) {
  for (std::size_t octet = 0; octet < kSuperBlock / 8; ++octet) {
    float* x = in.x + 8 * octet;
    const float* w = in.w + 8 * octet;
    unsigned signs = 0;
    unsigned count = 0;
    std::size_t cheapest = 0;
    for (std::size_t k = 0; k < 8; ++k) {
      if (x[k] < 0) {
        x[k] = -x[k];
        signs |= 1U << k;
        ++count;
      }
      if (w[k] * x[k] * x[k] < w[cheapest] * x[cheapest] * x[cheapest]) cheapest = k;
    }
    if (even && count % 2 == 1) {
      signs ^= 1U << cheapest;
      x[cheapest] = -x[cheapest];
    }
    in.signs[octet] = static_cast<std::uint8_t>(signs);
  }
}

/// Which codebooks a sub-block's points may come from. IQ1's two differ in the shift: one for the
/// whole sub-block (IQ1_S), or each octet its own (IQ1_M).
struct Books {
  const Codebook* book[2] = {};
  std::size_t count = 1;
  bool mixed = false;
};

/// What a sub-block of n elements is coded as at one scale.
struct Coded {
  std::uint16_t rank[8] = {};
  std::uint8_t book[8] = {};
  double wqx = 0;  // sum of w q x
  double wqq = 0;  // sum of w q q
  /// The error at `scale`, less the sum of w x x.
  double error(double scale) const { return scale * (scale * wqq - 2 * wqx); }
  /// What the best scale explains of the sum of w x x.
  double gain() const { return wqx > 0 && wqq > 0 ? wqx * wqx / wqq : 0; }
};

void add_point(const Codebook& book, unsigned rank, const float* x, const float* w, double& wqx,
               double& wqq) {
  const float* q = book.values(rank);
  fit::Lanes product = fit::splat(0), square = fit::splat(0);
  for (std::size_t k = 0; k < book.dims(); k += 4) {
    const fit::Lanes wq = fit::load(w + k) * fit::load(q + k);
    product += wq * fit::load(x + k);
    square += wq * fit::load(q + k);
  }
  wqx += fit::sum(product);
  wqq += fit::sum(square);
}

/// Rounds to points of one book, or of each point's better one.
Coded code_with(const Books& books, std::size_t first, std::size_t last, const float* x,
                const float* w, std::size_t n, float scale) {
  Coded out;
  const std::size_t dims = books.book[0]->dims();
  for (std::size_t p = 0; p < n / dims; ++p, x += dims, w += dims) {
    double least = HUGE_VAL, best_wqx = 0, best_wqq = 0;
    for (std::size_t b = first; b <= last; ++b) {
      const unsigned rank = books.book[b]->nearest(x, w, scale);
      double wqx = 0, wqq = 0;
      add_point(*books.book[b], rank, x, w, wqx, wqq);
      const double error = scale * (scale * wqq - 2 * wqx);
      if (error >= least) continue;
      least = error;
      best_wqx = wqx;
      best_wqq = wqq;
      out.rank[p] = static_cast<std::uint16_t>(rank);
      out.book[p] = static_cast<std::uint8_t>(b);
    }
    out.wqx += best_wqx;
    out.wqq += best_wqq;
  }
  return out;
}

/// The best coding at a given scale.
Coded code(const Books& books, const float* x, const float* w, std::size_t n, float scale) {
  if (books.mixed || books.count == 1) {
    return code_with(books, 0, books.count - 1, x, w, n, scale);
  }
  const Coded a = code_with(books, 0, 0, x, w, n, scale);
  const Coded b = code_with(books, 1, 1, x, w, n, scale);
  return a.error(scale) <= b.error(scale) ? a : b;
}

/// Trial scales, in units of what lays the largest element (or so many times the root mean square,
/// whatever is less) on the highest level.
struct Trials {
  float first, step;
  int count;
};

/// The scale and coding of one sub-block alone. A scale of 0: nothing to code.
struct Best {
  float scale = 0;
  double wqq = 0;  // how much a deviation from the scale costs
};

Best fit_scale(const Books& books, const float* x, const float* w, std::size_t n, float unit,
               Trials trials) {
  Best best;
  if (!(unit > 0)) return best;
  double gain = 0;
  const auto attempt = [&](float scale) {
    const Coded coded = code(books, x, w, n, scale);
    if (!(coded.gain() > gain)) return false;
    gain = coded.gain();
    best = {static_cast<float>(coded.wqx / coded.wqq), coded.wqq};
    return true;
  };
  for (int k = 0; k < trials.count; ++k) {
    attempt(unit * (trials.first + trials.step * static_cast<float>(k)));
  }
  // All elements alike: the lattices have the point of lowest levels, but not of others.
  const float lowest = books.book[0]->lowest();
  if (lowest > 0) attempt(unit * books.book[0]->highest() / lowest);
  for (int round = 0; round < fit::kPolish && best.scale > 0; ++round) {
    if (!attempt(best.scale)) break;
  }
  return best;
}

/// What a super-block is coded as: element i's scale is d * (2 * factor + 1) of its sub-block.
struct SuperBlock {
  float d = 0;  // before rounding to F16
  std::uint8_t factor[16] = {};
  Coded coded[16];
};

/// The d for which odd multiples of it, up to 2 * highest + 1, come closest to the scales.
float odd_unit(const Best* best, std::size_t subs, int highest) {
  float most = 0;
  for (std::size_t s = 0; s < subs; ++s) most = std::max(most, best[s].scale);
  float d = 0;
  double least = HUGE_VAL;
  const auto top = static_cast<float>(2 * highest + 1);
  for (int k = 0; k < 40; ++k) {
    const float trial = most / (top * (0.70F + 0.02F * static_cast<float>(k)));
    double error = 0;
    for (std::size_t s = 0; s < subs; ++s) {
      const float multiple = std::clamp(fit::nearest(0.5F * (best[s].scale / trial - 1)), 0.0F,
                                        static_cast<float>(highest));
      const double miss = best[s].scale - trial * (2 * multiple + 1);
      error += best[s].wqq * miss * miss;
    }
    if (error < least) {
      least = error;
      d = trial;
    }
  }
  return d;
}

/// F16 keeps 11 bits; `unit` is what the format divides its scale by.
float as_f16(float d, float unit, DType dtype) {
  return f16_to_f32(scale_bits(d * unit, dtype)) / unit;
}

SuperBlock encode_super_block(const Books& books, const Input& in, std::size_t subs, int highest,
                              float unit, float rms_reach, Trials trials, DType dtype) {
  const std::size_t n = kSuperBlock / subs;
  Best best[16];
  for (std::size_t s = 0; s < subs; ++s) {
    const float* x = in.x + s * n;
    const float* w = in.w + s * n;
    float largest = 0;
    double squares = 0, weight = 0;
    for (std::size_t i = 0; i < n; ++i) {
      largest = std::max(largest, std::fabs(x[i]));
      squares += static_cast<double>(w[i]) * x[i] * x[i];
      weight += w[i];
    }
    // Where an outlier weighs nothing, the others set the scale.
    const auto reach = static_cast<float>(rms_reach * std::sqrt(squares / std::max(weight, 1e-30)));
    best[s] =
        fit_scale(books, x, w, n, std::min(largest, reach) / books.book[0]->highest(), trials);
  }
  SuperBlock out;
  out.d = odd_unit(best, subs, highest);
  for (int round = 0; round < 2; ++round) {
    const float d = as_f16(out.d, unit, dtype);
    if (!(d > 0)) return {};
    double wqx = 0, wqq = 0;
    for (std::size_t s = 0; s < subs; ++s) {
      const float* x = in.x + s * n;
      const float* w = in.w + s * n;
      const float wanted =
          round == 0 ? best[s].scale : d * static_cast<float>(2 * out.factor[s] + 1);
      const int middle = static_cast<int>(
          std::clamp(fit::nearest(0.5F * (wanted / d - 1)), 0.0F, static_cast<float>(highest)));
      double least = HUGE_VAL;
      for (int factor = std::max(0, middle - 1); factor <= std::min(highest, middle + 1);
           ++factor) {
        const float scale = d * static_cast<float>(2 * factor + 1);
        const Coded coded = code(books, x, w, n, scale);
        if (coded.error(scale) >= least) continue;
        least = coded.error(scale);
        out.factor[s] = static_cast<std::uint8_t>(factor);
        out.coded[s] = coded;
      }
      const double multiple = 2 * out.factor[s] + 1;
      wqx += multiple * out.coded[s].wqx;
      wqq += multiple * multiple * out.coded[s].wqq;
    }
    // All ranks and factors fixed, the scale once more.
    if (wqx > 0 && wqq > 0) out.d = static_cast<float>(wqx / wqq);
  }
  return out;
}

constexpr Trials kTrials2{0.70F, 0.05F, 13};
constexpr Trials kTrials3{0.76F, 0.04F, 13};
constexpr Trials kTrials1{0.20F, 0.06F, 14};

/// The sign byte's seven stored bits; the eighth follows (lattice::even_signs).
unsigned seven(const Input& in, std::size_t octet) { return in.signs[octet] & 127U; }

}  // namespace

// ---- IQ2 ---------------------------------------------------------------------------------------

void block(const float* x, const float* importance, BlockIQ2_XXS& out) {
  out = {};
  Input in;
  if (!weigh(x, importance, DType::IQ2_XXS, in)) return;
  take_signs(in, true);
  const SuperBlock best =
      encode_super_block({{&iq2_xxs()}}, in, 8, 15, 8, 4, kTrials2, DType::IQ2_XXS);
  out.d = scale_bits(best.d * 8, DType::IQ2_XXS);
  for (std::size_t s = 0; s < 8; ++s) {
    std::uint32_t ranks = 0;
    std::uint32_t word = static_cast<std::uint32_t>(best.factor[s]) << 28;
    for (std::size_t o = 0; o < 4; ++o) {
      ranks |= static_cast<std::uint32_t>(best.coded[s].rank[o]) << (8 * o);
      word |= seven(in, 4 * s + o) << (7 * o);
    }
    out.q[s][0] = ranks;
    out.q[s][1] = word;
  }
}

void block(const float* x, const float* importance, BlockIQ2_XS& out) {
  out = {};
  Input in;
  if (!weigh(x, importance, DType::IQ2_XS, in)) return;
  take_signs(in, true);
  const SuperBlock best =
      encode_super_block({{&iq2_xs()}}, in, 16, 15, 8, 4, kTrials2, DType::IQ2_XS);
  out.d = scale_bits(best.d * 8, DType::IQ2_XS);
  for (std::size_t octet = 0; octet < 32; ++octet) {
    const unsigned rank = best.coded[octet / 2].rank[octet % 2];
    out.q[octet] = static_cast<std::uint16_t>(rank | seven(in, octet) << 9);
  }
  for (std::size_t s = 0; s < 8; ++s) {
    out.scales[s] = static_cast<std::uint8_t>(best.factor[2 * s] | best.factor[2 * s + 1] << 4);
  }
}

void block(const float* x, const float* importance, BlockIQ2_S& out) {
  out = {};
  Input in;
  if (!weigh(x, importance, DType::IQ2_S, in)) return;
  take_signs(in, false);
  const SuperBlock best =
      encode_super_block({{&iq2_s()}}, in, 16, 15, 8, 4, kTrials2, DType::IQ2_S);
  out.d = scale_bits(best.d * 8, DType::IQ2_S);
  for (std::size_t octet = 0; octet < 32; ++octet) {
    const unsigned rank = best.coded[octet / 2].rank[octet % 2];
    out.q[octet] = static_cast<std::uint8_t>(rank);
    out.qh[octet / 4] =
        static_cast<std::uint8_t>(out.qh[octet / 4] | (rank >> 8) << (2 * (octet % 4)));
    out.signs[octet] = in.signs[octet];
  }
  for (std::size_t s = 0; s < 8; ++s) {
    out.scales[s] = static_cast<std::uint8_t>(best.factor[2 * s] | best.factor[2 * s + 1] << 4);
  }
}

// ---- IQ3 ---------------------------------------------------------------------------------------

void block(const float* x, const float* importance, BlockIQ3_XXS& out) {
  out = {};
  Input in;
  if (!weigh(x, importance, DType::IQ3_XXS, in)) return;
  take_signs(in, true);
  const SuperBlock best =
      encode_super_block({{&iq3_xxs()}}, in, 8, 15, 4, 5, kTrials3, DType::IQ3_XXS);
  out.d = scale_bits(best.d * 4, DType::IQ3_XXS);
  for (std::size_t s = 0; s < 8; ++s) {
    std::uint32_t word = static_cast<std::uint32_t>(best.factor[s]) << 28;
    for (std::size_t o = 0; o < 4; ++o) word |= seven(in, 4 * s + o) << (7 * o);
    out.signs[s] = word;
    for (std::size_t q = 0; q < 8; ++q) {
      out.q[8 * s + q] = static_cast<std::uint8_t>(best.coded[s].rank[q]);
    }
  }
}

void block(const float* x, const float* importance, BlockIQ3_S& out) {
  out = {};
  Input in;
  if (!weigh(x, importance, DType::IQ3_S, in)) return;
  take_signs(in, false);
  const SuperBlock best = encode_super_block({{&iq3_s()}}, in, 8, 15, 1, 5, kTrials3, DType::IQ3_S);
  out.d = scale_bits(best.d, DType::IQ3_S);
  for (std::size_t quad = 0; quad < 64; ++quad) {
    const unsigned rank = best.coded[quad / 8].rank[quad % 8];
    out.q[quad] = static_cast<std::uint8_t>(rank);
    out.qh[quad / 8] = static_cast<std::uint8_t>(out.qh[quad / 8] | (rank >> 8) << (quad % 8));
  }
  std::copy(std::begin(in.signs), std::end(in.signs), out.signs);
  for (std::size_t s = 0; s < 4; ++s) {
    out.scales[s] = static_cast<std::uint8_t>(best.factor[2 * s] | best.factor[2 * s + 1] << 4);
  }
}

// ---- IQ1 ---------------------------------------------------------------------------------------

void block(const float* x, const float* importance, BlockIQ1_S& out) {
  out = {};
  Input in;
  if (!weigh(x, importance, DType::IQ1_S, in)) return;
  const SuperBlock best =
      encode_super_block({{&iq1(0), &iq1(1)}, 2, false}, in, 8, 7, 8, 3, kTrials1, DType::IQ1_S);
  out.d = scale_bits(best.d * 8, DType::IQ1_S);
  for (std::size_t s = 0; s < 8; ++s) {
    unsigned word = static_cast<unsigned>(best.factor[s]) << 12;
    if (best.coded[s].book[0] != 0) word |= 0x8000U;
    for (std::size_t o = 0; o < 4; ++o) {
      const unsigned rank = best.coded[s].rank[o];
      out.q[4 * s + o] = static_cast<std::uint8_t>(rank);
      word |= (rank >> 8) << (3 * o);
    }
    out.qh[s] = static_cast<std::uint16_t>(word);
  }
}

void block(const float* x, const float* importance, BlockIQ1_M& out) {
  out = {};
  Input in;
  if (!weigh(x, importance, DType::IQ1_M, in)) return;
  const SuperBlock best =
      encode_super_block({{&iq1(0), &iq1(1)}, 2, true}, in, 16, 7, 8, 3, kTrials1, DType::IQ1_M);
  const unsigned d = scale_bits(best.d * 8, DType::IQ1_M);
  unsigned words[4];
  for (unsigned k = 0; k < 4; ++k) words[k] = (d >> (4 * k) & 15U) << 12;
  for (std::size_t octet = 0; octet < 32; ++octet) {
    const Coded& coded = best.coded[octet / 2];
    const unsigned rank = coded.rank[octet % 2];
    const unsigned nibble = (rank >> 8) | (coded.book[octet % 2] != 0 ? 8U : 0U);
    out.q[octet] = static_cast<std::uint8_t>(rank);
    out.qh[octet / 2] = static_cast<std::uint8_t>(out.qh[octet / 2] | nibble << (4 * (octet % 2)));
  }
  for (std::size_t s = 0; s < 16; ++s) {
    words[s / 4] |= static_cast<unsigned>(best.factor[s]) << (3 * (s % 4));
  }
  for (std::size_t k = 0; k < 4; ++k) out.scales[k] = static_cast<std::uint16_t>(words[k]);
}

}  // namespace fathom::encode
