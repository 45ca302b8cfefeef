// A run's folder: its checkpoints, each a model folder that the engine opens too, and its log.
//
//   run/step-00001000/config.json  tokenizer.json  model.safetensors     the model
//                     optimizer.safetensors  trainer.json                what going on needs
//   run/log.jsonl                                                        a line a step
//       events.out.tfevents.fathom                                       the same for TensorBoard,
//       if asked for
//
// A checkpoint is written beside its place and renamed, so that there is none by halves.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

namespace fathom::train {

class RunFolder {
 public:
  /// Makes the folder if it is not there, and removes what an interrupted save left. `writes`: else
  /// another process does that, and keeps the log. Throws Error(Io).
  explicit RunFolder(std::filesystem::path path, bool tensorboard = false, bool writes = true);

  const std::filesystem::path& path() const { return path_; }
  /// Steps that have a checkpoint, ascending.
  std::vector<std::int64_t> steps() const;
  std::filesystem::path checkpoint(std::int64_t step) const;

  /// Where to write the checkpoint of that step.
  std::filesystem::path partial(std::int64_t step) const;
  /// Makes that, empty; commit() puts it into its place.
  std::filesystem::path begin(std::int64_t step) const;
  /// Makes it durable. Throws Error(Io).
  void commit(std::int64_t step) const;
  /// Removes all but the newest `keep` and `best`.
  void prune(std::size_t keep, std::optional<std::int64_t> best) const;

  /// Appends a line to log.jsonl.
  void log(const nlohmann::ordered_json& line) const;
  /// Removes lines of steps after `step`, which a run that goes on from there will write again.
  void cut_log(std::int64_t step) const;

 private:
  std::filesystem::path events() const { return path_ / "events.out.tfevents.fathom"; }

  std::filesystem::path path_;
  bool tensorboard_, writes_;
};

/// What a run cannot change on its way must be as it was when `folder` was begun. Throws
/// Error(InvalidArgument), naming what differs.
void require_same_run(const nlohmann::ordered_json& then, const nlohmann::ordered_json& now,
                      const std::filesystem::path& folder);

}  // namespace fathom::train
