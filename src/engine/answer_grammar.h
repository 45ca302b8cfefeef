// Where an answer is in the grammar that its request has for it.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "engine/request.h"
#include "grammar/token_mask.h"

namespace fathom {

/// Used by the engine's thread, for the words of an answer; its thinking is free.
class AnswerGrammar {
 public:
  /// Refers to the request.
  explicit AnswerGrammar(const Request& request) : request_(request) {}

  /// The tokens that may come now, in `room`; null if anything goes. Throws Error(InvalidArgument)
  /// if nothing can go on.
  const grammar::TokenMask* allowed(std::size_t vocab_size, grammar::TokenMask& room);
  /// The answer has gone on with this token, whose bytes `piece` are.
  void follow(TokenId token, std::string_view piece);
  /// Nothing may follow any more.
  bool ended() const;

 private:
  using State = grammar::Automaton::State;
  static constexpr State kNotBegun = -3;
  static constexpr State kFree = -4;  // for good

  /// From the grammar's start over `text`; kDead if that is none of its texts.
  State walk(std::string_view text) const;
  void watch_for_trigger(std::string_view piece);

  const Request& request_;
  State state_ = kNotBegun;
  std::string watched_;  // the answer's last text, in which the trigger may be
};

}  // namespace fathom
