// A model's packed weights beside it: found, checked, made.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>

#include "backend/cpu/kept_weights.h"
#include "base/progress.h"
#include "formats/checkpoint.h"

namespace fathom {

/// Where they are kept: "model.gguf.packed" beside a file, "weights.packed" in a folder.
std::filesystem::path packed_path(const std::filesystem::path& model);

/// What ModelOptions::kept takes; nullopt if there is no such file. If the model has been touched
/// since, loading compares every weight, which reads the whole model. Throws Error(Corrupt |
/// Unsupported | Io) if the file is damaged, of another layout, or of another model.
std::optional<KeptWeights> find_kept_weights(const Checkpoint& checkpoint,
                                             const std::filesystem::path& path);

struct KeptReport {
  std::size_t matrices = 0;
  std::uint64_t bytes = 0;
};

/// Packs every weight into the file at `path`, replacing it when done. Never holds more than a
/// layer. Throws Error(Unsupported) if the model has no weights that are packed, and as Model::load
/// does.
KeptReport keep_packed_weights(const Checkpoint& checkpoint, const std::filesystem::path& path,
                               unsigned threads, const ProgressSink& progress);

/// Reads both files whole. Throws Error(Corrupt) naming a matrix that is damaged, or that was
/// packed from other bytes than the model has.
KeptReport verify_kept_weights(const Checkpoint& checkpoint, const std::filesystem::path& path,
                               unsigned threads, const ProgressSink& progress);

}  // namespace fathom
