// How a run goes on, what it keeps, and which checkpoint is best: what runs of all kinds share.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>

#include "train/run_folder.h"
#include "train/torch/model_folder.h"
#include "train/torch/ranks.h"

namespace fathom::train {

class RunCheckpoints {
 public:
  using Json = nlohmann::ordered_json;

  /// `keep`: newest checkpoints to keep beside the best. Throws as RunFolder does.
  RunCheckpoints(std::filesystem::path run, bool tensorboard, std::size_t keep, Ranks ranks);

  const RunFolder& folder() const { return folder_; }

  /// Goes on from the newest checkpoint: hands its state and its folder to `take`, and reads the
  /// weights and what the optimiser keeps. False if there is none. Throws Error(InvalidArgument) if
  /// the run was begun as another `identity`, Error(Corrupt) for a state that says too little, and
  /// what reading throws.
  bool reopen(const Json& identity,
              const std::function<void(const Json&, const std::filesystem::path&)>& take,
              TorchModel& model, Optimizer& optimizer);
  /// Whether this is the lowest so far, which is then the best.
  bool lowest(double value, std::int64_t step);

  bool saved(std::int64_t step) const { return saved_ == step; }
  std::int64_t last_saved() const { return saved_; }
  /// Collective work. `also` writes more into the folder, on the first rank.
  void save(std::int64_t step, Json state, const TorchModel& model, const ModelTexts& texts,
            Optimizer& optimizer,
            const std::function<void(const std::filesystem::path&)>& also = {});

 private:
  struct Best {
    std::int64_t step;
    double value;
  };
  RunFolder folder_;
  std::size_t keep_;
  Ranks ranks_;
  std::int64_t saved_ = -1;
  std::optional<Best> best_;
};

}  // namespace fathom::train
