#include "engine/answer_grammar.h"

#include <algorithm>

#include "base/error.h"

namespace fathom {

AnswerGrammar::State AnswerGrammar::walk(std::string_view text) const {
  grammar::Automaton& automaton = request_.constraint->masks->automaton();
  State state = automaton.start();
  for (const char c : text) {
    if (state == grammar::Automaton::kDead) break;
    state = automaton.next(state, static_cast<std::uint8_t>(c));
  }
  return state;
}

const grammar::TokenMask* AnswerGrammar::allowed(std::size_t vocab_size, grammar::TokenMask& room) {
  if (!request_.constraint || state_ == kFree) return nullptr;
  const Constraint& constraint = *request_.constraint;
  if (state_ == kNotBegun) {
    if (!constraint.trigger.empty()) return nullptr;
    state_ = walk(constraint.begun);
    require(state_ != grammar::Automaton::kDead, ErrorCode::InvalidArgument,
            "what the answer is to begin with is no text of its grammar");
  }
  room = constraint.masks->mask(state_);
  room.resize((vocab_size + 63) / 64);
  if (constraint.masks->automaton().accepts(state_)) {
    for (const TokenId id : request_.stop_tokens) {
      const auto i = static_cast<std::size_t>(value(id));
      room[i / 64] |= std::uint64_t{1} << (i % 64);
    }
  }
  require(std::ranges::any_of(room, [](std::uint64_t word) { return word != 0; }),
          ErrorCode::InvalidArgument,
          "no token of the vocabulary goes on with the text that the grammar began");
  return &room;
}

void AnswerGrammar::follow(TokenId token, std::string_view piece) {
  const auto& stops = request_.stop_tokens;
  const bool free = !request_.constraint || state_ == kFree;
  if (free || std::ranges::find(stops, token) != stops.end()) return;
  if (state_ == kNotBegun) {
    watch_for_trigger(piece);
  } else {
    state_ = request_.constraint->masks->accept(state_, token);
  }
}

void AnswerGrammar::watch_for_trigger(std::string_view piece) {
  const Constraint& constraint = *request_.constraint;
  const std::string& trigger = constraint.trigger;
  watched_ += piece;
  const std::size_t found = watched_.find(trigger);
  const std::size_t words = watched_.find_first_not_of(" \t\r\n");
  if (found == std::string::npos || (constraint.trigger_at_start && found != words)) {
    const bool never =
        constraint.trigger_at_start && words != std::string::npos &&
        !std::string_view(trigger).starts_with(std::string_view(watched_).substr(words));
    if (never) state_ = kFree;
    if (!constraint.trigger_at_start && watched_.size() > 2 * trigger.size() + 256) {
      watched_.erase(0, watched_.size() - trigger.size());
    }
    return;
  }
  // The token may have gone on past the trigger.
  state_ = walk(std::string_view(watched_).substr(found + trigger.size()));
  // It writes something of its own: the reader sees it as it is.
  if (state_ == grammar::Automaton::kDead) state_ = kFree;
}

bool AnswerGrammar::ended() const {
  return state_ >= 0 && request_.constraint->masks->automaton().ends(state_);
}

}  // namespace fathom
