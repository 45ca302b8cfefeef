#include "grammar/automaton.h"

#include <algorithm>
#include <map>

#include "base/error.h"

namespace fathom::grammar {
namespace {

constexpr std::size_t kMostThreads = 5000;            // of a state
constexpr std::size_t kMostThreadsOfAll = 4'000'000;  // of all states: some 100 MB
constexpr std::size_t kMostFrames = 2'000'000;
constexpr std::uint32_t kMostDepth = 500;     // deeper is as if the language did not go there
constexpr std::size_t kMostSteps = 100'000;   // of one closure: some 50 ms
constexpr std::size_t kMostWork = 1'500'000;  // of one mask: some 0.1 s, where 2 ms are usual

std::uint64_t mix(std::uint64_t hash, std::uint64_t value) {
  hash ^= value + 0x9E3779B97F4A7C15U + (hash << 6) + (hash >> 2);
  return hash * 0xFF51AFD7ED558CCDU;
}

std::uint64_t key(std::uint32_t node, std::uint32_t frame) {
  return std::uint64_t{node} << 32 | frame;
}

}  // namespace

Automaton::Automaton(std::shared_ptr<const Grammar> grammar, std::uint32_t reach)
    : grammar_(std::move(grammar)), reach_(reach) {
  find_classes();
  frames_.push_back({});
  far_frames_.push_back(kBottom);
  std::vector<Thread> threads;
  bool accepts = false;
  close({grammar_->start, kBottom}, threads, accepts);
  start_ = intern(std::move(threads), accepts);
}

void Automaton::find_classes() {
  std::map<std::vector<bool>, std::uint8_t> classes;
  for (unsigned b = 0; b < 256; ++b) {
    std::vector<bool> in(grammar_->sets.size());
    for (std::size_t s = 0; s < in.size(); ++s) in[s] = grammar_->sets[s][b];
    const auto [found, fresh] =
        classes.emplace(std::move(in), static_cast<std::uint8_t>(classes.size()));
    if (fresh) byte_of_class_.push_back(static_cast<std::uint8_t>(b));
    class_of_[b] = found->second;
  }
}

std::uint32_t Automaton::frame(Frame made) {
  std::uint64_t hash = mix(mix(1, key(made.node, made.parent)), key(made.least, made.most));
  for (const std::uint32_t f : frame_ids_[hash]) {
    if (frames_[f] == made) return f;
  }
  require(frames_.size() < kMostFrames, ErrorCode::ResourceLimit,
          "the text nests and repeats in too many ways for its grammar");
  made.depth = frames_[made.parent].depth + 1;
  frames_.push_back(made);
  far_frames_.push_back(kBottom);
  const auto id = static_cast<std::uint32_t>(frames_.size() - 1);
  frame_ids_[hash].push_back(id);
  return id;
}

std::uint32_t Automaton::far_frame(std::uint32_t f) {
  // Stacks are at most kMostDepth deep, but a loop needs no argument.
  std::vector<std::uint32_t> open;
  for (std::uint32_t at = f; at != kBottom && far_frames_[at] == kBottom; at = frames_[at].parent) {
    open.push_back(at);
  }
  for (std::size_t i = open.size(); i-- > 0;) {
    Frame cut = frames_[open[i]];
    cut.parent = far_frames_[cut.parent];
    cut.least = std::min(cut.least, reach_);
    if (cut.most != kUnbounded) cut.most = std::min(cut.most, reach_);
    const std::uint32_t made = frame(cut);
    far_frames_[open[i]] = made;
    far_frames_[made] = made;
  }
  return far_frames_[f];
}

void Automaton::close(Thread from, std::vector<Thread>& out, bool& accepts) {
  seen_.clear();
  open_.assign(1, from);
  std::size_t steps = 0;
  const auto go = [&](std::uint32_t node, std::uint32_t f) { open_.push_back({node, f}); };
  const auto again = [&](std::uint32_t node, std::uint32_t parent, std::uint32_t least,
                         std::uint32_t most) {
    const Node& n = grammar_->nodes[node];
    if (least == 0) go(n.next, parent);
    if (most == 0 || frames_[parent].depth >= kMostDepth) return;
    const std::uint32_t left = most == kUnbounded ? most : most - 1;
    go(n.other, frame({node, parent, least == 0 ? 0 : least - 1, left, 0}));
  };
  while (!open_.empty()) {
    const Thread thread = open_.back();
    open_.pop_back();
    if (!seen_.insert(key(thread.node, thread.frame)).second) continue;
    require(++steps < kMostSteps && ++work_ < kMostWork, ErrorCode::ResourceLimit,
            "the grammar is too ambiguous");
    const Node& n = grammar_->nodes[thread.node];
    switch (n.kind) {
      case Node::Kind::Bytes:
        if (grammar_->sets[n.set].any()) out.push_back(thread);
        break;
      case Node::Kind::Split:
        if (n.other != n.next) go(n.other, thread.frame);
        go(n.next, thread.frame);
        break;
      case Node::Kind::Call:
        // A rule that ends with this call needs no place to return to.
        if (grammar_->nodes[n.next].kind == Node::Kind::End) {
          go(n.other, thread.frame);
        } else if (frames_[thread.frame].depth < kMostDepth) {
          go(n.other, frame({thread.node, thread.frame, 0, 0, 0}));
        }
        break;
      case Node::Kind::Repeat:
        again(thread.node, thread.frame, n.least, n.most);
        break;
      case Node::Kind::End: {
        if (thread.frame == kBottom) {
          accepts = true;
          break;
        }
        const Frame f = frames_[thread.frame];
        if (grammar_->nodes[f.node].kind == Node::Kind::Call) {
          go(grammar_->nodes[f.node].next, f.parent);
        } else {
          again(f.node, f.parent, f.least, f.most);
        }
        break;
      }
    }
  }
}

Automaton::State Automaton::intern(std::vector<Thread> threads, bool accepts) {
  if (threads.empty() && !accepts) return kDead;
  std::ranges::sort(threads);
  threads.erase(std::unique(threads.begin(), threads.end()), threads.end());
  require(threads.size() <= kMostThreads, ErrorCode::ResourceLimit,
          "the grammar is too ambiguous: {} ways to go on", threads.size());
  std::uint64_t hash = accepts ? 1 : 2;
  for (const Thread& thread : threads) hash = mix(hash, key(thread.node, thread.frame));
  std::vector<State>& same = state_ids_[hash];
  for (const State s : same) {
    if (states_[at(s)].accepts == accepts && states_[at(s)].threads == threads) return s;
  }
  threads_ += threads.size() + 1;
  require(threads_ < kMostThreadsOfAll, ErrorCode::ResourceLimit,
          "the text leads to too many states of its grammar");
  StateOf made;
  made.threads = std::move(threads);
  made.accepts = accepts;
  states_.push_back(std::move(made));
  same.push_back(static_cast<State>(states_.size() - 1));
  return same.back();
}

Automaton::State Automaton::next(State state, std::uint8_t byte) {
  StateOf& of = states_[at(state)];
  const std::size_t cls = class_of_[byte];
  if (of.next.empty()) of.next.assign(byte_of_class_.size(), kUnknown);
  if (of.next[cls] != kUnknown) return of.next[cls];
  std::vector<Thread> threads;
  bool accepts = false;
  for (std::size_t t = 0; t < states_[at(state)].threads.size(); ++t) {
    const Thread thread = states_[at(state)].threads[t];
    const Node& n = grammar_->nodes[thread.node];
    if (grammar_->sets[n.set][byte]) close({n.next, thread.frame}, threads, accepts);
  }
  const State to = intern(std::move(threads), accepts);
  states_[at(state)].next[cls] = to;
  return to;
}

bool Automaton::worn() const {
  return threads_ > kMostThreadsOfAll / 8 || frames_.size() > kMostFrames / 8;
}

Automaton::State Automaton::far_of(State state) {
  if (states_[at(state)].far != kUnknown) return states_[at(state)].far;
  std::vector<Thread> threads = states_[at(state)].threads;
  for (Thread& thread : threads) thread.frame = far_frame(thread.frame);
  const State far = intern(std::move(threads), states_[at(state)].accepts);
  states_[at(state)].far = far;
  return far;
}

}  // namespace fathom::grammar
