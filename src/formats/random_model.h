// A GGUF file with a published model's true shapes and metadata and random weights, for measuring
// speed where the weights themselves are not at hand. Programs of the llama.cpp family load it too.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "base/progress.h"
#include "formats/convert.h"
#include "formats/model_shapes.h"

namespace fathom {

struct RandomModelOptions {
  std::string type = "Q4_K_M";  // a QuantizeMix
  bool pure = false;
  bool split_kv_b = false;  // as ConvertOptions
  std::optional<std::uint32_t> layers = {};
  std::uint64_t seed = 1;  // the same seed, the same file
  unsigned threads = 0;
  ProgressSink progress = {};
};

/// Weights of the model with this shape, norms and biases included, without multi-token prediction.
std::uint64_t parameter_count(const ModelShape& shape, std::optional<std::uint32_t> layers = {});

/// Weights are normal with a standard deviation of 0.02, norms are 1, biases 0. The vocabulary has
/// the true size and the 256 bytes in it, and says of itself that it is made up; the text such a
/// model writes means nothing.
///
/// Ten billion weights are not rounded one by one: a million are, for each type, and every row of
/// the file is a run of those blocks from a place chosen at random. Throws Error(InvalidArgument)
/// for a file system without room, Error(Unsupported) as convert_to_gguf does, Error(Io).
ConvertReport make_random_gguf(const ModelShape& shape, const std::filesystem::path& output,
                               const RandomModelOptions& options);

}  // namespace fathom
