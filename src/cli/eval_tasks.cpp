#include "cli/eval_tasks.h"

#include <algorithm>
#include <cctype>
#include <cmath>
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

std::string cleaned(std::string text) {
  std::erase(text, ',');
  const auto outside = [](char c) {
    return std::isspace(static_cast<unsigned char>(c)) != 0 || c == '$' || c == '.' || c == '*';
  };
  while (!text.empty() && outside(text.back())) text.pop_back();
  while (!text.empty() && outside(text.front())) text.erase(0, 1);
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

bool is_number(const std::string& text) {
  if (text.empty()) return false;
  char* end = nullptr;
  std::strtod(text.c_str(), &end);
  return *end == '\0';
}

std::string last_number(const std::string& text) {
  std::string number;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto digit = [&](std::size_t at) {
      return at < text.size() && std::isdigit(static_cast<unsigned char>(text[at])) != 0;
    };
    if (!digit(i)) continue;
    std::size_t end = i;
    while (digit(end) || ((text[end] == ',' || text[end] == '.') && digit(end + 1))) ++end;
    // A minus belongs to the number unless it stands between two words ("top-10").
    const bool minus = i > 0 && text[i - 1] == '-' &&
                       (i == 1 || std::isalnum(static_cast<unsigned char>(text[i - 2])) == 0);
    number.assign(text, minus ? i - 1 : i, minus ? end - i + 1 : end - i);
    i = end;
  }
  return number;
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

std::string final_answer(const std::string& text, bool expect_number) {
  std::string part = text;
  if (const std::size_t mark = text.rfind("####"); mark != std::string::npos) {
    part = text.substr(mark + 4);
    part = part.substr(0, part.find('\n'));
  } else if (const std::size_t box = text.rfind("\\boxed{"); box != std::string::npos) {
    part = text.substr(box + 7);
    part = part.substr(0, part.find('}'));
  } else if (!expect_number) {
    return cleaned(part);
  }
  return cleaned(expect_number ? last_number(part) : part);
}

bool answers_exactly(const Task& task, const std::string& output) {
  // GSM8K's own answers carry their working before the mark.
  const std::string expected = final_answer(task.answer, false);
  const bool number = is_number(expected);
  const std::string got = final_answer(output, number);
  if (!number) return got == expected;
  return is_number(got) && std::stod(got) == std::stod(expected);
}

Interval wilson_interval(std::size_t right, std::size_t total) {
  if (total == 0) return {};
  constexpr double z = 1.959964;
  const auto n = static_cast<double>(total);
  const double p = static_cast<double>(right) / n;
  const double middle = p + z * z / (2 * n);
  const double spread = z * std::sqrt(p * (1 - p) / n + z * z / (4 * n * n));
  const double scale = 1 + z * z / n;
  return {std::max(0.0, (middle - spread) / scale), std::min(1.0, (middle + spread) / scale)};
}

}  // namespace fathom
