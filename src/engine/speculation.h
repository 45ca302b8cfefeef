// Guesses of the tokens that come next, which the model checks in the same pass as the last one.
//
// A guess is what followed the last few tokens where they stood before (prompt lookup decoding): it
// is right where text is quoted, edited or counted up. Checking costs little while memory is the
// limit, since the weights are read once for all tokens of a pass. Nothing changes for the answer:
// at each place the token is drawn as it would be without guesses (from the same bits, with the
// same random numbers), and a guess counts only if it is that token. (With a model as the guesser
// and another test: speculative decoding, arXiv 2211.17192.)
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/ids.h"

namespace fathom {

/// One request's text as a place to look up what came after its last tokens.
class TokenLookup {
 public:
  /// Tokens that must be the same.
  static constexpr std::size_t kShortest = 3;

  /// What followed the latest earlier place of the last tokens: as many tokens as are the same
  /// there, at most `most`; none if there is no such place. `tokens`: all so far; calls of one
  /// lookup pass growing texts.
  std::vector<TokenId> guess(std::span<const TokenId> tokens, std::size_t most);

 private:
  std::unordered_map<std::uint64_t, std::size_t> after_;  // of each kShortest tokens, the last end
  std::size_t known_ = 0;                                 // tokens that are in after_
};

/// How often a request's guesses have been right of late.
class GuessRecord {
 public:
  void right() { probability_ += kStep * (1 - probability_); }
  void wrong() { probability_ -= kStep * probability_; }
  /// After a step without a guess: what is long past counts for less.
  void idle() { probability_ += kForget * (kPrior - probability_); }
  /// Tokens that `guesses` are expected to add: those before the first wrong one.
  double expected(std::size_t guesses) const;

 private:
  static constexpr double kPrior = 0.5;
  static constexpr double kStep = 0.1;
  static constexpr double kForget = 0.01;
  double probability_ = kPrior;
};

/// What passes of few tokens take on this machine with this model, measured as they happen.
class PassTimes {
 public:
  static constexpr std::size_t kMostTokens = 8;  // that the kernels take in one go

  void took(std::size_t tokens, std::chrono::duration<double> seconds);
  /// Seconds of a pass of 1 to kMostTokens tokens. What is not known counts as a shorter pass does,
  /// and what was not seen for long comes down to that, so that it is tried.
  double of(std::size_t tokens) const;

 private:
  static constexpr double kWeight = 0.2;    // of the last pass
  static constexpr double kForget = 0.005;  // of what a longer pass takes more, each shorter pass
  std::array<double, kMostTokens + 1> seconds_{};
};

/// How many of `offered` guesses to check beside `tokens` others of a pass that is expected to
/// write `written` tokens without them: as many as make it write most in a second.
std::size_t worthwhile(const PassTimes& times, const GuessRecord& record, std::size_t tokens,
                       double written, std::size_t offered);

}  // namespace fathom
