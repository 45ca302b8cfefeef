// What runs of training by next tokens share: options, the line of progress, and how they end.
#pragma once

#include <string>

#include "cli/context.h"
#include "train/torch/training_run.h"

namespace fathom {

struct RunArguments {
  train::RunOptions options;
  std::string model, schedule = "cosine", optimizer = "adamw", precision = "bf16", end;
  bool from_scratch = false, dry_run = false;
  double dollars_per_hour = 0;
  int threads = 0;
};

/// All options but those of the data.
void add_run_options(CLI::App& command, RunArguments& arguments);

/// What the words mean: the model's texts, weights, types. Rows and tokens are the caller's to set.
/// Throws Error(InvalidArgument), and what reading the folder throws.
train::RunOptions run_options(const RunArguments& arguments);
Tokenizer tokenizer_of(const train::RunOptions& options);
/// Throws Error(InvalidArgument) if the vocabulary has no such token, which is wanted for `what`.
TokenId control_token(const Tokenizer& tokenizer, const std::string& text, const char* what);
/// The token of that text, or if it is empty the vocabulary's own end, which ends `what` ("an
/// answer"). Throws Error(InvalidArgument) if there is none.
TokenId ending_token(const Tokenizer& tokenizer, const std::string& text, const char* what);

/// Runs to the end, telling of it, or only tells what it would take. Throws Error(Cancelled), after
/// saving, when it is interrupted.
void run_training(const train::RunOptions& options, const RunArguments& arguments,
                  Context& context);

}  // namespace fathom
