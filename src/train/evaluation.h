// How good a model is at tasks with right answers: at once, with many tries, and with less thought.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/progress.h"
#include "engine/engine.h"
#include "train/tasks.h"

namespace fathom::train {

struct EvaluationOptions {
  std::size_t samples = 8;  // answers to each at `temperature`; 0: greedy alone
  float temperature = 1;
  std::size_t max_tokens = 128;
  TokenId end{};
  std::uint64_t seed = 1;
  /// Most tokens of a thought, closed there, of greedy answers. Wants a vocabulary with the tokens
  /// <think> and </think>.
  std::vector<std::size_t> budgets;
  ProgressSink progress;
};

struct Evaluation {
  std::size_t tasks = 0, samples = 0;
  double greedy = 0;    // share that the greedy answer gets right
  double length = 0;    // tokens of a greedy answer, mean
  double thinks = 0;    // share of greedy answers with a thought
  double sampled = 0;   // share of all sampled answers that are right: pass@1
  double any = 0;       // pass@samples
  double majority = 0;  // maj@samples
  /// Of k = 1, 2, 4 ... samples: of questions with a right answer among k (without bias, arXiv
  /// 2107.03374, eq. 1), and whose most frequent answer of k is right (over disjoint k of them).
  struct Tries {
    std::size_t k = 0;
    double pass = 0, majority = 0;
  };
  std::vector<Tries> tries;
  struct Budget {
    std::size_t tokens = 0;
    double right = 0;
    double length = 0;  // of the whole answer, mean
  };
  std::vector<Budget> budgets;
};

/// `tasks` are encoded. What was cut off is wrong, and has no vote. Throws what the engine throws,
/// and Error(Unsupported) for budgets without tokens that mark a thought.
Evaluation evaluate(Engine& engine, const Tokenizer& tokenizer, std::span<const RlTask> tasks,
                    const EvaluationOptions& options);

/// 1 - C(n - right, k) / C(n, k): that k of n answers, of which `right` are right, have one.
double pass_at(std::size_t k, std::size_t n, std::size_t right);

}  // namespace fathom::train
