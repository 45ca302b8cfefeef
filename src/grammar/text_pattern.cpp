#include "grammar/text_pattern.h"

#include <map>
#include <utility>

#include "base/error.h"
#include "grammar/regex.h"

namespace fathom::grammar {
namespace {

constexpr std::size_t kMostPlaces = 10'000;

}  // namespace

/// The grammar's graph without rules and counts: each call and each repetition is written out. A
/// regular expression has no recursion, so that this ends.
class TextPattern::Layout {
 public:
  Layout(const Grammar& grammar, TextPattern& pattern) : grammar_(grammar), pattern_(pattern) {
    const std::uint32_t match = place({.kind = Place::Kind::Match});
    pattern_.start_ = at(grammar_.start, frame(match));
    // Patterns are as long as their file: no recursion.
    while (!open_.empty()) {
      const Open open = open_.back();
      open_.pop_back();
      lay(open);
    }
  }

 private:
  struct Open {
    std::uint32_t node, frame, place;
  };

  std::uint32_t place(Place made) {
    require(pattern_.places_.size() < kMostPlaces, ErrorCode::ResourceLimit,
            "the pattern needs more than {} places, its repetitions written out", kMostPlaces);
    pattern_.places_.push_back(made);
    return static_cast<std::uint32_t>(pattern_.places_.size() - 1);
  }
  std::uint32_t split(std::uint32_t next, std::uint32_t other) {
    return place({.kind = Place::Kind::Split, .next = next, .other = other});
  }
  /// A copy of a rule, after which `back` follows.
  std::uint32_t frame(std::uint32_t back) {
    frames_.push_back(back);
    return static_cast<std::uint32_t>(frames_.size() - 1);
  }
  /// The node's place in a copy of its rule.
  std::uint32_t at(std::uint32_t node, std::uint32_t frame) {
    const auto [found, fresh] = placed_.try_emplace({frame, node}, 0);
    if (fresh) {
      found->second = place({});
      open_.push_back({node, frame, found->second});
    }
    return found->second;
  }

  void lay(const Open& open) {
    const Node& n = grammar_.nodes[open.node];
    Place made;
    switch (n.kind) {
      case Node::Kind::Bytes:
        made = bytes(n, at(n.next, open.frame));
        break;
      case Node::Kind::Split:
        made.next = at(n.next, open.frame);
        made.other = at(n.other, open.frame);
        break;
      case Node::Kind::Call:
        made.next = made.other = at(n.other, frame(at(n.next, open.frame)));
        break;
      case Node::Kind::Repeat:
        made.next = made.other = repeat(n, at(n.next, open.frame));
        break;
      case Node::Kind::End:
        made.next = made.other = frames_[open.frame];
        break;
    }
    pattern_.places_[open.place] = made;
  }

  Place bytes(const Node& n, std::uint32_t next) const {
    const ByteSet& set = grammar_.sets[n.set];
    Place made{.kind = Place::Kind::Bytes, .set = n.set, .next = next};
    for (const std::uint8_t assertion : {kAtBegin, kAtEnd, kAtWordEdge, kNotAtWordEdge}) {
      if (!set[assertion]) continue;
      made.kind = Place::Kind::Assert;
      made.assertion = assertion;
    }
    return made;
  }

  std::uint32_t repeat(const Node& n, std::uint32_t after) {
    std::uint32_t begin = after;
    if (n.most == kUnbounded) {
      const std::uint32_t loop = place({});
      const std::uint32_t body = at(n.other, frame(loop));
      pattern_.places_[loop] = {.kind = Place::Kind::Split, .next = body, .other = after};
      begin = loop;
    } else {
      for (std::uint32_t i = n.least; i < n.most; ++i) {
        begin = split(at(n.other, frame(begin)), after);
      }
    }
    for (std::uint32_t i = 0; i < n.least; ++i) begin = at(n.other, frame(begin));
    return begin;
  }

  const Grammar& grammar_;
  TextPattern& pattern_;
  std::vector<std::uint32_t> frames_;
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint32_t> placed_;  // by frame and node
  std::vector<Open> open_;
};

TextPattern::TextPattern(std::string_view pattern, bool ignore_case) {
  Builder builder;
  const Builder::Rule root = builder.declare("pattern");
  builder.define(root, text_part(builder, pattern, ignore_case));
  const auto grammar = builder.compile(root);
  sets_ = grammar->sets;
  Layout(*grammar, *this);
  look_at_start();
}

void TextPattern::look_at_start() {
  std::vector<bool> seen(places_.size(), false);
  std::vector<std::uint32_t> open{start_};
  while (!open.empty()) {
    const std::uint32_t at = open.back();
    open.pop_back();
    if (seen[at]) continue;
    seen[at] = true;
    const Place& place = places_[at];
    require(place.kind != Place::Kind::Match, ErrorCode::InvalidArgument,
            "the pattern matches the empty text, which is everywhere");
    if (place.kind == Place::Kind::Bytes) {
      first_ |= sets_[place.set];
      continue;
    }
    open.push_back(place.next);
    if (place.kind == Place::Kind::Split) open.push_back(place.other);
  }
}

TextSearch::TextSearch(std::shared_ptr<const TextPattern> pattern)
    : pattern_(std::move(pattern)), seen_(pattern_->places_.size(), 0) {
  new_list();
}

std::optional<bool> TextSearch::holds(std::uint8_t assertion, Next next) const {
  if (assertion == kAtBegin) return at_begin_;
  if (next == Next::Unknown) return std::nullopt;
  if (assertion == kAtEnd) return next == Next::End;
  const bool edge = after_word_ != (next == Next::Word);
  return edge == (assertion == kAtWordEdge);
}

void TextSearch::add(std::uint32_t from, std::uint64_t begin, Next next, std::vector<Thread>& to) {
  open_.assign(1, from);
  while (!open_.empty()) {
    const std::uint32_t at = open_.back();
    open_.pop_back();
    if (std::exchange(seen_[at], list_) == list_) continue;
    const Place& place = pattern_->places_[at];
    switch (place.kind) {
      case Place::Kind::Bytes:
        to.push_back({at, begin});
        break;
      case Place::Kind::Split:
        open_.push_back(place.other);
        open_.push_back(place.next);
        break;
      case Place::Kind::Assert: {
        const std::optional<bool> known = holds(place.assertion, next);
        if (!known) {
          to.push_back({at, begin});
          waits_ = true;
        } else if (*known) {
          open_.push_back(place.next);
        }
        break;
      }
      case Place::Kind::Match:
        if (!matched_) matched_ = begin;
        break;
    }
  }
}

void TextSearch::settle(Next next) {
  if (!std::exchange(waits_, false)) return;
  new_list();
  following_.clear();
  for (const Thread& thread : threads_) add(thread.place, thread.begin, next, following_);
  std::swap(threads_, following_);
}

std::optional<TextSearch::Match> TextSearch::walk(std::uint8_t byte, std::uint64_t at) {
  const Next next = is_word(byte) ? Next::Word : Next::Other;
  settle(next);
  if (matched_) return Match{*matched_, true};
  // The list is still the one that the threads were added to: a place that one of them has taken
  // is not taken by a later beginning.
  add(pattern_->start_, at, next, threads_);
  new_list();
  following_.clear();
  at_begin_ = false;
  after_word_ = next == Next::Word;
  for (const Thread& thread : threads_) {
    const Place& place = pattern_->places_[thread.place];
    if (pattern_->sets_[place.set][byte]) add(place.next, thread.begin, Next::Unknown, following_);
  }
  std::swap(threads_, following_);
  if (!matched_) return std::nullopt;
  return Match{*matched_, false};
}

void TextSearch::reset() {
  threads_.clear();
  matched_.reset();
  new_list();
  waits_ = after_word_ = false;
  at_begin_ = true;
}

std::optional<TextSearch::Match> TextSearch::finish() {
  settle(Next::End);
  threads_.clear();
  if (!matched_) return std::nullopt;
  return Match{*matched_, false};
}

}  // namespace fathom::grammar
