// One GGUF file, parsed and validated: keys, tensors, and where their bytes lie.
//
// Owns the mapping. Knows nothing of canonical names or split sets (gguf_checkpoint.h does).
// The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3,
// little-endian.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/file_map.h"
#include "formats/checkpoint.h"
#include "tensor/tensor_view.h"

namespace fathom {

/// Value types of GGUF metadata, with the file's numbers.
enum class GgufType : std::uint32_t {
  U8 = 0,
  I8 = 1,
  U16 = 2,
  I16 = 3,
  U32 = 4,
  I32 = 5,
  F32 = 6,
  Bool = 7,
  String = 8,
  Array = 9,
  U64 = 10,
  I64 = 11,
  F64 = 12,
};

/// What a hostile file may claim at most, besides what its length allows.
struct GgufLimits {
  static constexpr std::uint64_t kHeaderBytes = 256u << 20;  // everything before the tensors' data
  static constexpr std::uint64_t kStringBytes = 16u << 20;
  static constexpr std::uint64_t kArrayItems = 64u << 20;
  static constexpr std::uint64_t kKeys = 16u << 10;
  static constexpr std::uint64_t kTensors = 128u << 10;
  // Of tensors' names and of keys: sorting them all must stay within some tens of MiB.
  static constexpr std::uint64_t kNameBytes = 255;
  static constexpr std::uint64_t kKeyBytes = 1024;
  static constexpr std::uint64_t kAlignment = 1u << 20;
};

struct GgufKey {
  std::string_view key;
  GgufType type;
  GgufType element;                  // of an array; else equal to type
  std::uint64_t count;               // of an array; else 1
  std::span<const std::byte> value;  // as it lies in the file after its type: an array's element
                                     // type and count included
};

struct GgufTensor {
  std::string_view name;
  DType dtype;
  Shape shape;           // outermost first: turned around from the file
  std::uint64_t offset;  // from the start of the file
  std::uint64_t bytes;
};

/// GGUF's number of a type, for files we write; Error(Unsupported) for a type GGUF does not have.
std::uint32_t gguf_dtype_number(DType dtype);

class GgufFile {
 public:
  /// Throws Error(NotFound | Io | Corrupt | Unsupported | ResourceLimit). Needs little memory until
  /// everything is validated.
  explicit GgufFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return map_.path(); }
  std::uint32_t version() const { return version_; }
  std::uint64_t alignment() const { return alignment_; }
  const std::vector<GgufKey>& keys() const { return keys_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  const FileMap& map() const { return map_; }

  const GgufKey* find(std::string_view key) const;
  MetaValue decode(const GgufKey& key) const;
  TensorView view(const GgufTensor& tensor) const {
    return {tensor.dtype, tensor.shape, map_.bytes().subspan(tensor.offset, tensor.bytes)};
  }

 private:
  class Parser;

  FileMap map_;
  std::uint32_t version_ = 0;
  std::uint64_t alignment_ = 32;
  std::vector<GgufKey> keys_;  // in file order
  std::vector<std::uint32_t> keys_sorted_;
  std::vector<GgufTensor> tensors_;  // in file order
};

}  // namespace fathom
