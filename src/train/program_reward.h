// Rewards by a user's own program.
//
// It is started once and gets a JSON object a line, {"prompt", "text", "expected", "finished"},
// each of which it answers with a number on a line of its own. What it says on its standard error
// is kept for messages.
#pragma once

#include <string>

#include "train/rewards.h"

namespace fathom::train {

/// `of` throws Error(InvalidArgument) if the program cannot be started, ends, is silent for longer
/// than `patience`, or says something else than one number; the message has what it was asked, what
/// it said, and the end of its standard error. It is killed then, and when the last copy goes.
Reward program_reward(const std::string& program, const ProgramOptions& options, double weight = 1);

}  // namespace fathom::train
