#include "engine/speculation.h"

#include <algorithm>

namespace fathom {
namespace {

/// Three token ids in one number: vocabularies have less than 2^21 tokens.
std::uint64_t key_of(std::span<const TokenId> tokens) {
  std::uint64_t key = 0;
  for (const TokenId token : tokens) key = key << 21 | static_cast<std::uint32_t>(value(token));
  return key;
}

}  // namespace

std::vector<TokenId> TokenLookup::guess(std::span<const TokenId> tokens, std::size_t most) {
  constexpr std::size_t n = kShortest;
  if (tokens.size() <= n || most == 0) return {};
  // All places but the present one.
  for (std::size_t end = std::max(known_ + 1, n); end < tokens.size(); ++end) {
    after_[key_of(tokens.subspan(end - n, n))] = end;
  }
  known_ = tokens.size() - 1;
  const auto found = after_.find(key_of(tokens.last(n)));
  if (found == after_.end()) return {};
  const std::size_t end = found->second;
  std::size_t same = n;
  while (same < most && same < end && tokens[end - 1 - same] == tokens[tokens.size() - 1 - same]) {
    ++same;
  }
  const std::size_t count = std::min({most, same, tokens.size() - end});
  const auto from = tokens.begin() + static_cast<std::ptrdiff_t>(end);
  return {from, from + static_cast<std::ptrdiff_t>(count)};
}

double GuessRecord::expected(std::size_t guesses) const {
  double sum = 0;
  double all_right = 1;
  for (std::size_t i = 0; i < guesses; ++i) {
    all_right *= probability_;
    sum += all_right;
  }
  return sum;
}

void PassTimes::took(std::size_t tokens, std::chrono::duration<double> seconds) {
  if (tokens == 0 || tokens > kMostTokens) return;
  double& known = seconds_[tokens];
  known = known == 0 ? seconds.count() : known + kWeight * (seconds.count() - known);
  for (std::size_t more = tokens + 1; more <= kMostTokens; ++more) {
    if (seconds_[more] > known) seconds_[more] += kForget * (known - seconds_[more]);
  }
}

double PassTimes::of(std::size_t tokens) const {
  // No pass takes longer than one of more tokens.
  double least = 0;
  for (std::size_t n = kMostTokens; n >= tokens; --n) {
    if (seconds_[n] > 0 && (least == 0 || seconds_[n] < least)) least = seconds_[n];
  }
  if (seconds_[tokens] > 0) return least;
  for (std::size_t n = tokens; n > 0; --n) {
    if (seconds_[n] > 0) return seconds_[n];
  }
  return 1;
}

std::size_t worthwhile(const PassTimes& times, const GuessRecord& record, std::size_t tokens,
                       double written, std::size_t offered) {
  std::size_t best = 0;
  double most = written / times.of(tokens);
  for (std::size_t guesses = 1; guesses <= offered && tokens + guesses <= PassTimes::kMostTokens;
       ++guesses) {
    const double rate = (written + record.expected(guesses)) / times.of(tokens + guesses);
    if (rate > most) {
      most = rate;
      best = guesses;
    }
  }
  return best;
}

}  // namespace fathom
