// GGUF to GGUF in another type.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/progress.h"
#include "tensor/dtype.h"
#include "tensor/tensor_view.h"

namespace fathom {

struct QuantizeOptions {
  std::string type = "Q4_K_M";  // a QuantizeMix
  bool pure = false;            // the base type for every matrix, no mix
  /// Rounding twice is worse than rounding once: an already quantised source is refused unless this
  /// is set. (Q8_0 is taken as good as unrounded.)
  bool allow_requantize = false;
  /// File with an importance matrix (imatrix.h) to weigh errors by; empty: none. Types under three
  /// bits (and IQ3_XXS mixes' smallest parts) cannot do without.
  std::filesystem::path imatrix = {};
  unsigned threads = 0;  // 0: all
  ProgressSink progress = {};
};

/// One tensor's way.
struct TensorRecord {
  std::string name;  // in the file written
  DType from;
  DType to;
  Shape shape;
  std::uint64_t bytes = 0;
  std::string fallback;  // why not the mix's own type; empty if it is
};

struct QuantizeReport {
  std::vector<TensorRecord> tensors;
  std::uint64_t bytes_before = 0;  // of all tensors
  std::uint64_t bytes_after = 0;
  std::size_t weighted = 0;  // tensors that the importance matrix had an entry for
  /// Bits a weight takes on average after.
  double bits_per_weight() const;
};

/// Reads `input` (a file or the first of a split set), writes `output` whole or not at all;
/// metadata is carried over but for general.file_type and the split keys. `output` may not be one
/// of the files read. Throws Error(InvalidArgument | ...).
QuantizeReport quantize_gguf(const std::filesystem::path& input,
                             const std::filesystem::path& output, const QuantizeOptions& options);

}  // namespace fathom
