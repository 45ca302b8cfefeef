// A grammar's language as an automaton whose states are made when they are first reached.
//
// A state is the set of threads that the text so far leaves alive: each a node that waits for a
// byte, and a stack of frames, which say where rules return to and how often repetitions may go on.
// Stacks share their frames, and equal frames and equal states are one, so that states compare by
// number and remember where each byte leads. Bytes that no node tells apart share an entry.
//
// What may follow within one token does not depend on counts that no token can reach: far_of() maps
// a state to the one whose counts are cut off there, so that all of a long bounded text but its end
// shares a mask (token_mask.h).
//
// Not thread-safe: the engine's thread walks it.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "grammar/grammar.h"

namespace fathom::grammar {

class Automaton {
 public:
  using State = std::int32_t;
  static constexpr State kDead = -1;

  /// `reach`: the most bytes that one token has.
  Automaton(std::shared_ptr<const Grammar> grammar, std::uint32_t reach);

  State start() const { return start_; }
  /// kDead if no text of the language goes on with this byte. Throws Error(ResourceLimit) when the
  /// grammar is so ambiguous, or the text so deep, that a state or all of them grow too large.
  State next(State state, std::uint8_t byte);
  /// The text so far is one of the language.
  bool accepts(State state) const { return states_[at(state)].accepts; }
  /// Nothing may follow it.
  bool ends(State state) const { return states_[at(state)].threads.empty(); }
  State far_of(State state);
  /// From now on next() may do so much work, then throws Error(ResourceLimit): one request's
  /// grammar must not hold up all others.
  void begin_work() { work_ = 0; }
  /// How much it did since.
  std::size_t work() const { return work_; }
  /// A good part of what all states may take has been taken.
  bool worn() const;

 private:
  static constexpr State kUnknown = -2;
  static constexpr std::uint32_t kBottom = 0;  // the frame under the first rule

  struct Frame {
    std::uint32_t node = 0;  // a Call or Repeat
    std::uint32_t parent = 0;
    std::uint32_t least = 0;  // of a Repeat: times still needed, and still allowed
    std::uint32_t most = 0;
    std::uint32_t depth = 0;
    bool operator==(const Frame& o) const {
      return node == o.node && parent == o.parent && least == o.least && most == o.most;
    }
  };
  struct Thread {
    std::uint32_t node = 0;
    std::uint32_t frame = 0;
    auto operator<=>(const Thread&) const = default;
  };
  struct StateOf {
    std::vector<Thread> threads;  // sorted; on Bytes nodes
    bool accepts = false;
    State far = kUnknown;
    std::vector<State> next;  // by class of bytes
  };
  static std::size_t at(State state) { return static_cast<std::size_t>(state); }
  void find_classes();
  std::uint32_t frame(Frame frame);
  std::uint32_t far_frame(std::uint32_t f);
  /// Adds the threads that wait for a byte, reached from `from` without one.
  void close(Thread from, std::vector<Thread>& out, bool& accepts);
  State intern(std::vector<Thread> threads, bool accepts);

  std::shared_ptr<const Grammar> grammar_;
  std::uint32_t reach_;
  std::array<std::uint8_t, 256> class_of_{};
  std::vector<std::uint8_t> byte_of_class_;  // one of its bytes
  std::vector<Frame> frames_;
  std::vector<std::uint32_t> far_frames_;  // by frame; 0 where not asked yet (but for kBottom)
  std::unordered_map<std::uint64_t, std::vector<std::uint32_t>> frame_ids_;  // by hash
  std::vector<StateOf> states_;
  std::unordered_map<std::uint64_t, std::vector<State>> state_ids_;  // by hash
  std::size_t threads_ = 0;                                          // of all states
  std::size_t work_ = 0;  // threads looked at since begin_work()
  State start_ = kDead;
  // Room for close(), kept between calls.
  std::vector<Thread> open_;
  std::unordered_set<std::uint64_t> seen_;
};

}  // namespace fathom::grammar
