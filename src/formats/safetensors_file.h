// One safetensors file, parsed and validated: its tensors, where their bytes lie, its metadata.
//
// The format (https://github.com/huggingface/safetensors): 8 bytes of little-endian header length,
// a JSON object, then the tensors' bytes without holes. Follows the reference's rules strictly.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file_map.h"
#include "tensor/tensor_view.h"

namespace fathom {

struct SafetensorsLimits {
  static constexpr std::uint64_t kHeaderBytes = 100'000'000;  // the reference's own
  static constexpr std::uint64_t kStringBytes = 4u << 20;     // a metadata value
  static constexpr std::uint64_t kNameBytes = 1024;
  static constexpr std::uint64_t kAllNamesBytes = 16u << 20;  // names and metadata together
  static constexpr std::uint64_t kTensors = 128u << 10;
};

struct SafetensorsEntry {
  std::string name;
  DType dtype = DType::F32;
  Shape shape;
  std::uint64_t offset = 0;  // from the start of the file
  std::uint64_t bytes = 0;
};

/// safetensors' name of a type ("F8_E4M3", "BOOL"); Error(Unsupported) for a quantised type.
std::string_view safetensors_dtype_name(DType dtype);

class SafetensorsFile {
 public:
  /// Throws Error(NotFound | Io | Corrupt | Unsupported | ResourceLimit).
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return map_.path(); }
  /// By offset: the order in which they lie in the file.
  const std::vector<SafetensorsEntry>& tensors() const { return tensors_; }
  /// The header's "__metadata__".
  const std::vector<std::pair<std::string, std::string>>& metadata() const { return metadata_; }
  const FileMap& map() const { return map_; }
  const SafetensorsEntry* find(std::string_view name) const;
  TensorView view(const SafetensorsEntry& entry) const {
    return {entry.dtype, entry.shape, map_.bytes().subspan(entry.offset, entry.bytes)};
  }

 private:
  FileMap map_;
  std::vector<SafetensorsEntry> tensors_;
  std::vector<std::uint32_t> by_name_;
  std::vector<std::pair<std::string, std::string>> metadata_;
};

}  // namespace fathom
