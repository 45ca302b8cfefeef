#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "base/fast_exp.h"
#include "engine/philox.h"

namespace fathom {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// The rank order: better logit first, smaller id among equals.
constexpr auto kBetter = [](const auto& a, const auto& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
};

/// `!(low <= x && x <= high)` also catches NaN.
void check_range(const char* name, double x, double low, double high) {
  require(low <= x && x <= high, ErrorCode::InvalidArgument, "{} must be between {} and {}, not {}",
          name, low, high, x);
}

// Four floats at a time, in any compiler's own words.
using Floats = float __attribute__((vector_size(16)));
using Flags = std::int32_t __attribute__((vector_size(16)));
constexpr std::size_t kStep = 4 * 4;  // values in four of them

Floats load(const float* from) {
  Floats values;
  std::memcpy(&values, from, sizeof values);
  return values;
}

void check_size(std::span<const float> logits, std::size_t vocab_size) {
  require(logits.size() == vocab_size, ErrorCode::Internal,
          "the sampler was made for {} logits and got {}", vocab_size, logits.size());
}

/// The largest value's place, the first of equals. Throws for what is no number, or +infinity, and
/// if all are -infinity.
template <typename Candidate>
Candidate best_of(std::span<const float> logits) {
  Candidate best{-kInfinity, -1};
  const auto look = [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      // NaN fails every comparison, so it must be looked for by name.
      if (!(logits[i] < kInfinity)) {
        fail(ErrorCode::Corrupt,
             "the model's logit of token {} is {}; its weights are probably damaged", i, logits[i]);
      }
      if (logits[i] > best.logit) best = {logits[i], static_cast<std::int32_t>(i)};
    }
  };
  // Steps in which nothing is better, as most are, are passed over.
  std::size_t begin = 0;
  for (; begin + kStep <= logits.size(); begin += kStep) {
    const Floats top{best.logit, best.logit, best.logit, best.logit};
    const Floats end{kInfinity, kInfinity, kInfinity, kInfinity};
    Flags worth{};
    for (std::size_t i = 0; i < kStep; i += 4) {
      const Floats values = load(logits.data() + begin + i);
      worth |= (values > top) | ~(values < end);
    }
    if ((worth[0] | worth[1] | worth[2] | worth[3]) != 0) look(begin, begin + kStep);
  }
  look(begin, logits.size());
  require(best.id >= 0, ErrorCode::InvalidArgument,
          "no token is left to choose: every one has a logit of -infinity");
  return best;
}

/// Sums of 16 or so are added up in float, those in double.
double sum_of(std::span<const float> values) {
  Floats sums[4] = {};
  std::size_t i = 0;
  for (; i + kStep <= values.size(); i += kStep) {
    for (std::size_t j = 0; j < 4; ++j) sums[j] += load(values.data() + i + 4 * j);
  }
  double sum = 0;
  for (; i < values.size(); ++i) sum += values[i];
  for (const Floats& four : sums) {
    for (std::size_t j = 0; j < 4; ++j) sum += four[j];
  }
  return sum;
}

}  // namespace

void check_sampling(const SamplingParams& params, std::size_t vocab_size) {
  check_range("temperature", params.temperature, 0, 100);
  check_range("top-k", params.top_k, 0, std::numeric_limits<std::int32_t>::max());
  check_range("top-p", params.top_p, 0, 1);
  check_range("min-p", params.min_p, 0, 1);
  check_range("repetition penalty", params.repetition_penalty, 0, 100);
  require(params.repetition_penalty > 0, ErrorCode::InvalidArgument,
          "the repetition penalty must be over 0 (1 leaves it off)");
  check_range("frequency penalty", params.frequency_penalty, -100, 100);
  check_range("presence penalty", params.presence_penalty, -100, 100);
  if (params.logprobs) check_range("logprobs", *params.logprobs, 0, 256);
  for (const auto& [id, bias] : params.logit_bias) {
    require(value(id) >= 0 && static_cast<std::size_t>(value(id)) < vocab_size,
            ErrorCode::InvalidArgument, "logit bias for token {}, but the vocabulary has {} tokens",
            value(id), vocab_size);
    require(!std::isnan(bias) && bias < kInfinity, ErrorCode::InvalidArgument,
            "logit bias of token {} must be a number or -infinity", value(id));
  }
}

Sampler::Sampler(SamplingParams params, std::size_t vocab_size)
    : params_(std::move(params)), vocab_size_(vocab_size) {
  check_sampling(params_, vocab_size);
}

void Sampler::add_prompt(std::span<const TokenId> tokens) {
  if (params_.repetition_penalty == 1) return;
  for (const TokenId id : tokens) seen_[value(id)].in_prompt = true;
}

SampledToken Sampler::sample(std::span<const float> logits, const grammar::TokenMask* allowed) {
  SampledToken token;
  const bool as_they_are = allowed == nullptr && params_.logit_bias.empty() && seen_.empty();
  if (params_.temperature == 0 && as_they_are) {
    // No copy of a whole vocabulary, which in a small model's step can be seen.
    check_size(logits, vocab_size_);
    token.id = TokenId{best_of<Candidate>(logits).id};
  } else {
    const Candidate best = adjust(logits, allowed);
    const bool draws = params_.temperature != 0;
    token.id = draws ? draw(uniform(params_.seed, drawn_) * filter(best)) : TokenId{best.id};
  }
  ++drawn_;
  if (params_.repetition_penalty != 1 || params_.frequency_penalty != 0 ||
      params_.presence_penalty != 0) {
    ++seen_[value(token.id)].in_answer;
  }
  if (params_.logprobs) report_logprobs(logits, token);
  return token;
}

std::vector<TokenProbability> Sampler::distribution(std::span<const float> logits) {
  const Candidate best = adjust(logits, nullptr);
  if (params_.temperature == 0) return {{TokenId{best.id}, 1}};
  const double total = filter(best);
  std::vector<TokenProbability> result;
  for (std::size_t i = 0; i < weights_.size(); ++i) {
    if (weights_[i] == 0) continue;
    result.push_back({TokenId{static_cast<std::int32_t>(i)},
                      static_cast<float>(static_cast<double>(weights_[i]) / total)});
  }
  return result;
}

Sampler::Candidate Sampler::adjust(std::span<const float> logits,
                                   const grammar::TokenMask* allowed) {
  check_size(logits, vocab_size_);
  adjusted_.assign(logits.begin(), logits.end());
  for (const auto& [id, bias] : params_.logit_bias) {
    adjusted_[static_cast<std::size_t>(value(id))] += bias;
  }
  apply_penalties();
  if (allowed != nullptr) {
    for (std::size_t begin = 0; begin < adjusted_.size(); begin += 64) {
      const std::uint64_t word = begin / 64 < allowed->size() ? (*allowed)[begin / 64] : 0;
      if (word == ~std::uint64_t{0}) continue;
      const std::size_t end = std::min(begin + 64, adjusted_.size());
      for (std::size_t i = begin; i < end; ++i) {
        // What is damaged stays, to be found below.
        if ((word >> (i - begin) & 1U) == 0 && adjusted_[i] < kInfinity) adjusted_[i] = -kInfinity;
      }
    }
  }

  return best_of<Candidate>(adjusted_);
}

void Sampler::apply_penalties() {
  for (const auto& [id, seen] : seen_) {
    float& logit = adjusted_[static_cast<std::size_t>(id)];
    if (params_.repetition_penalty != 1) {
      logit = logit > 0 ? logit / params_.repetition_penalty : logit * params_.repetition_penalty;
    }
    if (seen.in_answer > 0) {
      logit -=
          params_.frequency_penalty * static_cast<float>(seen.in_answer) + params_.presence_penalty;
    }
  }
}

double Sampler::filter(Candidate best) {
  const auto weigh = [&](float logit) {
    return exp_of_nonpositive((logit - best.logit) / params_.temperature);
  };
  weights_.resize(adjusted_.size());
  const auto k = static_cast<std::size_t>(params_.top_k);
  const bool limited = k > 0 && k < vocab_size_;
  if (limited) {
    gather_best(adjusted_, k);
    for (const Candidate& each : candidates_) weights_[index(each)] = weigh(each.logit);
  } else {
    for (std::size_t i = 0; i < adjusted_.size(); ++i) weights_[i] = weigh(adjusted_[i]);
  }
  if (params_.top_p < 1) {
    double mass = 0;
    if (limited) {
      for (const Candidate& each : candidates_) mass += weights_[index(each)];
      mass *= params_.top_p;
    } else {
      mass = gather_nucleus(best);
    }
    cut_to_mass(mass);
  }
  // min-p is compared as weights, as it is defined; the best one's is 1, so it always stays.
  const float least = params_.min_p;
  if (limited || params_.top_p < 1) {
    std::ranges::fill(weights_, 0.0F);
    for (const Candidate& each : candidates_) {
      const float weight = weigh(each.logit);
      if (weight >= least) weights_[index(each)] = weight;
    }
  } else if (least > 0) {
    for (float& weight : weights_) weight = weight >= least ? weight : 0.0F;
  }
  return sum_weights();
}

double Sampler::sum_weights() {
  block_sums_.clear();
  double total = 0;
  for (std::size_t begin = 0; begin < weights_.size(); begin += kBlock) {
    const std::size_t size = std::min(kBlock, weights_.size() - begin);
    block_sums_.push_back(sum_of(std::span(weights_).subspan(begin, size)));
    total += block_sums_.back();
  }
  return total;
}

/// The inverse of the cumulative distribution: the block first, then the token in it. Rounding may
/// leave the last sum just under the target; then it is one of the last block.
TokenId Sampler::draw(double target) const {
  std::size_t block = 0;
  double sum = 0;
  for (std::size_t i = 0; i < block_sums_.size(); ++i) {
    if (block_sums_[i] == 0) continue;
    block = i;
    if (sum + block_sums_[i] > target) break;
    sum += block_sums_[i];
  }
  std::size_t drawn = 0;
  const std::size_t end = std::min((block + 1) * kBlock, weights_.size());
  for (std::size_t i = block * kBlock; i < end; ++i) {
    if (weights_[i] == 0) continue;
    drawn = i;
    sum += weights_[i];
    if (sum > target) break;
  }
  return TokenId{static_cast<std::int32_t>(drawn)};
}

void Sampler::gather_best(std::span<const float> logits, std::size_t k) {
  // Twice k candidates are collected, then halved: each halving is paid for by k new ones, so the
  // whole is linear, and most tokens only ever meet the comparison with the k-th best so far.
  candidates_.clear();
  if (k == 0) return;
  const std::size_t capacity = std::max<std::size_t>(2 * k, 64);
  float threshold = -kInfinity;
  const auto halve = [&] {
    const auto kth = candidates_.begin() + static_cast<std::ptrdiff_t>(k - 1);
    std::nth_element(candidates_.begin(), kth, candidates_.end(), kBetter);
    threshold = kth->logit;
    candidates_.resize(k);
  };
  for (std::size_t i = 0; i < logits.size(); ++i) {
    // Equal to the k-th best loses to it by its larger id.
    if (logits[i] <= threshold) continue;
    candidates_.push_back({logits[i], static_cast<std::int32_t>(i)});
    if (candidates_.size() == capacity) halve();
  }
  if (candidates_.size() > k) halve();
}

double Sampler::gather_nucleus(Candidate best) {
  const double mass = sum_weights() * params_.top_p;
  // The nucleus is mostly a few tokens near the best: look there first, further out if it is not.
  for (const float depth : {8.0F, 16.0F, kInfinity}) {
    candidates_.clear();
    double found = 0;
    const float floor = best.logit - depth * params_.temperature;
    for (std::size_t i = 0; i < adjusted_.size(); ++i) {
      if (adjusted_[i] < floor || adjusted_[i] == -kInfinity) continue;
      candidates_.push_back({adjusted_[i], static_cast<std::int32_t>(i)});
      found += weights_[i];
    }
    if (found >= mass) break;
  }
  return mass;
}

void Sampler::cut_to_mass(double mass) {
  // A selection by weight instead of by count: split the range in half by rank, and go on in the
  // half where the mass is reached. Linear, as the ranges halve.
  auto low = candidates_.begin();
  auto high = candidates_.end();
  while (high - low > 1) {
    const auto middle = low + (high - low) / 2;
    std::nth_element(low, middle, high, kBetter);
    double left = 0;
    for (auto it = low; it != middle; ++it) left += weights_[index(*it)];
    if (left >= mass) {
      high = middle;
    } else {
      mass -= left;
      low = middle;
    }
  }
  candidates_.erase(low + 1, candidates_.end());
}

void Sampler::report_logprobs(std::span<const float> logits, SampledToken& token) {
  const float best = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit - best));
  const double log_total = std::log(sum) + static_cast<double>(best);
  const auto logprob = [&](float logit) {
    return static_cast<float>(static_cast<double>(logit) - log_total);
  };
  token.logprob = logprob(logits[static_cast<std::size_t>(value(token.id))]);
  gather_best(logits, static_cast<std::size_t>(*params_.logprobs));
  std::sort(candidates_.begin(), candidates_.end(), kBetter);
  for (const Candidate& each : candidates_) {
    token.top.push_back({TokenId{each.id}, logprob(each.logit)});
  }
}

}  // namespace fathom
