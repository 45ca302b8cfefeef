// One file over HTTP: resumed where it stopped, verified before it counts.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "store/files.h"
#include "store/http.h"

namespace fathom {

struct RemoteFile {
  std::string url;
  std::string label;                  // for messages and progress: "model.gguf"
  std::optional<std::uint64_t> size;  // if known beforehand
  std::string sha256;                 // expected, or empty
  std::string git_id;                 // expected git blob id, or empty
  std::string bearer_token;           // for `url`'s origin only
};

/// Downloads into `target`, going on from what an earlier attempt left there if that is still the
/// same file by `target`.json (URL, ETag, size, digest). When it returns, the file is complete, on
/// disk, and has the expected size and digests. On failure `target` keeps what is good for a later
/// attempt; content that turned out wrong is deleted.
///
/// Throws Error(NotFound) for 404, Error(Corrupt) for a wrong digest or size, Error(Io) for a full
/// disk, Error(Network) otherwise, Error(Cancelled).
HashedFile download(HttpClient& http, const RemoteFile& remote, const std::filesystem::path& target,
                    const StoreOptions& options);

/// Throws the Error that fits a status of 400 or more (but not a transient one), and explains what
/// a person can do about it.
[[noreturn]] void fail_for_status(const HttpResponse& response, const std::string& what);

}  // namespace fathom
