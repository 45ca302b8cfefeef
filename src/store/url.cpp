#include "store/url.h"

#include <curl/curl.h>

#include <algorithm>
#include <cctype>
#include <memory>

#include "base/error.h"

namespace fathom {
namespace {

struct CurlUrlDeleter {
  void operator()(CURLU* url) const { curl_url_cleanup(url); }
};
using CurlUrl = std::unique_ptr<CURLU, CurlUrlDeleter>;

std::string part(CURLU* url, CURLUPart which, unsigned flags = 0) {
  char* text = nullptr;
  if (curl_url_get(url, which, &text, flags) != CURLUE_OK || text == nullptr) return {};
  std::string out = text;
  curl_free(text);
  return out;
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

bool is_unreserved(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '.' || c == '_' || c == '~';
}

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

Url parse_url(std::string_view text) {
  const std::string copy(text);
  const CurlUrl handle(curl_url());
  // libcurl strips nothing: a control character or space in a URL is an attempt at header
  // injection or a typing error, and both are refused.
  const bool clean = std::none_of(copy.begin(), copy.end(),
                                  [](unsigned char c) { return c <= 0x20 || c == 0x7f; });
  require(clean && handle &&
              curl_url_set(handle.get(), CURLUPART_URL, copy.c_str(), CURLU_NON_SUPPORT_SCHEME) ==
                  CURLUE_OK,
          ErrorCode::InvalidArgument, "'{}' is not a URL", redacted_url(text));
  Url url;
  url.scheme = lower(part(handle.get(), CURLUPART_SCHEME));
  require(url.scheme == "http" || url.scheme == "https" || url.scheme == "file",
          ErrorCode::InvalidArgument, "'{}': only http, https and file URLs are supported",
          redacted_url(text));
  url.user = part(handle.get(), CURLUPART_USER);
  if (const std::string password = part(handle.get(), CURLUPART_PASSWORD); !password.empty()) {
    url.user += ":" + password;
  }
  url.host = lower(part(handle.get(), CURLUPART_HOST));
  if (url.host.size() > 2 && url.host.front() == '[') {
    url.host = url.host.substr(1, url.host.size() - 2);
  }
  url.port = part(handle.get(), CURLUPART_PORT, CURLU_DEFAULT_PORT);
  url.path = part(handle.get(), CURLUPART_PATH);
  url.fragment = part(handle.get(), CURLUPART_FRAGMENT);
  return url;
}

std::string resolve_url(const std::string& base, const std::string& reference) {
  const CurlUrl handle(curl_url());
  // Spaces do occur in hand-written index pages; everything else must be encoded already.
  const bool ok = handle &&
                  curl_url_set(handle.get(), CURLUPART_URL, base.c_str(),
                               CURLU_NON_SUPPORT_SCHEME) == CURLUE_OK &&
                  curl_url_set(handle.get(), CURLUPART_URL, reference.c_str(),
                               CURLU_NON_SUPPORT_SCHEME | CURLU_URLENCODE) == CURLUE_OK;
  require(ok, ErrorCode::Network, "{}: links to something that is not a URL", redacted_url(base));
  return part(handle.get(), CURLUPART_URL);
}

bool same_origin(const Url& a, const Url& b) {
  return a.scheme == b.scheme && a.host == b.host && a.port == b.port;
}

bool is_loopback(const Url& url) {
  if (url.host == "localhost" || url.host == "::1") return true;
  // curl normalises numeric hosts (0x7f.1, 2130706433) to dotted form when it parses a URL.
  return url.host.starts_with("127.") &&
         url.host.find_first_not_of("0123456789.") == std::string::npos;
}

std::string redacted_url(std::string_view url) {
  std::string out(url.substr(0, url.find_first_of("?#")));
  const auto scheme_end = out.find("://");
  if (scheme_end == std::string::npos) return out;
  const auto host_begin = scheme_end + 3;
  const auto host_end = out.find('/', host_begin);
  const auto at = out.rfind('@', host_end == std::string::npos ? out.size() : host_end);
  if (at != std::string::npos && at >= host_begin) out.erase(host_begin, at + 1 - host_begin);
  return out;
}

std::string percent_encode(std::string_view text, std::string_view keep) {
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    if (is_unreserved(c) || keep.find(c) != std::string_view::npos) {
      out += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      out += '%';
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    }
  }
  return out;
}

std::string percent_decode(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && hex_value(text[i + 1]) >= 0 &&
        hex_value(text[i + 2]) >= 0) {
      out += static_cast<char>(hex_value(text[i + 1]) * 16 + hex_value(text[i + 2]));
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::filesystem::path file_url_path(const std::string& url) {
  constexpr std::string_view kScheme = "file://";
  require(lower(url.substr(0, kScheme.size())) == kScheme, ErrorCode::InvalidArgument,
          "'{}' is not a file URL", url);
  std::string rest = url.substr(kScheme.size());
  rest.resize(std::min(rest.find_first_of("?#"), rest.size()));
  if (rest.starts_with("localhost/")) rest.erase(0, std::string_view("localhost").size());
  require(rest.starts_with('/'), ErrorCode::InvalidArgument,
          "'{}' names another machine; a file URL starts with file:///", url);
  const std::string path = percent_decode(rest);
  require(path.find('\0') == std::string::npos, ErrorCode::InvalidArgument,
          "'{}' holds a NUL character", url);
  return path;
}

bool is_safe_relative_path(std::string_view path) {
  if (path.empty() || path.size() > 1024 || path.front() == '/') return false;
  for (const unsigned char c : path) {
    if (c < 0x20 || c == 0x7f || c == '\\' || c == ':') return false;
  }
  while (true) {
    const auto slash = path.find('/');
    const std::string_view component = path.substr(0, slash);
    if (component.empty() || component == "." || component == ".." || component.size() > 255) {
      return false;
    }
    if (slash == std::string_view::npos) return true;
    path.remove_prefix(slash + 1);
  }
}

}  // namespace fathom
