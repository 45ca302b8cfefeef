// What one forward pass computes: prefill, decode, many users and speculation are all just batches.
#pragma once

#include <cstddef>
#include <vector>

#include "base/ids.h"

namespace fathom {

/// Flat lists, one entry a token. Tokens of one sequence stand in order, at consecutive positions
/// that continue what the KvCache holds of it; sequences may be interleaved only as whole runs.
struct Batch {
  std::vector<TokenId> tokens;
  std::vector<SequenceId> sequences;
  std::vector<Position> positions;
  std::vector<bool> wants_logits;

  std::size_t size() const { return tokens.size(); }
  void add(TokenId token, SequenceId sequence, Position position, bool logits) {
    tokens.push_back(token);
    sequences.push_back(sequence);
    positions.push_back(position);
    wants_logits.push_back(logits);
  }
  void clear() { *this = {}; }
};

}  // namespace fathom
