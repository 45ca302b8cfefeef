#include "cli/eval_tasks.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"

namespace fathom {
namespace {

using Json = nlohmann::ordered_json;

const Json* member(const Json& json, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    const auto found = json.find(name);
    if (found != json.end()) return &*found;
  }
  return nullptr;
}

std::string text_of(const Json& json) {
  return json.is_string() ? json.get<std::string>() : json.dump();
}

/// The index that an answer means: a number, a letter, or a choice's text.
std::optional<std::size_t> choice_index(const Json& answer,
                                        const std::vector<std::string>& choices) {
  if (answer.is_number_unsigned()) {
    const auto index = answer.get<std::size_t>();
    return index < choices.size() ? std::optional(index) : std::nullopt;
  }
  if (!answer.is_string()) return {};
  const auto text = answer.get<std::string>();
  const auto same = std::find(choices.begin(), choices.end(), text);
  if (same != choices.end()) return static_cast<std::size_t>(same - choices.begin());
  if (text.size() == 1 && text[0] >= 'A' && text[0] <= 'Z') {
    const auto index = static_cast<std::size_t>(text[0] - 'A');
    if (index < choices.size()) return index;
  }
  return {};
}

std::optional<Task> parse_task(const std::string& line) {
  const Json json = Json::parse(line, nullptr, false);
  if (!json.is_object()) return {};
  const Json* question = member(json, {"question", "prompt", "input"});
  const Json* answer = member(json, {"answer", "label", "target", "gold"});
  if (question == nullptr || !question->is_string() || answer == nullptr) return {};
  Task task;
  task.question = question->get<std::string>();
  const Json* choices = member(json, {"choices", "options"});
  if (choices == nullptr) {
    if (!answer->is_string() && !answer->is_number()) return {};
    task.answer = text_of(*answer);
    return task;
  }
  if (!choices->is_array() || choices->size() < 2) return {};
  for (const Json& choice : *choices) {
    if (!choice.is_string()) return {};
    task.choices.push_back(choice.get<std::string>());
  }
  const auto index = choice_index(*answer, task.choices);
  if (!index) return {};
  task.correct = *index;
  return task;
}

}  // namespace

std::vector<Task> read_tasks(const std::filesystem::path& file, std::size_t limit) {
  std::ifstream in(file);
  require(in.is_open(), ErrorCode::NotFound, "{}: cannot be opened", file.string());
  std::vector<Task> tasks;
  std::string line;
  for (std::size_t number = 1; tasks.size() < limit && std::getline(in, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    auto task = parse_task(line);
    require(task.has_value(), ErrorCode::Corrupt,
            "{}: line {} is no task: expected a JSON object with \"question\", \"answer\" and, for "
            "multiple choice, \"choices\" that hold the answer",
            file.string(), number);
    tasks.push_back(std::move(*task));
  }
  require(!in.bad(), ErrorCode::Io, "{}: cannot be read", file.string());
  require(!tasks.empty(), ErrorCode::Corrupt, "{}: holds no task", file.string());
  return tasks;
}

bool answers_exactly(const Task& task, const std::string& output) {
  return same_answer(task.answer, output);
}

}  // namespace fathom
