// Answers of the model in training, sampled on the engine: many at once, over shared prompts.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/progress.h"
#include "engine/engine.h"

namespace fathom::train {

struct RolloutOptions {
  std::size_t group = 8;  // answers to each prompt
  std::size_t max_tokens = 256;
  float temperature = 1;
  std::vector<TokenId> stop_tokens;
  std::uint64_t seed = 1;
  ProgressSink progress;
};

struct Rollout {
  std::size_t prompt = 0;       // which
  std::vector<TokenId> tokens;  // of the answer, the one that ended it included
  std::vector<float> logprobs;  // of each, at temperature 1, as the engine saw them
  std::string text;             // control tokens included, the end not
  bool finished = false;        // by a stop token
};

/// In the order of the prompts, a group after the other. The same options and weights give the same
/// answers, however many run at once. Throws the engine's Error if a request fails.
std::vector<Rollout> roll_out(Engine& engine, const std::vector<std::vector<TokenId>>& prompts,
                              const RolloutOptions& options);

}  // namespace fathom::train
