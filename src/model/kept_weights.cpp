#include "model/kept_weights.h"

#include <algorithm>
#include <memory>
#include <string>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/packed_file.h"
#include "base/content_digest.h"
#include "base/error.h"
#include "config/model_config.h"
#include "model/weights.h"

namespace fathom {
namespace {

/// Names, types and shapes of all tensors, and 4 KiB at each of 256 places: enough to know another
/// model, in milliseconds. What it cannot see, a file written over in place, changes its time.
std::string fingerprint(const Checkpoint& checkpoint) {
  constexpr std::uint64_t kSamples = 256;
  constexpr std::size_t kSample = 4096;
  ContentDigest digest;
  std::uint64_t total = 0;
  for (const std::string& name : checkpoint.names()) total += checkpoint.tensor(name).data.size();
  const std::uint64_t step = std::max<std::uint64_t>(total / kSamples, kSample);
  std::uint64_t next = 0;  // sample, counted from the tensor's begin
  for (const std::string& name : checkpoint.names()) {
    const TensorView tensor = checkpoint.tensor(name);
    digest.add(name);
    digest.add(to_string(tensor.dtype));
    digest.add(tensor.shape.to_string());
    const std::size_t size = tensor.data.size();
    for (; next < size; next += step) {
      digest.add(tensor.data.subspan(next, std::min<std::size_t>(kSample, size - next)));
    }
    next -= size;
  }
  return digest.hex();
}

}  // namespace

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
  require(file->origin().fingerprint == fingerprint(checkpoint), ErrorCode::Corrupt,
          "{}: was packed from another model than {}; pack it again", path.string(),
          checkpoint.path().string());
  kept.check_sources = file->origin().modified_ns != checkpoint.modified_ns();
  kept.file = file;
  return kept;
}

KeptReport keep_packed_weights(const Checkpoint& checkpoint, const std::filesystem::path& path,
                               unsigned threads, const ProgressSink& progress) {
  const ModelConfig config = read_model_config(checkpoint);
  cpu::PackedFileWriter writer(path, {fingerprint(checkpoint), checkpoint.modified_ns()});
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
