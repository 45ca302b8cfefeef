#include "cli/served_files.h"

#include "model/kept_weights.h"
#include "store/split_name.h"

namespace fathom {
namespace {

namespace fs = std::filesystem;

void add_file(server::FileAccess& access, const fs::path& file) {
  std::error_code error;
  fs::path target = fs::canonical(file, error);
  if (!error) access.read.push_back(std::move(target));
}

}  // namespace

void add_model_files(server::FileAccess& access, const fs::path& path) {
  std::error_code error;
  // A file of a Hugging Face folder is read with what lies beside it. The folder that holds a GGUF
  // file is anything, a home with all its secrets for example.
  const bool folder = fs::is_directory(path, error);
  const fs::path beside = path.has_parent_path() ? path.parent_path() : fs::path(".");
  if (folder || path.extension() == ".safetensors") {
    const fs::path all = folder ? path : beside;
    add_file(access, all);
    for (const auto& entry : fs::directory_iterator(all, error)) {
      // Hugging Face's cache keeps the files elsewhere, and links to them.
      if (entry.is_symlink(error)) add_file(access, entry.path());
    }
    return;
  }
  add_file(access, path);
  add_file(access, packed_path(path));
  const auto split = parse_split_name(path.string());
  if (!split) return;
  for (const auto& entry : fs::directory_iterator(beside, error)) {
    const auto part = parse_split_name((beside / entry.path().filename()).string());
    const bool belongs = part && part->count == split->count &&
                         fs::path(part->stem).filename() == fs::path(split->stem).filename();
    if (belongs) add_file(access, entry.path());
  }
}

}  // namespace fathom
