// Writes a GGUF version 3 file: header first, from what the tensors will be, then their bytes as
// they come. Nothing is held in memory but the header.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/atomic_file.h"
#include "formats/gguf_file.h"
#include "tensor/tensor_view.h"

namespace fathom {

/// Keys and values in the order in which they are set; setting a key again replaces its value.
class GgufMetadata {
 public:
  struct Entry {
    std::string key;
    GgufType type;
    std::string bytes;  // the value as it stands in the file; for arrays with their header
  };

  void u32(std::string_view key, std::uint64_t value);  // Error(InvalidArgument) if over 32 bits
  void u64(std::string_view key, std::uint64_t value);
  void i32(std::string_view key, std::int32_t value);
  void f32(std::string_view key, double value);
  void boolean(std::string_view key, bool value);
  void string(std::string_view key, std::string_view value);
  void strings(std::string_view key, std::span<const std::string> values);
  void i32s(std::string_view key, std::span<const std::int32_t> values);
  void f32s(std::string_view key, std::span<const float> values);
  /// A key of another file, its type and bytes unchanged.
  void copy(const GgufKey& key);

  const Entry* find(std::string_view key) const;
  const std::vector<Entry>& entries() const { return entries_; }

 private:
  void set(std::string_view key, GgufType type, std::string bytes);

  std::vector<Entry> entries_;
  std::map<std::string, std::size_t, std::less<>> index_;
};

struct TensorPlan {
  std::string name;
  DType dtype = DType::F32;
  Shape shape;  // outermost first, as everywhere in Fathom
};

/// Writes beside `path` and renames at commit(): without it nothing is left behind.
class GgufWriter {
 public:
  /// The longest tensor name that the llama.cpp family loads.
  static constexpr std::size_t kMaxName = 63;

  /// Writes the header. The alignment is the metadata's general.alignment, or 32.
  /// Throws Error(InvalidArgument) for names that are empty, too long or twice there and for empty
  /// tensors, Error(Unsupported) for types GGUF does not have, Error(Io).
  GgufWriter(const std::filesystem::path& path, const GgufMetadata& metadata,
             std::vector<TensorPlan> tensors);

  /// The next bytes of the tensors' data, tensor after tensor in the plan's order, without padding;
  /// a call may not reach past the end of a tensor. Throws Error(Internal | Io).
  void append(std::span<const std::byte> bytes);
  /// Throws Error(Internal) if tensors are missing.
  void commit();

  const std::vector<TensorPlan>& tensors() const { return tensors_; }
  /// Bytes of all tensors, padding included.
  std::uint64_t data_bytes() const { return data_bytes_; }

 private:
  void pad(std::uint64_t bytes);

  AtomicFile file_;
  std::vector<TensorPlan> tensors_;
  std::uint64_t alignment_ = 32;
  std::uint64_t data_bytes_ = 0;
  std::size_t current_ = 0;         // tensor being written
  std::uint64_t current_done_ = 0;  // bytes of it written
};

}  // namespace fathom
