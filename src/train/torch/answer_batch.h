// Answers on their way to the loss: side by side in rows, so that little goes through the model
// that is no answer or prompt of one.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "train/torch/torch_model.h"

namespace fathom::train {

/// An answer as the engine gave it, and what it was worth.
struct Sample {
  std::vector<std::int64_t> tokens;  // prompt and answer
  std::size_t prompt = 0;            // tokens of the prompt
  std::vector<float> rollout;        // the engine's log-probabilities of the answer's tokens
  /// The engine's experts of all tokens but the last, [tokens, routed layers, num_experts_per_tok];
  /// empty: not asked for, or there are none.
  std::vector<std::int32_t> routing;
  std::string text, question, expected;
  bool finished = false;
  double reward = 0, advantage = 0;
  /// Log-probabilities of its tokens before the step's updates, if there are several.
  Tensor old = {};

  std::size_t answer() const { return tokens.size() - prompt; }
};

/// Samples in the order in which they waste least: answers to one prompt side by side, or if any is
/// long from the shortest to the longest.
std::vector<const Sample*> learning_order(std::span<const Sample> samples);
/// Cut into parts of at most so many tokens, a shared prompt counted once; at least one sample
/// each.
std::vector<std::span<const Sample* const>> in_batches(std::span<const Sample* const> order,
                                                       std::size_t tokens);

/// All on the CPU.
struct AnswerBatch {
  /// Short sequences follow each other in one row, where neighbours of one prompt share it (as in
  /// arXiv 2506.05433): it is a document that answers go on from. Long ones have a row each.
  TokenRows rows;
  /// For each routed layer, int64 [rows * length, num_experts_per_tok]: the engine's experts.
  std::vector<Tensor> replay;
  Tensor from;    // int64 [tokens of answers]: the places in all rows whose states predict them
  Tensor target;  // int64 [tokens of answers]
  Tensor cell;    // int64 [tokens of answers]: where each is in [answers, longest answer]
  std::int64_t answers = 0, longest = 0;

  /// [tokens of answers] to [answers, longest answer], 0 where there is none; where `values` are.
  Tensor spread(const Tensor& values) const;
};

/// `pad`: what fills rows up. `routed`: layers with experts, of which `per_token` are chosen.
AnswerBatch answer_batch(std::span<const Sample* const> samples, std::int64_t pad,
                         std::int64_t routed, std::int64_t per_token);

}  // namespace fathom::train
