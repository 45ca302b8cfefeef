#include "store/store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/sha256.h"
#include "store/manifest.h"
#include "store/staging.h"
#include "store/url.h"

namespace fathom {
namespace {

namespace fs = std::filesystem;

std::string short_hash(std::string_view text) {
  return sha256_hex(std::as_bytes(std::span(text.data(), text.size()))).substr(0, 32);
}

/// A second name for the same bytes. Where the filesystem has no hard links, a relative symbolic
/// one.
void link_file(const fs::path& existing, const fs::path& name) {
  std::error_code error;
  fs::create_hard_link(existing, name, error);
  if (error) {
    error.clear();
    fs::create_symlink(fs::relative(existing, name.parent_path()), name, error);
  }
  require(!error, ErrorCode::Io, "{}: cannot link to {}: {}", name.string(), existing.string(),
          error.message());
}

/// Makes renames and links in `folder` survive a power failure.
void sync_folder(const fs::path& folder) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  ::fsync(fd);  // some filesystems refuse it for folders: nothing more can be done there
  ::close(fd);
}

std::uint64_t folder_size(const fs::path& folder) {
  std::uint64_t bytes = 0;
  std::error_code ignored;
  for (const auto& entry : fs::recursive_directory_iterator(folder, ignored)) {
    if (entry.is_regular_file(ignored)) bytes += entry.file_size(ignored);
  }
  return bytes;
}

}  // namespace

std::uint64_t StoredModel::size() const {
  std::uint64_t bytes = 0;
  for (const StoredFile& file : files) bytes += file.size;
  return bytes;
}

Store::Store(StoreOptions options) : options_(std::move(options)) {
  require(!options_.root.empty(), ErrorCode::InvalidArgument, "the store's folder is not named");
  options_.root = fs::absolute(options_.root).lexically_normal();
}

void Store::notice(const std::string& text) const {
  if (options_.notice) options_.notice(text);
}

std::vector<fs::path> Store::make_ready() const {
  std::vector<fs::path> folders;
  for (const char* name : {"blobs", "models", "manifests", "partial", "locks"}) {
    folders.push_back(root() / name);
    make_folders(folders.back());
  }
  return folders;
}

fs::path Store::blob_path(const std::string& sha256) const { return root() / "blobs" / sha256; }

fs::path Store::manifest_path(std::string_view name) const {
  std::string file = percent_encode(name) + ".json";
  // Names are at most 180 characters, but encoding triples some of them.
  if (file.size() > 200) file = file.substr(0, 160) + "-" + short_hash(name) + ".json";
  return root() / "manifests" / file;
}

bool Store::has_blob(const std::string& sha256, std::optional<std::uint64_t> size) const {
  std::error_code error;
  if (sha256.empty()) return false;
  const auto found = fs::file_size(blob_path(sha256), error);
  return !error && (!size || found == *size);
}

FileLock Store::lock() const {
  make_folders(root() / "locks");
  return FileLock(root() / "locks" / "store.lock", options_.cancelled);
}

fs::path Store::Staging::data(const std::string& path) const { return folder / short_hash(path); }

void Store::Staging::clear() const {
  std::error_code ignored;
  fs::remove_all(folder, ignored);
}

Store::Staging::~Staging() {
  std::error_code ignored;
  fs::remove_all(folder / "model", ignored);
  fs::remove(folder, ignored);  // refuses a folder that is not empty
}

Store::Staging Store::stage(const std::string& source_key) const {
  make_folders(root() / "locks");
  const std::string key = short_hash(source_key);
  FileLock held(root() / "locks" / (key + ".lock"), options_.cancelled, [&] {
    notice(fmt::format("another process is fetching {}; waiting for it", source_key));
  });
  const fs::path folder = root() / "partial" / key;
  make_folders(folder);
  return Staging{std::move(held), folder};
}

void Store::validate(const fs::path& path, Staging& staging) const {
  if (!options_.validator) return;
  try {
    options_.validator(path);
  } catch (const Error& error) {
    // Wrong bytes are worthless. A model that only this version cannot run is worth keeping: the
    // next version need not download it again.
    if (error.code() == ErrorCode::Corrupt || error.code() == ErrorCode::NotFound) staging.clear();
    throw;
  }
}

StoredModel Store::commit(Staging& staging, StoredModel model, std::vector<StagedFile> files) {
  const auto link_all = [&](const fs::path& folder, bool staged) {
    for (const StagedFile& file : files) {
      make_folders((folder / file.path).parent_path());
      link_file(staged && !file.data.empty() ? file.data : blob_path(file.content.sha256),
                folder / file.path);
    }
  };
  const fs::path trial = staging.folder / "model";
  fs::remove_all(trial);
  {
    // The blobs that are used must not be collected between here and the manifest.
    const FileLock held = lock();
    for (const StagedFile& file : files) {
      require(!file.data.empty() || has_blob(file.content.sha256, file.content.size),
              ErrorCode::NotFound, "{}: was removed from the store meanwhile; try again",
              file.path);
    }
    link_all(trial, true);
  }
  validate(model.entry.empty() ? trial : trial / model.entry, staging);

  std::string listing;
  for (const StagedFile& file : files) listing += file.path + '\n' + file.content.sha256 + '\n';
  model.folder = short_hash(listing);
  const fs::path final_folder = root() / "models" / model.folder;

  const FileLock held = lock();
  try {
    make_folders(root() / "blobs");
    make_folders(root() / "models");
    for (const StagedFile& file : files) {
      const fs::path blob = blob_path(file.content.sha256);
      if (!has_blob(file.content.sha256, file.content.size)) {
        std::error_code ignored;
        fs::remove(blob, ignored);  // of another size: damaged
        const fs::path source = trial / file.path;
        fs::permissions(source,
                        fs::perms::owner_read | fs::perms::group_read | fs::perms::others_read,
                        ignored);
        std::error_code error;
        fs::create_hard_link(source, blob, error);
        if (error) fs::rename(file.data, blob);
      }
    }
    if (!fs::exists(final_folder)) {
      const fs::path building = final_folder.string() + ".new";
      fs::remove_all(building);
      link_all(building, false);
      fs::rename(building, final_folder);
    }
    model.files.clear();
    for (const StagedFile& file : files) {
      model.files.push_back({file.path, file.content.size, file.content.sha256,
                             modified_ns(final_folder / file.path)});
    }
    sync_folder(root() / "blobs");
    sync_folder(root() / "models");
    model = write_manifest(std::move(model));
  } catch (const fs::filesystem_error& error) {
    collect_garbage();
    fail(ErrorCode::Io, "{}: {}", error.path1().string(), error.code().message());
  } catch (...) {
    collect_garbage();
    throw;
  }
  staging.clear();
  collect_garbage();  // the model of the same name that this one replaces
  return model;
}

StoredModel Store::write_manifest(StoredModel model) {
  make_folders(root() / "manifests");
  model.added = utc_now();
  AtomicFile file(manifest_path(model.name));
  file.write(manifest_json(model));
  file.commit();
  sync_folder(root() / "manifests");
  return model;
}

std::vector<StoredModel> Store::list() const {
  std::vector<StoredModel> models;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(root() / "manifests", error)) {
    if (entry.path().extension() != ".json") continue;
    try {
      models.push_back(read_manifest(entry.path()));
    } catch (const Error& problem) {
      notice(problem.what());
    }
  }
  std::sort(models.begin(), models.end(),
            [](const StoredModel& a, const StoredModel& b) { return a.name < b.name; });
  return models;
}

std::optional<StoredModel> Store::lookup(std::string_view name) const {
  std::error_code ignored;
  if (name.size() <= 180 && fs::exists(manifest_path(name), ignored)) {
    return read_manifest(manifest_path(name));
  }
  std::string text;
  try {
    const ModelSpec spec = parse_model_spec(name);
    if (std::holds_alternative<PathSpec>(spec.source)) return std::nullopt;
    text = spec.text;
  } catch (const Error&) {
    return std::nullopt;  // no spec: then it is only a name
  }
  for (StoredModel& model : list()) {
    if (model.spec == text) return std::move(model);
  }
  return std::nullopt;
}

fs::path Store::path_of(const StoredModel& model) const {
  const fs::path folder = model.linked.empty() ? root() / "models" / model.folder : model.linked;
  return model.entry.empty() ? folder : folder / model.entry;
}

fs::path Store::find(std::string_view name_or_path) const {
  const auto model = lookup(name_or_path);
  if (!model) {
    const fs::path path(name_or_path);
    std::error_code ignored;
    if (fs::exists(path, ignored)) return path;
    // One name, no path: "nano" is the folder that came with the program.
    const bool plain = path == path.filename() && !name_or_path.starts_with(".");
    if (plain && !options_.bundled.empty()) {
      const fs::path own = options_.bundled / path;
      if (fs::exists(own / "model.safetensors", ignored)) return own;
    }
    // Throws for what cannot be a model at all, with the names it might have meant.
    const ModelSpec spec = parse_model_spec(name_or_path);
    require(!std::holds_alternative<PathSpec>(spec.source), ErrorCode::NotFound,
            "{}: no such file, and no model of that name in the store", name_or_path);
    fail(ErrorCode::NotFound, "{} is not on this machine yet; fetch it with: fathom pull {}",
         name_or_path, name_or_path);
  }
  const fs::path folder = model->linked.empty() ? root() / "models" / model->folder : model->linked;
  for (const StoredFile& file : model->files) {
    const fs::path path = folder / file.path;
    std::error_code error;
    const auto size = fs::file_size(path, error);
    require(!error, ErrorCode::NotFound, "{}: file {} is gone: {}; pull or import it again",
            model->name, path.string(), error.message());
    require(size == file.size && modified_ns(path) == file.modified_ns, ErrorCode::Corrupt,
            "{}: {} has changed since it was added ({} bytes then, {} now); remove the model and "
            "add it again",
            model->name, path.string(), file.size, size);
  }
  return path_of(*model);
}

std::optional<StoredModel> Store::present(const std::string& name) {
  std::optional<StoredModel> model;
  try {
    model = lookup(name);
    if (model) find(name);
    return model;
  } catch (const Error& error) {
    notice(fmt::format("{}; fetching it anew", error.what()));
  }
  if (!model || !model->linked.empty()) return std::nullopt;
  const FileLock held = lock();
  Progress progress(options_.progress, "looking for the damage in " + name, model->size());
  for (const StoredFile& file : model->files) {
    const fs::path blob = blob_path(file.sha256);
    std::error_code ignored;
    if (!fs::exists(blob, ignored)) continue;
    if (hash_file(blob, options_.cancelled, progress).sha256 != file.sha256) {
      fs::remove(blob, ignored);
    }
  }
  std::error_code ignored;
  fs::remove_all(root() / "models" / model->folder, ignored);
  return std::nullopt;
}

void Store::verify(std::string_view name) const {
  const auto model = lookup(name);
  require(model.has_value(), ErrorCode::NotFound, "{}: no model of that name in the store", name);
  const fs::path folder = model->linked.empty() ? root() / "models" / model->folder : model->linked;
  Progress progress(options_.progress, "verifying " + model->name, model->size());
  for (const StoredFile& file : model->files) {
    const HashedFile found = hash_file(folder / file.path, options_.cancelled, progress);
    require(found.sha256 == file.sha256, ErrorCode::Corrupt,
            "{}: {} has SHA-256 {}, expected {}; remove the model and add it again", model->name,
            (folder / file.path).string(), found.sha256, file.sha256);
  }
}

std::uint64_t Store::remove(std::string_view name) {
  const FileLock held = lock();
  fs::path manifest = manifest_path(name);
  try {
    const auto model = lookup(name);
    require(model.has_value(), ErrorCode::NotFound, "{}: no model of that name in the store", name);
    manifest = manifest_path(model->name);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::NotFound) throw;
    notice(error.what());  // a manifest that cannot be read can still be removed
  }
  std::error_code error;
  fs::remove(manifest, error);
  require(!error, ErrorCode::Io, "{}: cannot remove: {}", manifest.string(), error.message());
  return collect_garbage();
}

std::uint64_t Store::collect_garbage() const {
  std::set<std::string> blobs;
  std::set<std::string> folders;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(root() / "manifests", error)) {
    if (entry.path().filename().string().find(".json.partial-") != std::string::npos) {
      fs::remove(entry.path(), error);  // left by a process that was killed
      continue;
    }
    if (entry.path().extension() != ".json") continue;
    try {
      const StoredModel model = read_manifest(entry.path());
      if (!model.folder.empty()) folders.insert(model.folder);
      for (const StoredFile& file : model.files) blobs.insert(file.sha256);
    } catch (const Error& problem) {
      // It may name any blob: delete nothing while it is there.
      notice(fmt::format("{}; nothing is cleaned up before it is removed", problem.what()));
      return 0;
    }
  }
  std::uint64_t freed = 0;
  for (const auto& entry : fs::directory_iterator(root() / "models", error)) {
    if (!folders.contains(entry.path().filename().string())) fs::remove_all(entry.path(), error);
  }
  for (const auto& entry : fs::directory_iterator(root() / "blobs", error)) {
    if (blobs.contains(entry.path().filename().string())) continue;
    std::error_code failed;
    const auto size = entry.file_size(failed);
    if (fs::remove(entry.path(), failed) && !failed) freed += size;
  }
  return freed;
}

std::uint64_t Store::clear_partial() {
  std::uint64_t freed = 0;
  std::error_code error;
  std::vector<fs::path> folders;
  for (const auto& entry : fs::directory_iterator(root() / "partial", error)) {
    folders.push_back(entry.path());
  }
  for (const fs::path& folder : folders) {
    const fs::path lock_file = root() / "locks" / (folder.filename().string() + ".lock");
    const auto held = FileLock::try_lock(lock_file);
    if (!held) {
      notice(fmt::format("{}: being downloaded right now; left alone", folder.string()));
      continue;
    }
    const std::uint64_t bytes = folder_size(folder);
    std::error_code failed;
    fs::remove_all(folder, failed);
    if (!failed) freed += bytes;
  }
  return freed;
}

}  // namespace fathom
