// Weights packed before, or being packed for later: what a model is loaded with.
#pragma once

#include <memory>

namespace fathom {

namespace cpu {
class PackedFile;
class PackedFileWriter;
}  // namespace cpu

/// See backend/cpu/packed_file.h.
struct KeptWeights {
  std::shared_ptr<const cpu::PackedFile> file = {};  // weights are viewed in it instead of packed
  /// The model has been touched since: compare each weight with what the file's was made from.
  bool check_sources = false;
  cpu::PackedFileWriter* writer = nullptr;  // gets each weight that is packed; outlives the backend
};

}  // namespace fathom
