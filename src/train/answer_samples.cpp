#include "train/answer_samples.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "base/atomic_file.h"
#include "base/content_digest.h"
#include "base/error.h"
#include "train/random.h"
#include "train/rollouts.h"

namespace fathom::train {
namespace fs = std::filesystem;
namespace {

using Json = nlohmann::ordered_json;

/// What answers depend on, so that a file that others began is not gone on with.
std::string identity_of(std::span<const RlTask> tasks, const SampleOptions& options) {
  ContentDigest digest;
  for (const RlTask& task : tasks) {
    digest.add(std::string_view(task.prompt));
    digest.add(std::string_view(task.answer));
  }
  const Json all{options.group,      options.most_kept,   options.least_reward,
                 options.max_tokens, options.temperature, options.seed};
  digest.add(std::string_view(all.dump()));
  return digest.hex();
}

/// An answer that is good enough.
struct Kept {
  std::size_t length = 0, number = 0;  // tokens; of its task's answers
  Json line;
};

/// A batch's lines end with one that says how far it got: {"done": {...}}. What comes after the
/// last such line was cut off.
struct Partial {
  std::vector<std::string> lines;
  SampleReport report;
};

Partial read_partial(const fs::path& path, const std::string& identity) {
  Partial partial;
  std::ifstream file(path, std::ios::binary);
  std::vector<std::string> batch;
  for (std::string line; std::getline(file, line);) {
    const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object()) break;
    if (!json.contains("done")) {
      batch.push_back(line);
      continue;
    }
    const Json& done = json["done"];
    require(done.value("run", "") == identity, ErrorCode::InvalidArgument,
            "{} was begun with other tasks or options: remove it, or name another output",
            path.string());
    partial.report = {done.value("tasks", std::size_t{0}), done.value("answered", std::size_t{0}),
                      done.value("sampled", std::size_t{0}), done.value("kept", std::size_t{0})};
    std::move(batch.begin(), batch.end(), std::back_inserter(partial.lines));
    batch.clear();
  }
  return partial;
}

}  // namespace

SampleReport sample_answers(Engine& engine, std::span<const RlTask> tasks,
                            std::span<const Reward> rewards, const SampleOptions& options,
                            const fs::path& output, const ProgressSink& progress,
                            const std::function<bool()>& interrupted) {
  require(options.group > 0 && options.tasks_at_once > 0, ErrorCode::InvalidArgument,
          "no answers are asked for");
  fs::path unfinished = output;
  unfinished += ".partial";
  const std::string identity = identity_of(tasks, options);
  Partial partial = read_partial(unfinished, identity);
  SampleReport& report = partial.report;
  Progress shown(progress, "sampling answers", tasks.size(), "tasks");
  while (report.tasks < tasks.size()) {
    require(!interrupted(), ErrorCode::Cancelled,
            "interrupted after {} of {} tasks; the same command goes on from there", report.tasks,
            tasks.size());
    const std::size_t first = report.tasks;
    const auto some = tasks.subspan(first, std::min(options.tasks_at_once, tasks.size() - first));
    std::vector<std::vector<TokenId>> prompts;
    for (const RlTask& task : some) prompts.push_back(task.tokens);
    RolloutOptions rollout;
    rollout.group = options.group;
    rollout.max_tokens = options.max_tokens;
    rollout.temperature = options.temperature;
    rollout.stop_tokens = {options.end};
    rollout.seed = Draws(options.seed, {first}).next();
    const std::vector<Rollout> all = roll_out(engine, prompts, rollout);
    std::vector<std::string> lines;
    for (std::size_t q = 0; q < some.size(); ++q) {
      std::vector<Kept> good;
      for (std::size_t i = 0; i < options.group; ++i) {
        const Rollout& one = all[q * options.group + i];
        const Attempt attempt{some[q].prompt, one.text, some[q].answer, one.finished,
                              report.sampled++};
        double value = 0;
        for (const Reward& reward : rewards) value += reward.weight * reward.of(attempt);
        if (value < options.least_reward || !one.finished) continue;
        good.push_back({one.tokens.size(), i,
                        Json{{"prompt", some[q].prompt}, {"answer", one.text}, {"reward", value}}});
      }
      std::ranges::sort(good, {},
                        [](const Kept& each) { return std::pair(each.length, each.number); });
      if (options.most_kept > 0 && good.size() > options.most_kept) good.resize(options.most_kept);
      report.answered += !good.empty();
      report.kept += good.size();
      for (const Kept& each : good) lines.push_back(each.line.dump());
    }
    report.tasks += some.size();
    std::move(lines.begin(), lines.end(), std::back_inserter(partial.lines));
    // Whole anew: as much again as the answers are is written a few times, and none is ever half.
    AtomicFile file(unfinished);
    for (const std::string& line : partial.lines) file.write(line + "\n");
    file.write(Json{{"done",
                     {{"run", identity},
                      {"tasks", report.tasks},
                      {"answered", report.answered},
                      {"sampled", report.sampled},
                      {"kept", report.kept}}}}
                   .dump() +
               "\n");
    file.commit();
    shown.set(report.tasks);
  }
  AtomicFile file(output);
  for (const std::string& line : partial.lines) file.write(line + "\n");
  file.commit();
  fs::remove(unfinished);
  return report;
}

}  // namespace fathom::train
