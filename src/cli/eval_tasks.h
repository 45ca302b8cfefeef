// Questions with known answers, and whether a model gets them right.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "engine/exact_answer.h"

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

/// Whether the output gives the task's exact answer.
bool answers_exactly(const Task& task, const std::string& output);

}  // namespace fathom
