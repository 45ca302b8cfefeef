// Answers of a teacher that are kept by rule: rejection sampling (arXiv 2501.12948, 2.3.3).
#pragma once

#include <filesystem>
#include <functional>
#include <span>

#include "engine/engine.h"
#include "train/rewards.h"
#include "train/tasks.h"

namespace fathom::train {

struct SampleOptions {
  std::size_t group = 16;     // answers to each task
  std::size_t most_kept = 0;  // of each task, the shortest first; 0: all that are good enough
  double least_reward = 1;    // what a kept answer's rewards add up to, at least
  std::size_t max_tokens = 128;
  float temperature = 1;
  TokenId end{};
  std::uint64_t seed = 1;
  std::size_t tasks_at_once = 64;
};

struct SampleReport {
  std::size_t tasks = 0;     // asked
  std::size_t answered = 0;  // with an answer that was kept
  std::size_t sampled = 0, kept = 0;
};

/// Writes JSON lines {"prompt", "answer", "reward"} to `output`, answers as the model wrote them,
/// thoughts included. `tasks` are encoded. Lines gather in `output`.partial, from which the same
/// call goes on after an interruption; `interrupted` is asked between batches. Throws
/// Error(Cancelled | Io | InvalidArgument), and what the engine throws.
SampleReport sample_answers(
    Engine& engine, std::span<const RlTask> tasks, std::span<const Reward> rewards,
    const SampleOptions& options, const std::filesystem::path& output, const ProgressSink& progress,
    const std::function<bool()>& interrupted = [] { return false; });

}  // namespace fathom::train
