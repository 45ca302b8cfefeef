// Random numbers that depend on nothing but where they are used: (seed, place) gives the same draw
// in any order, on any number of ranks, after any restart. So there is no generator's state to
// save.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace fathom::train {

/// SplitMix64's finaliser (doi 10.1145/2660193.2660195): every bit of the result depends on every
/// bit of the input.
constexpr std::uint64_t mix_bits(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15ULL;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

/// The draws of one place: Draws(seed, {kFim, epoch, document}).
class Draws {
  __extension__ using Wide = unsigned __int128;

 public:
  Draws(std::uint64_t seed, std::initializer_list<std::uint64_t> place) : state_(mix_bits(seed)) {
    for (const std::uint64_t part : place) state_ = mix_bits(state_ ^ part);
  }
  std::uint64_t next() { return mix_bits(state_ += 0x9E3779B97F4A7C15ULL); }
  /// In [0, 1).
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }
  /// In [0, n), for n > 0; each equally likely but for 2^-64.
  std::uint64_t below(std::uint64_t n) {
    return static_cast<std::uint64_t>((static_cast<Wide>(next()) * n) >> 64);
  }

 private:
  std::uint64_t state_;
};

}  // namespace fathom::train
