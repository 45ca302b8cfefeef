// Questions with answers that a rule can check, for reinforcement learning.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/ids.h"
#include "engine/chat.h"

namespace fathom::train {

struct RlTask {
  std::string prompt, answer;
  std::vector<TokenId> tokens = {};  // of the prompt, as the model is asked: encode_tasks()
};

struct TaskOptions {
  std::string prompt_field = "prompt", answer_field = "answer";
};

/// Of JSON lines with these fields; an answer may be a number. Throws Error(NotFound | Io | Corrupt
/// | InvalidArgument), naming the file and the line.
std::vector<RlTask> read_rl_tasks(const std::filesystem::path& path, const TaskOptions& options);

/// How tasks are put to a model.
struct AskOptions {
  const ChatFormat* chat = nullptr;  // as a user's turn; null: the prompt as it is
  std::string instruction;           // after each prompt
};
/// Fills in `tokens`. Throws what the chat template does, and Error(InvalidArgument) for a prompt
/// without a token.
void encode_tasks(std::span<RlTask> tasks, const Tokenizer& tokenizer, const AskOptions& options);

/// Which task is dealt as number `index` of a run: each once an epoch, in an order of its own.
std::size_t dealt_task(std::uint64_t seed, std::uint64_t index, std::size_t tasks);

}  // namespace fathom::train
