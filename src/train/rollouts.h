// Answers of the model in training, sampled on the engine: many at once, over shared prompts.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
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
  std::uint64_t first = 0;  // number of the first answer, where others are sampled elsewhere
  bool record_routing = false;
  /// Tokens of a thought after which it is closed; wants markers.
  std::optional<std::size_t> thinking_budget;
  ReasoningMarkers markers;
  ProgressSink progress;
};

struct Rollout {
  std::size_t prompt = 0;       // which
  std::vector<TokenId> tokens;  // of the answer, the one that ended it included
  std::vector<float> logprobs;  // of each, at temperature 1, as the engine saw them
  std::string text;             // control tokens included, the end not; with a budget, no markers
  std::string answer;           // what is not thought; all of it without a budget
  bool finished = false;        // by a stop token
  std::vector<std::int32_t> routing;  // Finished::routing, if that is recorded
};

struct RolloutEngineOptions {
  std::size_t prompt_tokens = 0, max_tokens = 0;  // most of a prompt, of an answer
  std::size_t requests = 1;                       // there will be at once; more wait
  unsigned threads = 0;                           // 0: all CPUs
};

/// An engine in F32. Throws what Model::load() throws.
std::unique_ptr<Engine> rollout_engine(std::shared_ptr<const Checkpoint> checkpoint,
                                       const Tokenizer& tokenizer,
                                       const RolloutEngineOptions& options);

/// In the order of the prompts, a group after the other. The same options and weights give the same
/// answers, however many run at once. Throws the engine's Error if a request fails.
std::vector<Rollout> roll_out(Engine& engine, const std::vector<std::vector<TokenId>>& prompts,
                              const RolloutOptions& options);

}  // namespace fathom::train
