// model.safetensors.index.json: which shard of a Hugging Face model holds which tensor.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace fathom {

inline constexpr const char* kShardIndexName = "model.safetensors.index.json";

/// File name -> the tensors that it should hold, as they are listed.
using ShardIndex = std::map<std::string, std::vector<std::string>>;

/// Reads the index, in memory bounded by its limits (16 MiB, 256 Ki tensors, 10,000 files), and
/// checks nothing but the index itself: names end in ".safetensors", but may lead anywhere. Throws
/// Error(Corrupt | ResourceLimit | Io) that names the file, as `shown` where that is given.
ShardIndex read_shard_index(const std::filesystem::path& file, const std::string& shown = {});

}  // namespace fathom
