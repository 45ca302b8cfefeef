// The few URL operations a downloader needs, on libcurl's parser.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace fathom {

/// An absolute URL in parts, percent-encoding kept. `port` is the scheme's own when not stated.
struct Url {
  std::string scheme;  // lower case
  std::string user;    // "user:password" or empty
  std::string host;    // lower case, brackets removed from an IPv6 address
  std::string port;
  std::string path;
  std::string fragment;
};

/// Throws Error(InvalidArgument) unless `text` is an absolute http, https or file URL.
Url parse_url(std::string_view text);

/// `reference` (absolute or relative) as seen from `base`; Error(Network) if that is no URL.
std::string resolve_url(const std::string& base, const std::string& reference);

/// Scheme, host and port are equal: a credential for one is a credential for the other.
bool same_origin(const Url& a, const Url& b);

/// localhost, 127.0.0.0/8 or ::1.
bool is_loopback(const Url& url);

/// For messages and manifests: without user, password, query and fragment.
std::string redacted_url(std::string_view url);

/// Percent-encodes all but unreserved characters; `keep` lists further characters to leave.
std::string percent_encode(std::string_view text, std::string_view keep = "");
std::string percent_decode(std::string_view text);

/// The path of a file:// URL. Error(InvalidArgument) for a remote host.
std::filesystem::path file_url_path(const std::string& url);

/// True when `path` may be created below a folder: relative, of plain components, without "..",
/// backslash, control characters, or a drive letter.
bool is_safe_relative_path(std::string_view path);

}  // namespace fathom
