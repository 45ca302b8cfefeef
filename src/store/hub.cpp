#include "store/hub.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "store/url.h"

namespace fathom {
namespace {

using nlohmann::json;
constexpr std::size_t kMaxApiBytes = 32 * 1024 * 1024;
constexpr std::size_t kMaxFiles = 100'000;

bool is_hex(const std::string& text, std::size_t digits) {
  return text.size() == digits && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

std::string string_at(const json& object, const char* key) {
  if (!object.is_object()) return {};
  const auto it = object.find(key);
  return it != object.end() && it->is_string() ? it->get<std::string>() : std::string();
}

/// Authors state it in the model card; the Hub repeats it as a tag.
std::string licence_of(const json& document) {
  if (const auto card = document.find("cardData"); card != document.end()) {
    std::string licence = string_at(*card, "license");
    // "other" points to a name of its own.
    if (licence == "other" && !string_at(*card, "license_name").empty()) {
      licence = string_at(*card, "license_name");
    }
    if (!licence.empty()) return licence;
  }
  if (const auto tags = document.find("tags"); tags != document.end() && tags->is_array()) {
    for (const json& tag : *tags) {
      constexpr std::string_view kPrefix = "license:";
      if (tag.is_string() && tag.get_ref<const std::string&>().starts_with(kPrefix)) {
        return tag.get<std::string>().substr(kPrefix.size());
      }
    }
  }
  return {};
}

/// An ETag's opaque part: `W/"abc"` and `"abc"` give abc.
std::string etag_value(std::string etag) {
  if (etag.starts_with("W/")) etag.erase(0, 2);
  if (etag.size() >= 2 && etag.front() == '"' && etag.back() == '"') {
    etag = etag.substr(1, etag.size() - 2);
  }
  return etag;
}

std::string endpoint_path(const HubOptions& hub, const std::string& rest) {
  std::string endpoint = hub.endpoint;
  while (endpoint.ends_with('/')) endpoint.pop_back();
  return endpoint + rest;
}

}  // namespace

Hub::Hub(HttpClient& http, std::function<void(const std::string&)> notice)
    : http_(http), notice_(std::move(notice)) {}

HubRevision Hub::revision(const HubSpec& spec) {
  const HubOptions& hub = http_.options().hub;
  require(!hub.offline, ErrorCode::Network, "{}: HF_HUB_OFFLINE forbids asking the Hub for it",
          spec.repository);
  HttpRequest request;
  request.url =
      endpoint_path(hub, "/api/models/" + percent_encode(spec.repository, "/") + "/revision/" +
                             percent_encode(spec.revision) + "?blobs=true");
  request.bearer_token = hub.token;
  const auto [response, body] = http_.fetch(request, kMaxApiBytes, notice_);
  if (response.status != 200) fail_as_hub(response, spec, spec.repository);

  const json document = json::parse(body, nullptr, false);
  const std::string where = redacted_url(request.url);
  require(document.is_object(), ErrorCode::Network, "{}: the answer is not JSON", where);
  HubRevision revision;
  revision.commit = string_at(document, "sha");
  require(is_hex(revision.commit, 40), ErrorCode::Network, "{}: the answer names no commit", where);
  revision.licence = licence_of(document);
  const auto siblings = document.find("siblings");
  require(siblings != document.end() && siblings->is_array() && siblings->size() <= kMaxFiles,
          ErrorCode::Network, "{}: the answer lists no files", where);
  for (const json& sibling : *siblings) {
    HubFile file;
    file.path = string_at(sibling, "rfilename");
    // Such a name could be written outside of its folder. No honest repository has one.
    require(is_safe_relative_path(file.path), ErrorCode::Corrupt,
            "{}: lists a file with the unsafe name '{}'", where, file.path);
    if (const auto size = sibling.find("size");
        size != sibling.end() && size->is_number_unsigned()) {
      file.size = size->get<std::uint64_t>();
    }
    revision.files.push_back(std::move(file));
  }
  return revision;
}

RemoteFile Hub::resolve(const HubSpec& spec, const HubRevision& revision, const std::string& path) {
  const HubOptions& hub = http_.options().hub;
  RemoteFile remote;
  remote.label = path.substr(path.rfind('/') + 1);
  remote.bearer_token = hub.token;
  remote.url = endpoint_path(hub, "/" + percent_encode(spec.repository, "/") + "/resolve/" +
                                      revision.commit + "/" + percent_encode(path, "/"));
  HttpRequest request;
  request.url = remote.url;
  request.head = true;
  // The Hub describes a large file in the headers of its redirect to the server that has the bytes;
  // a redirect within the Hub only means that the repository was renamed.
  request.leave_origin = false;
  request.bearer_token = hub.token;
  request.headers.emplace_back("Accept-Encoding", "identity");
  const auto [response, body] = http_.fetch(request, 0, notice_);
  if (response.status >= 400) fail_as_hub(response, spec, path);

  const std::string& commit = response.header("x-repo-commit");
  require(commit.empty() || commit == revision.commit, ErrorCode::Network,
          "{}: asked for commit {}, the server has {}", path, revision.commit, commit);
  const std::string& linked_size = response.header("x-linked-size");
  if (!linked_size.empty()) {
    std::uint64_t size = 0;
    const auto [end, error] =
        std::from_chars(linked_size.data(), linked_size.data() + linked_size.size(), size);
    require(error == std::errc() && end == linked_size.data() + linked_size.size(),
            ErrorCode::Network, "{}: the server states the size '{}'", path, linked_size);
    remote.size = size;
  } else if (response.status < 300) {
    remote.size = response.content_length();
  }
  const std::string& linked_etag = response.header("x-linked-etag");
  const std::string etag = etag_value(linked_etag.empty() ? response.header("etag") : linked_etag);
  if (is_hex(etag, 64)) remote.sha256 = etag;
  if (is_hex(etag, 40)) remote.git_id = etag;
  require(!remote.sha256.empty() || !remote.git_id.empty(), ErrorCode::Network,
          "{}: {} states no digest to check the file by; is HF_ENDPOINT a Hub?", path,
          redacted_url(response.url));
  return remote;
}

void Hub::fail_as_hub(const HttpResponse& response, const HubSpec& spec,
                      const std::string& what) const {
  const HubOptions& hub = http_.options().hub;
  const std::string& code = response.header("x-error-code");
  const std::string page = endpoint_path(hub, "/" + spec.repository);
  const bool signed_in = !hub.token.empty();
  if (code == "GatedRepo" || (response.status == 403 && code.empty())) {
    fail(ErrorCode::Network, "{}: the repository is gated: accept its conditions at {}, then {}",
         what, page,
         signed_in ? "try again with the token of that account"
                   : "set HF_TOKEN to a token of that account");
  }
  if (code == "RevisionNotFound") {
    fail(ErrorCode::NotFound, "{}: has no branch, tag or commit '{}'", spec.repository,
         spec.revision);
  }
  if (code == "EntryNotFound") {
    fail(ErrorCode::NotFound, "{}: has no file '{}' at '{}'", spec.repository, what, spec.revision);
  }
  // The Hub answers 401, not 404, for what may be a private repository.
  if (code == "RepoNotFound" || response.status == 401 || response.status == 404) {
    fail(ErrorCode::NotFound, "{}: no such model at {}, or it is private{}", spec.repository,
         redacted_url(hub.endpoint),
         signed_in ? " and the token does not open it" : "; for a private one, set HF_TOKEN");
  }
  fail_for_status(response, what);
}

}  // namespace fathom
