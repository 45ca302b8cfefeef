// Importance matrices: how strongly each column of a model's weights is used, as measured on a
// text.
//
// For every product y = W x the squares of x are added up, column by column; a quantiser then
// weighs its errors by their means. Files are the llama.cpp family's, in both forms: GGUF with two
// tensors a weight, and the older list of records (".dat").
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/tensor_view.h"

namespace fathom {

class ImportanceMatrix {
 public:
  /// A weight's sums, by its GGUF name. A stack of experts has as many parts as experts.
  struct Entry {
    std::size_t columns = 0;
    std::vector<float> squares;  // [parts, columns]: sums over all inputs
    std::vector<float> counts;   // [parts]: how many inputs; 0: never used

    std::size_t parts() const { return counts.size(); }
    /// Mean squares of a part, or nothing if it was never used.
    std::vector<float> means(std::size_t part) const;
    /// Mean squares for a weight of this shape: one list of columns for all of it, or one for each
    /// of the matrices stacked in it; empty lists for parts that were never used. Throws
    /// Error(InvalidArgument) if the entry is not for such a weight.
    std::vector<std::vector<float>> of_shape(const Shape& shape) const;
  };

  std::map<std::string, Entry, std::less<>> entries;
  std::vector<std::string> datasets;
  std::uint32_t chunk_count = 0;  // pieces of text that were fed
  std::uint32_t chunk_size = 0;   // tokens of each

  const Entry* find(std::string_view gguf_name) const;

  /// Reads either form; goes by content. Throws Error(NotFound | Io | Corrupt | ResourceLimit).
  static ImportanceMatrix read(const std::filesystem::path& path);
  /// Writes ".dat" files in the older form, all others as GGUF. The older form has one count a
  /// weight: parts are brought to a common one.
  void write(const std::filesystem::path& path) const;
};

}  // namespace fathom
