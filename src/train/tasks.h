// Questions with answers that a rule can check, for reinforcement learning.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace fathom::train {

struct RlTask {
  std::string prompt, answer;
};

struct TaskOptions {
  std::string prompt_field = "prompt", answer_field = "answer";
};

/// Of JSON lines with these fields; an answer may be a number. Throws Error(NotFound | Io | Corrupt
/// | InvalidArgument), naming the file and the line.
std::vector<RlTask> read_rl_tasks(const std::filesystem::path& path, const TaskOptions& options);

/// Which task is dealt as number `index` of a run: each once an epoch, in an order of its own.
std::size_t dealt_task(std::uint64_t seed, std::uint64_t index, std::size_t tasks);

}  // namespace fathom::train
