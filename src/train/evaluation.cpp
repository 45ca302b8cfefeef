#include "train/evaluation.h"

#include <algorithm>
#include <map>
#include <string>

#include "base/error.h"
#include "engine/exact_answer.h"
#include "train/random.h"
#include "train/rewards.h"
#include "train/rollouts.h"

namespace fathom::train {
namespace {

constexpr std::uint64_t kSampling = 12;  // a purpose of random numbers

/// Whether the most frequent of these answers is right; of equally frequent ones, the earliest.
bool majority_is_right(const std::string& expected, std::span<const Rollout> rollouts) {
  const bool number = !exact_answer(expected, true).empty();
  std::map<std::string, std::size_t> votes;
  std::string favourite;
  for (const Rollout& one : rollouts) {
    if (!one.finished) continue;
    const std::string answer = exact_answer(one.text, number);
    const std::size_t count = ++votes[answer];
    if (favourite.empty() || count > votes[favourite]) favourite = answer;
  }
  return !favourite.empty() && same_answer(expected, favourite);
}

void count_tries(std::span<const RlTask> tasks, std::span<const Rollout> all, Evaluation& result) {
  const std::size_t n = result.samples;
  for (std::size_t k = 1; k < 2 * n; k *= 2) result.tries.push_back({std::min(k, n), 0, 0});
  const auto questions = static_cast<double>(tasks.size());
  for (std::size_t q = 0; q < tasks.size(); ++q) {
    const std::string& expected = tasks[q].answer;
    const auto own = all.subspan(q * n, n);
    const auto right = static_cast<std::size_t>(std::ranges::count_if(
        own, [&](const Rollout& one) { return is_right(expected, one.text, one.finished); }));
    result.sampled += static_cast<double>(right) / (static_cast<double>(n) * questions);
    for (Evaluation::Tries& tries : result.tries) {
      tries.pass += pass_at(tries.k, n, right) / questions;
      const std::size_t groups = n / tries.k;
      for (std::size_t g = 0; g < groups; ++g) {
        tries.majority += majority_is_right(expected, own.subspan(g * tries.k, tries.k)) /
                          (static_cast<double>(groups) * questions);
      }
    }
  }
  result.any = result.tries.back().pass;
  result.majority = result.tries.back().majority;
}

}  // namespace

double pass_at(std::size_t k, std::size_t n, std::size_t right) {
  if (n - right < k) return 1;
  double none = 1;
  for (std::size_t i = n - right + 1; i <= n; ++i) {
    none *= 1 - static_cast<double>(k) / static_cast<double>(i);
  }
  return 1 - none;
}

Evaluation evaluate(Engine& engine, const Tokenizer& tokenizer, std::span<const RlTask> tasks,
                    const EvaluationOptions& options) {
  Evaluation result;
  result.tasks = tasks.size();
  result.samples = options.samples;
  std::vector<std::vector<TokenId>> prompts;
  for (const RlTask& task : tasks) prompts.push_back(task.tokens);
  const auto n = static_cast<double>(tasks.size());
  RolloutOptions rollout;
  rollout.group = 1;
  rollout.temperature = 0;
  rollout.max_tokens = options.max_tokens;
  rollout.stop_tokens = {options.end};
  rollout.progress = options.progress;
  for (const Rollout& one : roll_out(engine, prompts, rollout)) {
    result.greedy += is_right(tasks[one.prompt].answer, one.text, one.finished) / n;
    result.length += static_cast<double>(one.tokens.size()) / n;
    result.thinks += (one.text.find("<think>") != std::string::npos) / n;
  }
  for (const std::size_t budget : options.budgets) {
    const auto open = tokenizer.token_to_id("<think>"), close = tokenizer.token_to_id("</think>");
    require(open && close, ErrorCode::Unsupported,
            "the vocabulary has no tokens <think> and </think>, which a budget is counted by");
    rollout.thinking_budget = budget;
    rollout.markers.open = open;
    rollout.markers.close = close;
    Evaluation::Budget point{budget, 0, 0};
    for (const Rollout& one : roll_out(engine, prompts, rollout)) {
      point.right += is_right(tasks[one.prompt].answer, one.answer, one.finished) / n;
      point.length += static_cast<double>(one.tokens.size()) / n;
    }
    result.budgets.push_back(point);
  }
  if (options.samples == 0) return result;
  rollout.thinking_budget.reset();
  rollout.group = options.samples;
  rollout.temperature = options.temperature;
  rollout.seed = Draws(options.seed, {kSampling}).next();
  count_tries(tasks, roll_out(engine, prompts, rollout), result);
  return result;
}

}  // namespace fathom::train
