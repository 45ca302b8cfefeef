// From a row of logits to the next token.
//
// The order of the steps is that of Hugging Face transformers (generation/utils.py,
// _get_logits_processor), so that settings mean what they mean there:
//
//   0. a grammar's mask: other tokens have no chance
//   1. logit bias
//   2. repetition penalty, over prompt and answer    (CTRL, arXiv 1909.05858, section 4.1)
//   3. frequency and presence penalty, over the answer  (as OpenAI's API documents them)
//   4. temperature; at 0 the best token is taken here
//   5. top-k
//   6. top-p, of the probability that top-k left     (nucleus sampling, arXiv 1904.09751)
//   7. min-p, relative to the best token             (arXiv 2407.01082)
//   8. one draw from what is left
//
// Every step is linear in the vocabulary, equal logits rank by token id, and the draw walks the ids
// in ascending order with a counter-based generator: the choice depends on the logits, the
// settings, the seed and the number of tokens drawn, and on nothing else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "grammar/token_mask.h"

namespace fathom {

struct SamplingParams {
  float temperature = 1;         // 0 to 100; 0: greedy
  std::int32_t top_k = 0;        // 0: off
  float top_p = 1;               // (0, 1]; 1: off
  float min_p = 0;               // [0, 1]; 0: off
  float repetition_penalty = 1;  // (0, 100]; 1: off
  float frequency_penalty = 0;   // [-100, 100], times a token's count in the answer
  float presence_penalty = 0;    // [-100, 100], for a token that is in the answer
  std::vector<std::pair<TokenId, float>> logit_bias;  // -infinity bans a token
  std::uint64_t seed = 0;
  /// Report log-probabilities: of the chosen token, and of this many most probable ones.
  std::optional<std::int32_t> logprobs;  // 0 to 256
};

struct TokenLogprob {
  TokenId id{};
  float logprob = 0;  // natural logarithm
};

struct SampledToken {
  TokenId id{};
  /// Of the model's own distribution: before bias, penalties, temperature and filters.
  float logprob = 0;              // 0 unless asked for
  std::vector<TokenLogprob> top;  // best first
};

struct TokenProbability {
  TokenId id{};
  float probability = 0;
};

/// Throws Error(InvalidArgument) naming the setting that is out of its range.
void check_sampling(const SamplingParams& params, std::size_t vocab_size);

/// The choice of one request's tokens. Not thread-safe.
class Sampler {
 public:
  /// Throws as check_sampling().
  Sampler(SamplingParams params, std::size_t vocab_size);

  /// Tokens of the prompt, for the repetition penalty.
  void add_prompt(std::span<const TokenId> tokens);

  /// Chooses the next token and counts it as part of the answer. logits: [vocab_size]. Throws
  /// Error(Corrupt) if one is NaN or +infinity, Error(InvalidArgument) if none is left to choose.
  /// allowed: the tokens that may be chosen; all, if null.
  SampledToken sample(std::span<const float> logits, const grammar::TokenMask* allowed = nullptr);

  /// What sample() would draw from: tokens with a chance, ids ascending, probabilities summing
  /// to 1. Changes nothing.
  std::vector<TokenProbability> distribution(std::span<const float> logits);

  const SamplingParams& params() const { return params_; }

 private:
  struct Candidate {
    float logit;
    std::int32_t id;
  };
  struct Seen {
    bool in_prompt = false;
    std::int32_t in_answer = 0;
  };

  /// Steps 0 to 3, into adjusted_; returns the best token.
  Candidate adjust(std::span<const float> logits, const grammar::TokenMask* allowed);
  /// Steps 4 to 7, into weights_: 0 for tokens that have no chance. Returns the sum of all, and
  /// leaves the sums of each kBlock of them in block_sums_.
  double filter(Candidate best);
  /// The token at `target` of the weights' running sum.
  TokenId draw(double target) const;
  void apply_penalties();
  /// candidates_ := the k best of `logits`, unordered.
  void gather_best(std::span<const float> logits, std::size_t k);
  /// candidates_ := enough of the best to hold top_p of all probability; returns that much.
  double gather_nucleus(Candidate best);
  /// Leaves in candidates_ the fewest best ones whose weights reach `mass`.
  void cut_to_mass(double mass);
  static std::size_t index(const Candidate& token) { return static_cast<std::size_t>(token.id); }
  /// Sums of each block of weights_, into block_sums_; returns their sum.
  double sum_weights();
  void report_logprobs(std::span<const float> logits, SampledToken& token);

  SamplingParams params_;
  std::size_t vocab_size_;
  std::uint64_t drawn_ = 0;
  std::unordered_map<std::int32_t, Seen> seen_;
  static constexpr std::size_t kBlock = 256;
  std::vector<float> adjusted_;  // [vocab_size]
  std::vector<float> weights_;   // [vocab_size], relative to the best token's
  std::vector<double> block_sums_;
  std::vector<Candidate> candidates_;
};

}  // namespace fathom
