// What an answer is worth, by rules: no model judges (arXiv 2501.12948, 2.2.2).
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace fathom::train {

/// An answer and what is known of it.
struct Attempt {
  std::string prompt;
  std::string text;          // what the model wrote, thoughts included
  std::string expected;      // the right answer
  bool finished = true;      // it ended by itself, not at the limit
  std::uint64_t number = 0;  // of all attempts of a run, for rewards by chance
};

/// Whether an answer is right: what follows its thought comes down to the expected one
/// (engine/exact_answer.h). Never if it was cut off, or in the midst of its thought.
bool is_right(const std::string& expected, const std::string& text, bool finished);

struct Reward {
  std::string name;
  double weight = 1;
  std::function<double(const Attempt&)> of;  // usually 0 to 1; called from one thread
};

/// 1 if is_right().
Reward exact_reward(double weight = 1);
/// 1 if the whole text is one of the pattern's (regex.h). Throws Error(InvalidArgument).
Reward pattern_reward(const std::string& pattern, double weight = 1);
/// 1 if the text is <think>, a thought, </think>, an answer, in this order and once.
Reward format_reward(double weight = 1);
/// Share of the letters outside of \boxed{} that are of the prompt's script: "latin", "han",
/// "cyrillic", ... (language consistency, arXiv 2501.12948, 2.3.2). Throws Error(InvalidArgument).
Reward language_reward(const std::string& script, double weight = 1);
/// 0 or 1 by chance: a control, which teaches nothing.
Reward random_reward(std::uint64_t seed, double weight = 1);

/// How a user's own program is run (program_reward.h).
struct ProgramOptions {
  /// What runs it, with its path added at the end: a wall around it. Empty: nothing does.
  std::vector<std::string> launcher;
  std::chrono::milliseconds patience{10'000};  // for each number
};

/// "exact", "format", "random", "pattern=REGEX", "language=SCRIPT", "program=PATH", each with
/// "*WEIGHT" after it if it is not 1. Throws Error(InvalidArgument).
Reward parse_reward(std::string_view text, std::uint64_t seed, const ProgramOptions& programs = {});

}  // namespace fathom::train
