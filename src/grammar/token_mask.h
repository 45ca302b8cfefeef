// Which tokens may come next: a state of the automaton against the whole vocabulary.
#pragma once

#include <atomic>
#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/ids.h"
#include "grammar/automaton.h"

namespace fathom::grammar {

/// How a control token stands in a grammar and in a TokenTable: no text can be mistaken for it, for
/// 0xFF is in no UTF-8.
inline std::string control_symbol(std::string_view piece) { return "\xFF" + std::string(piece); }

/// Tokens' bytes, sorted, so that a walk shares what neighbours begin with. Made once a vocabulary.
class TokenTable {
 public:
  /// Longer tokens are never allowed.
  static constexpr std::size_t kLongest = 200;

  /// pieces[id]: a token's bytes, or a control_symbol(); "" for one that is never allowed. The
  /// views need not outlive this call.
  explicit TokenTable(std::span<const std::string_view> pieces);

  std::size_t vocab_size() const { return vocab_size_; }
  std::uint32_t longest() const { return longest_; }
  std::string_view bytes(TokenId id) const;

 private:
  friend class TokenMasks;
  struct Entry {
    std::int32_t id;
    std::uint32_t offset;
    std::uint8_t length;
    std::uint8_t shared;  // bytes with the entry before it
  };
  std::size_t vocab_size_;
  std::uint32_t longest_ = 1;
  std::string text_;
  std::vector<Entry> entries_;           // by bytes
  std::vector<std::uint32_t> begin_;     // [257], the first entry by first byte
  std::vector<std::uint32_t> entry_of_;  // [vocab_size], or kNone
  static constexpr std::uint32_t kNone = 0xFFFFFFFFU;
};

/// A bit a token.
using TokenMask = std::vector<std::uint64_t>;
inline bool allows(const TokenMask& mask, TokenId id) {
  const auto i = static_cast<std::size_t>(value(id));
  return i / 64 < mask.size() && (mask[i / 64] >> (i % 64) & 1U) != 0;
}

/// A grammar's masks, kept for states that come again. Not thread-safe, but for worn().
class TokenMasks {
 public:
  TokenMasks(std::shared_ptr<const Grammar> grammar, std::shared_ptr<const TokenTable> tokens);

  /// Valid until the next call.
  const TokenMask& mask(Automaton::State state);
  /// kDead if the token is not allowed.
  Automaton::State accept(Automaton::State state, TokenId token);

  Automaton& automaton() { return automaton_; }
  /// So much of the automaton has been made that the next request should begin with a new one. Any
  /// thread may ask.
  bool worn() const { return worn_; }

 private:
  static constexpr std::size_t kKept = 256;
  void compute(Automaton::State state, TokenMask& mask);

  std::shared_ptr<const TokenTable> tokens_;
  Automaton automaton_;
  std::atomic<bool> worn_ = false;
  std::list<std::pair<Automaton::State, TokenMask>> kept_;  // the last used first
  std::unordered_map<Automaton::State, decltype(kept_)::iterator> where_;
};

}  // namespace fathom::grammar
