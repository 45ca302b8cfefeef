// Tasks of commands that ask a model, and the programs that judge its answers.
#include <CLI/CLI.hpp>

#include <algorithm>
#include <chrono>
#include <iterator>
#include <memory>

#include "base/error.h"
#include "cli/train/run.h"
#include "engine/chat.h"

namespace fathom {

void add_task_options(CLI::App& command, TaskArguments& arguments) {
  command.add_option("--tasks", arguments.files, "JSON lines with a prompt and its answer")
      ->type_name("FILE ...")
      ->required();
  const auto text = [&](const char* name, std::string& value, const char* help) {
    command.add_option(name, value, help)->type_name("TEXT")->capture_default_str();
  };
  text("--prompt-field", arguments.fields.prompt_field, "Of a task");
  text("--answer-field", arguments.fields.answer_field, "Of a task");
  text("--instruction", arguments.instruction, "After each prompt");
  text("--end", arguments.end, "The token that ends an answer");
  command.add_flag("--chat", arguments.chat, "Ask as a user's turn, by the model's chat template");
}

std::vector<train::RlTask> read_tasks(const TaskArguments& arguments,
                                      const std::filesystem::path& model,
                                      const Tokenizer& tokenizer) {
  std::vector<train::RlTask> tasks;
  for (const auto& file : arguments.files) {
    auto some = train::read_rl_tasks(file, arguments.fields);
    std::move(some.begin(), some.end(), std::back_inserter(tasks));
  }
  std::unique_ptr<ChatFormat> chat;
  if (arguments.chat) {
    chat = ChatFormat::load(*open_checkpoint(model), tokenizer);
    require(chat != nullptr, ErrorCode::InvalidArgument, "{} has no chat template", model.string());
  }
  train::encode_tasks(tasks, tokenizer, {chat.get(), arguments.instruction});
  return tasks;
}

std::size_t longest_prompt(std::span<const train::RlTask> tasks) {
  std::size_t longest = 0;
  for (const train::RlTask& task : tasks) longest = std::max(longest, task.tokens.size());
  return longest;
}

train::ProgramOptions reward_programs(double seconds) {
  train::ProgramOptions options;
  options.launcher = {"/proc/self/exe", "sandboxed", "--"};
  options.patience = std::chrono::milliseconds(static_cast<std::int64_t>(seconds * 1000));
  return options;
}

}  // namespace fathom
