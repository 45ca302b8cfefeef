#include "train/tasks.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "base/json_guard.h"
#include "train/random.h"

namespace fathom::train {

std::vector<RlTask> read_rl_tasks(const std::filesystem::path& path, const TaskOptions& options) {
  std::ifstream file(path, std::ios::binary);
  require(file.is_open(), ErrorCode::NotFound, "{} cannot be opened", path.string());
  std::vector<RlTask> tasks;
  std::string line;
  for (std::size_t number = 1; std::getline(file, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    guard_json(line, {}, path);
    const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    require(json.is_object(), ErrorCode::Corrupt, "{}, line {}: expected a JSON object",
            path.string(), number);
    const auto field = [&](const std::string& name, bool numbers) {
      const auto found = json.find(name);
      const bool right =
          found != json.end() && (found->is_string() || (numbers && found->is_number()));
      require(right, ErrorCode::Corrupt, "{}, line {}: expected a text '{}', found {}",
              path.string(), number, name, found == json.end() ? "none" : found->type_name());
      return found->is_string() ? found->get<std::string>() : found->dump();
    };
    RlTask task{field(options.prompt_field, false), field(options.answer_field, true), {}};
    require(!task.prompt.empty(), ErrorCode::Corrupt, "{}, line {}: '{}' is empty", path.string(),
            number, options.prompt_field);
    tasks.push_back(std::move(task));
  }
  require(!tasks.empty(), ErrorCode::InvalidArgument, "{} has no task", path.string());
  return tasks;
}

void encode_tasks(std::span<RlTask> tasks, const Tokenizer& tokenizer, const AskOptions& options) {
  for (RlTask& task : tasks) {
    const std::string text = task.prompt + options.instruction;
    if (options.chat != nullptr) {
      const auto turns = nlohmann::ordered_json::array({{{"role", "user"}, {"content", text}}});
      task.tokens = options.chat->prompt(turns).tokens;
    } else {
      task.tokens = tokenizer.encode(text);
    }
    require(!task.tokens.empty(), ErrorCode::InvalidArgument, "the prompt {:.80} has no token",
            task.prompt);
  }
}

std::size_t dealt_task(std::uint64_t seed, std::uint64_t index, std::size_t tasks) {
  // A permutation by cycle-walking over four Feistel rounds: no table, whatever the number.
  const std::uint64_t epoch = index / tasks;
  unsigned half = 1;
  while ((std::uint64_t{1} << (2 * half)) < tasks) ++half;
  const std::uint64_t mask = (std::uint64_t{1} << half) - 1;
  std::uint64_t at = index % tasks;
  do {
    std::uint64_t left = at >> half, right = at & mask;
    for (std::uint64_t round = 0; round < 4; ++round) {
      const std::uint64_t mixed = Draws(seed, {0x7A5C, epoch, round, right}).next() & mask;
      left = std::exchange(right, left ^ mixed);
    }
    at = left << half | right;
  } while (at >= tasks);
  return static_cast<std::size_t>(at);
}

}  // namespace fathom::train
