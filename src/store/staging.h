// A folder in the store's partial/ that one source's files are gathered in, under its lock.
#pragma once

#include <filesystem>
#include <string>

#include "store/files.h"
#include "store/store.h"

namespace fathom {

struct Store::Staging {
  FileLock lock;
  std::filesystem::path folder;

  /// Leaves the folder only if it holds something to resume.
  ~Staging();

  /// Where the bytes of the model's file `path` are gathered: the same for each try.
  std::filesystem::path data(const std::string& path) const;
  /// Deletes the folder: the work is done, or worthless.
  void clear() const;
};

}  // namespace fathom
