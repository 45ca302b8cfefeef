// Questions with known answers, and whether a model gets them right.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

namespace fathom {

/// One line of a JSONL task file:
///   {"question": "...", "choices": ["...", ...], "answer": 1}      also "B", or the choice's text
///   {"question": "...", "answer": "42"}                            an exact answer
/// "question" may be called "prompt" or "input"; "answer" also "label", "target" or "gold".
struct Task {
  std::string question;
  std::vector<std::string> choices;  // empty: an exact answer
  std::size_t correct = 0;           // index into choices
  std::string answer;                // the exact answer
};

/// Throws Error(Corrupt) naming the line that is no task, Error(NotFound | Io).
std::vector<Task> read_tasks(const std::filesystem::path& file, std::size_t limit);

/// What counts as the answer in a text: what follows the last "####" (GSM8K's mark), else what the
/// last \boxed{} holds, else, where a number is expected, the last number, else the whole text;
/// without white space and a full stop around it, thousands' commas, a leading "$", and case.
std::string final_answer(const std::string& text, bool expect_number);

/// Whether the output gives the task's exact answer.
bool answers_exactly(const Task& task, const std::string& output);

/// Wilson's 95 % score interval of `right` out of `total` (E. B. Wilson 1927).
struct Interval {
  double low = 0, high = 1;
};
Interval wilson_interval(std::size_t right, std::size_t total);

}  // namespace fathom
