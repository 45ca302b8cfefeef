#include "model/kept_weights.h"

#include <algorithm>
#include <memory>
#include <string>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/packed_file.h"
#include "base/error.h"
#include "config/model_config.h"
#include "model/fingerprint.h"
#include "model/weights.h"

namespace fathom {
std::filesystem::path packed_path(const std::filesystem::path& model) {
  if (std::filesystem::is_directory(model)) return model / "weights.packed";
  std::filesystem::path path = model;
  return path += ".packed";
}

std::optional<KeptWeights> find_kept_weights(const Checkpoint& checkpoint,
                                             const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return std::nullopt;
  KeptWeights kept;
  const auto file = std::make_shared<const cpu::PackedFile>(path);
  require(file->origin().fingerprint == content_fingerprint(checkpoint), ErrorCode::Corrupt,
          "{}: was packed from another model than {}; pack it again", path.string(),
          checkpoint.path().string());
  kept.check_sources = file->origin().modified_ns != checkpoint.modified_ns();
  kept.file = file;
  return kept;
}

KeptReport keep_packed_weights(const Checkpoint& checkpoint, const std::filesystem::path& path,
                               unsigned threads, const ProgressSink& progress) {
  const ModelConfig config = read_model_config(checkpoint);
  cpu::PackedFileWriter writer(path, {content_fingerprint(checkpoint), checkpoint.modified_ns()});
  CpuBackendOptions options;
  options.threads = threads;
  options.kept.writer = &writer;
  const std::unique_ptr<Backend> backend = make_cpu_backend(options);
  pack_each_weight(checkpoint, config, *backend, {.progress = progress});
  require(
      writer.matrices() > 0, ErrorCode::Unsupported,
      "{}: has no quantised weights: others are used as the file has them, and nothing is gained "
      "by keeping them twice",
      checkpoint.path().string());
  writer.commit();
  return {writer.matrices(), writer.bytes()};
}

KeptReport verify_kept_weights(const Checkpoint& checkpoint, const std::filesystem::path& path,
                               unsigned threads, const ProgressSink& progress) {
  std::optional<KeptWeights> kept = find_kept_weights(checkpoint, path);
  require(kept.has_value(), ErrorCode::NotFound, "{}: there are no packed weights", path.string());
  const cpu::PackedFile& file = *kept->file;
  kept->check_sources = true;
  CpuBackendOptions options;
  options.threads = threads;
  options.kept = *kept;
  const std::unique_ptr<Backend> backend = make_cpu_backend(options);
  pack_each_weight(checkpoint, read_model_config(checkpoint), *backend, {.progress = progress});
  ThreadPool pool(threads);
  file.verify(pool, progress);
  return {file.matrices().size(), file.bytes()};
}

}  // namespace fathom
