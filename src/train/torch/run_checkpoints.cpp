#include "train/torch/run_checkpoints.h"

#include <utility>
#include <vector>

#include "base/error.h"

namespace fathom::train {
namespace fs = std::filesystem;

RunCheckpoints::RunCheckpoints(fs::path run, bool tensorboard, std::size_t keep, Ranks ranks)
    : folder_(std::move(run), tensorboard, ranks.first()), keep_(keep), ranks_(std::move(ranks)) {}

bool RunCheckpoints::reopen(const Json& identity,
                            const std::function<void(const Json&, const fs::path&)>& take,
                            TorchModel& model, Optimizer& optimizer) {
  const std::vector<std::int64_t> steps = folder_.steps();
  if (steps.empty()) return false;
  const fs::path place = folder_.checkpoint(steps.back());
  const Json state = read_checkpoint_state(place);
  try {
    require_same_run(state.at("run"), identity, folder_.path());
    if (state.contains("best")) {
      best_ = Best{state["best"].at("step").get<std::int64_t>(),
                   state["best"].at("value").get<double>()};
    }
    take(state, place);
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorCode::Corrupt, "{}/trainer.json: {}", place.string(), error.what());
  }
  read_checkpoint(place, state, model, optimizer);
  saved_ = steps.back();
  return true;
}

bool RunCheckpoints::lowest(double value, std::int64_t step) {
  if (best_ && value >= best_->value) return false;
  best_ = Best{step, value};
  return true;
}

void RunCheckpoints::save(std::int64_t step, Json state, const TorchModel& model,
                          const ModelTexts& texts, Optimizer& optimizer,
                          const std::function<void(const fs::path&)>& also) {
  if (saved_ == step) return;
  if (best_) state["best"] = {{"step", best_->step}, {"value", best_->value}};
  const fs::path place = folder_.partial(step);
  ranks_.together([&] {
    if (!ranks_.first()) return;
    folder_.begin(step);
    if (also) also(place);
  });
  write_checkpoint(place, model, texts, optimizer, std::move(state), ranks_);
  ranks_.together([&] {
    if (!ranks_.first()) return;
    folder_.commit(step);
    folder_.prune(keep_, best_ ? std::optional(best_->step) : std::nullopt);
  });
  saved_ = step;
}

}  // namespace fathom::train
