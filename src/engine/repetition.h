// Notices that an answer goes round in circles: small models, and quantised ones, may repeat
// themselves until their context is full.
//
// The sign is that text of some length says nothing new: nearly each of its last 256 tokens ends a
// run of six that the answer has had three times before. A loop of n tokens is thus seen after its
// third round and 256 tokens, word for word or with small changes, while a list, a table of numbers
// or code that is shown twice goes by. Nothing is altered: the answer ends, and the reader is told.
#pragma once

#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <unordered_map>

#include "base/ids.h"

namespace fathom {

class RepetitionGuard {
 public:
  static constexpr std::size_t kRun = 6;
  static constexpr std::size_t kBefore = 3;
  static constexpr std::size_t kWindow = 256;
  static constexpr std::size_t kNew = 12;  // tokens of the window that may say something new

  /// Takes the answer's next token; true when it goes round in circles.
  bool push(TokenId id);

 private:
  std::array<TokenId, kRun> run_{};
  std::bitset<kWindow> fresh_;  // of the last kWindow tokens
  std::size_t tokens_ = 0;
  std::unordered_map<std::uint64_t, std::uint32_t> times_;  // by a hash of each run
};

}  // namespace fathom
