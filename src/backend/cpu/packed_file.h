// Packed weights kept in a file beside the model, so that a later start maps them instead of
// packing again.
//
//   matrices   as packed_layout.h has them, one after the other, each from a multiple of 64 bytes
//   index      JSON: what model they are of; name, type, shape, place and digests of each
//   footer     64 bytes, little-endian: magic "FATHOMPK", version, layout (u32); offset, size and
//              XXH3-64 of the index; size of the file (u64); 16 bytes of 0
//
// The layout is one for all kinds of CPU: a file made on one machine serves on every other. The
// number kPackedLayout counts its changes.
//
// Files are hostile until proven: an entry outside the file, or a matrix of another size than its
// type and shape call for, is Error(Corrupt). The codes themselves may be any bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/atomic_file.h"
#include "base/file_map.h"
#include "base/progress.h"
#include "base/thread_pool.h"
#include "tensor/dtype.h"

namespace fathom::cpu {

/// Counts changes of packed_layout.h. A file of another number is refused, to be made anew.
inline constexpr std::uint32_t kPackedLayout = 1;

/// What the matrices were made from. Files are told apart by the whole struct.
struct PackedOrigin {
  std::string fingerprint;       // of names, types, shapes and samples of all tensors
  std::int64_t modified_ns = 0;  // the model's newest file
};

/// Thread-safe after construction.
class PackedFile {
 public:
  struct Matrix {
    DType dtype = DType::F32;
    std::size_t rows = 0;
    std::size_t features = 0;
    std::span<const std::byte> bytes;  // of the mapping
    std::string digest;                // of `bytes`, by base/content_digest.h
    std::string source_digest;         // of the model's bytes that they were made from
  };

  /// Checks footer and index, reads no matrix. Throws Error(NotFound | Io | Corrupt), and
  /// Error(Unsupported) for another version or layout.
  explicit PackedFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return map_.path(); }
  const PackedOrigin& origin() const { return origin_; }
  const std::unordered_map<std::string, Matrix>& matrices() const { return matrices_; }
  std::uint64_t bytes() const { return map_.size(); }

  /// The matrix of this name. Throws Error(Corrupt) if there is none, or one of another type or
  /// shape: then the file is not of this model.
  const Matrix& matrix(std::string_view name, DType dtype, std::size_t rows,
                       std::size_t features) const;

  /// Throws Error(Corrupt) naming the first matrix whose bytes are not those that were written.
  void verify(ThreadPool& pool, const ProgressSink& progress) const;

 private:
  FileMap map_;
  PackedOrigin origin_;
  std::unordered_map<std::string, Matrix> matrices_;
};

/// Writes such a file, one matrix after the other. Nothing is left without commit().
class PackedFileWriter {
 public:
  /// Throws Error(Io), as all of it does.
  PackedFileWriter(const std::filesystem::path& path, PackedOrigin origin);

  /// `source`: the model's bytes that `packed` was made from. Names are unique.
  void add(std::string_view name, DType dtype, std::size_t rows, std::size_t features,
           std::span<const std::byte> packed, std::span<const std::byte> source, ThreadPool& pool);
  void commit();

  std::size_t matrices() const { return entries_.size(); }
  std::uint64_t bytes() const { return file_.position(); }

 private:
  struct Entry {
    std::string name;
    DType dtype;
    std::size_t rows, features, offset;
    std::string digest, source_digest;
  };
  AtomicFile file_;
  PackedOrigin origin_;
  std::vector<Entry> entries_;
};

}  // namespace fathom::cpu
