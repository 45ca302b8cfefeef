// Writes safetensors: one file, or a Hugging Face set of shards with their index.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "tensor/tensor_view.h"

namespace fathom {

struct NamedTensor {
  std::string name;
  TensorView view;
};

using SafetensorsMetadata = std::map<std::string, std::string>;

/// Writes one file, whole or not at all; byte for byte what the reference implementation writes:
/// wider types first, then by name. Throws Error(InvalidArgument) for a name twice there,
/// Error(Unsupported) for quantised types, Error(Io).
void write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                       const SafetensorsMetadata& metadata = {{"format", "pt"}});

/// Writes model.safetensors into `folder`; or, if the tensors take more than `max_shard_bytes`,
/// model-00001-of-0000N.safetensors and so on (each at most that long, unless one tensor alone is
/// longer), and last model.safetensors.index.json, so that an interrupted write is seen.
void write_safetensors_folder(const std::filesystem::path& folder,
                              std::span<const NamedTensor> tensors,
                              std::uint64_t max_shard_bytes = 5'000'000'000,
                              const SafetensorsMetadata& metadata = {{"format", "pt"}});

/// The name of a part of several, counted from 0: "model-00001-of-00004.safetensors".
std::string safetensors_part(std::string_view stem, std::size_t part, std::size_t parts);

/// Writes model.safetensors.index.json for files that were written one by one, perhaps by several
/// processes. Throws Error(InvalidArgument) for a name twice there, and what reading them throws.
void write_safetensors_index(const std::filesystem::path& folder,
                             std::span<const std::string> files);

}  // namespace fathom
