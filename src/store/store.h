// Where models live on this machine, and how they get there.
//
// root/
//   blobs/<sha256>            every file once, by content, read-only
//   models/<id>/<files>       a model as the loader wants it: hard links to blobs
//   manifests/<name>.json     the one thing that makes a model exist; written last, renamed in
//   place partial/<key>/            downloads under way or interrupted, with what is needed to
//   resume locks/                    one for the store (held for moments), one for each source
//
// A model appears whole or not at all: its files are fetched and verified in partial/, opened once
// by the validator, linked into blobs/ and models/, and then named by a manifest. What no manifest
// names is removed under the store's lock.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "store/files.h"
#include "store/model_spec.h"
#include "store/options.h"

namespace fathom {

struct StoredFile {
  std::string path;  // relative to the model's folder: "model.gguf"
  std::uint64_t size = 0;
  std::string sha256;
  std::int64_t modified_ns = 0;  // of the file in the store; a change since means damage
};

struct StoredModel {
  std::string name;
  std::string spec;     // where it came from, as pull() would take it again
  std::string origin;   // what that was on that day: "OWNER/REPO at 0123abc...", a wheel, a URL
  std::string digest;   // of the carrier (a wheel), to see whether the source has changed
  std::string licence;  // empty when unknown
  std::string added;    // "2026-11-21T19:30:00Z"
  std::vector<StoredFile> files;
  std::filesystem::path linked;  // --link: the user's own file or folder; else empty
  std::string folder;            // below models/; empty when linked
  std::string entry;             // the file to open, relative to the folder; empty: the folder

  std::uint64_t size() const;
};

enum class ImportMode { Copy, Link };

/// Thread-safe and process-safe: all state is on disk, under locks.
class Store {
 public:
  /// Nothing is created before the first pull or import.
  explicit Store(StoreOptions options);

  /// Fetches what `spec` names and adds it as `name` (empty: a name made from the spec), replacing
  /// a model of that name. Asks no server when the spec pins a digest that is here already. Two
  /// pulls of the same source take turns, also across processes. On failure the store is as before;
  /// a partial download stays in partial/ for the next try.
  StoredModel pull(std::string_view spec, const NetworkOptions& network,
                   std::string_view name = {});

  /// Adds a GGUF file (with the other parts of its split set), a safetensors file, or a folder with
  /// config.json. Copy: by reference where the filesystem can. Link: the files stay where they are,
  /// and must stay unchanged.
  StoredModel import(const std::filesystem::path& path, ImportMode mode,
                     std::string_view name = {});

  /// By name. Manifests that cannot be read are left out, with a notice.
  std::vector<StoredModel> list() const;

  /// The model called `name`, or pulled from the spec `name`; nullopt when there is none.
  std::optional<StoredModel> lookup(std::string_view name) const;

  /// The path to open: of a model in the store, else `name_or_path` itself when it exists, else of
  /// a model that came with the program. Compares sizes and times only, so it is quick and offline.
  /// Throws Error(NotFound), saying how to get it, and Error(Corrupt) when a file has changed since
  /// it was added.
  std::filesystem::path find(std::string_view name_or_path) const;

  std::filesystem::path path_of(const StoredModel& model) const;

  /// Reads every byte of the model again. Throws Error(Corrupt) naming the first file whose digest
  /// is not the recorded one.
  void verify(std::string_view name) const;

  /// Forgets the model and deletes the files that no other model uses. Returns the bytes freed.
  std::uint64_t remove(std::string_view name);

  /// Deletes interrupted downloads that no process is working on. Returns the bytes freed.
  std::uint64_t clear_partial();

  const std::filesystem::path& root() const { return options_.root; }
  /// Makes the folders below root() that pull() writes in, and returns them: what a process that
  /// does nothing else has to be let into.
  std::vector<std::filesystem::path> make_ready() const;

 private:
  /// A file on its way into the store.
  struct StagedFile {
    std::string path;
    HashedFile content;
    std::filesystem::path data;  // empty: the blob exists already
  };
  struct Staging;  // a folder in partial/, locked

  Staging stage(const std::string& source_key) const;
  StoredModel commit(Staging& staging, StoredModel model, std::vector<StagedFile> files);
  void validate(const std::filesystem::path& path, Staging& staging) const;
  StoredModel write_manifest(StoredModel model);
  std::uint64_t collect_garbage() const;  // the store's lock must be held
  FileLock lock() const;

  StoredModel pull_hub(const ModelSpec& spec, const NetworkOptions& network, StoredModel model);
  StoredModel pull_package(const ModelSpec& spec, const NetworkOptions& network, StoredModel model);
  StoredModel pull_url(const ModelSpec& spec, const NetworkOptions& network, StoredModel model);
  StoredModel import_as(const std::filesystem::path& path, ImportMode mode, StoredModel model);
  /// The model called `name` if all of it is as it was added; damaged files are dropped, so that
  /// fetching it again mends it.
  std::optional<StoredModel> present(const std::string& name);
  bool has_blob(const std::string& sha256, std::optional<std::uint64_t> size) const;

  std::filesystem::path blob_path(const std::string& sha256) const;
  std::filesystem::path manifest_path(std::string_view name) const;
  void notice(const std::string& text) const;

  StoreOptions options_;
};

}  // namespace fathom
