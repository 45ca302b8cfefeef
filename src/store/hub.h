// The Hugging Face Hub's protocol, as far as fetching a model needs it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "store/download.h"
#include "store/http.h"
#include "store/model_spec.h"

namespace fathom {

struct HubFile {
  std::string path;  // in the repository
  std::optional<std::uint64_t> size;
};

/// One commit of a repository.
struct HubRevision {
  std::string commit;   // 40 hexadecimal digits
  std::string licence;  // SPDX-like, as its authors stated it; empty when they did not
  std::vector<HubFile> files;
};

class Hub {
 public:
  /// `http` must outlive the Hub.
  Hub(HttpClient& http, std::function<void(const std::string&)> notice);

  /// Throws Error(NotFound) for an unknown repository or revision, and says what to do about a
  /// private or gated one.
  HubRevision revision(const HubSpec& spec);

  /// The address, size and digest of a file at that commit.
  RemoteFile resolve(const HubSpec& spec, const HubRevision& revision, const std::string& path);

 private:
  [[noreturn]] void fail_as_hub(const HttpResponse& response, const HubSpec& spec,
                                const std::string& what) const;

  HttpClient& http_;
  std::function<void(const std::string&)> notice_;
};

/// Which of a repository's files make up the model. With `file` empty: its one GGUF (or split set),
/// else the Q4_K_M one (told through `notice`), else a folder of safetensors with configuration and
/// tokenizer. With `file` a path: that file, and the rest of its split set. With `file` a word such
/// as "Q8_0": the GGUF whose name ends in it. Throws Error(NotFound | InvalidArgument) listing the
/// choices.
std::vector<HubFile> choose_hub_files(const std::vector<HubFile>& files, const std::string& file,
                                      const std::string& repository,
                                      const std::function<void(const std::string&)>& notice);

/// `chosen` with the shards that the index (a file fetched from there) names, and no others. Throws
/// Error(Corrupt) for what is no index and Error(NotFound) naming a shard that the repository has
/// not.
std::vector<HubFile> keep_indexed_shards(const std::vector<HubFile>& chosen,
                                         const std::filesystem::path& index,
                                         const std::string& repository,
                                         const std::function<void(const std::string&)>& notice);

}  // namespace fathom
