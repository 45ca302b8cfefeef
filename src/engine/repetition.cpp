#include "engine/repetition.h"

namespace fathom {

bool RepetitionGuard::push(TokenId id) {
  run_[tokens_ % kRun] = id;
  bool fresh = true;
  if (tokens_ + 1 >= kRun) {
    // FNV-1a of the run, oldest token first. Runs that share a hash by chance change nothing: it
    // takes hundreds of repeats in a row.
    std::uint64_t hash = 0xCBF29CE484222325ULL;
    for (std::size_t i = 1; i <= kRun; ++i) {
      hash ^= static_cast<std::uint32_t>(value(run_[(tokens_ + i) % kRun]));
      hash *= 0x100000001B3ULL;
    }
    fresh = times_[hash]++ < kBefore;
  }
  fresh_[tokens_ % kWindow] = fresh;
  ++tokens_;
  return tokens_ >= kWindow && fresh_.count() <= kNew;
}

}  // namespace fathom
