// A run of several ranks, and what is left of it.
#pragma once

#include <gmock/gmock.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "train/torch/in_ranks.h"
#include "train/torch/tiny_run.h"

namespace fathom::train {

/// Losses of a run's steps, and its weights in the end, as the first of so many ranks has them.
struct Outcome {
  std::vector<double> losses, further, balances, norms;
  std::optional<double> evaluation;
  std::map<std::string, Tensor> weights;
};
class SharedRun : public TinyRun {
 protected:
  Outcome train(const RunOptions& options, int size, bool spread, std::int64_t until = 1000) {
    Outcome outcome;
    const auto errors = in_ranks(size, [&](const Ranks& ranks) {
      RunOptions own = options;
      own.ranks = ranks;
      own.expert_parallel = spread;
      own.rows = rows(32);
      TrainingRun run(own);
      while (!run.done() && run.steps() < until) {
        const RunLine line = run.step();
        if (!ranks.first()) continue;
        outcome.losses.push_back(line.report.loss);
        outcome.further.push_back(line.report.further);
        outcome.balances.push_back(line.report.balance);
        outcome.norms.push_back(line.report.gradient_norm);
        if (line.evaluation) outcome.evaluation = line.evaluation;
        EXPECT_EQ(line.report.tokens, own.batch.last * 32);
      }
      run.save();
      std::map<std::string, Tensor> weights;
      for (const auto& parameter : run.model().parameters()) {
        weights[parameter.name] = on_cpu(run.model().whole(parameter));
      }
      if (ranks.first()) outcome.weights = weights;
    });
    EXPECT_THAT(errors, ::testing::Each(""));
    return outcome;
  }
  static void expect_same(const Outcome& a, const Outcome& b) {
    const auto near = [](const std::vector<double>& x, const std::vector<double>& y, double far) {
      ASSERT_EQ(x.size(), y.size());
      for (std::size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(x[i], y[i], far) << i;
    };
    near(a.losses, b.losses, 1e-4);
    near(a.further, b.further, 1e-4);
    near(a.balances, b.balances, 1e-3);
    near(a.norms, b.norms, 1e-3);
    ASSERT_TRUE(a.evaluation && b.evaluation);
    EXPECT_NEAR(*a.evaluation, *b.evaluation, 1e-4);
    for (const auto& [name, value] : a.weights) {
      EXPECT_LT((value - b.weights.at(name)).abs().max().item<double>(), 2e-3) << name;
    }
  }
};

}  // namespace fathom::train
