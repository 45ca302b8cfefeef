#include "store/package_index.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "store/files.h"
#include "store/model_spec.h"
#include "store/url.h"

namespace fathom {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;
constexpr std::size_t kMaxIndexBytes = 64 * 1024 * 1024;
constexpr const char* kAccept =
    "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, "
    "text/html;q=0.1";

bool is_sha256(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool equals_ignoring_case(std::string_view a, std::string_view b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(),
                                            [](char x, char y) { return lower(x) == lower(y); });
}

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f'; }

/// The character references that occur in URLs and attribute values of index pages.
std::string unescaped(std::string_view text) {
  static constexpr std::array<std::pair<std::string_view, char>, 8> kNames{{{"&amp;", '&'},
                                                                            {"&lt;", '<'},
                                                                            {"&gt;", '>'},
                                                                            {"&quot;", '"'},
                                                                            {"&apos;", '\''},
                                                                            {"&#39;", '\''},
                                                                            {"&#x27;", '\''},
                                                                            {"&#43;", '+'}}};
  std::string out;
  while (!text.empty()) {
    const auto match = std::find_if(kNames.begin(), kNames.end(),
                                    [&](const auto& name) { return text.starts_with(name.first); });
    out += match != kNames.end() ? match->second : text.front();
    text.remove_prefix(match != kNames.end() ? match->first.size() : 1);
  }
  return out;
}

/// An opening tag's attributes, in order.
using Attributes = std::vector<std::pair<std::string, std::string>>;

/// Reads attributes from `text` up to the tag's '>', which it removes from `text` too.
Attributes take_attributes(std::string_view& text) {
  Attributes attributes;
  const auto skip_space = [&] {
    while (!text.empty() && (is_space(text.front()) || text.front() == '/')) text.remove_prefix(1);
  };
  for (skip_space(); !text.empty() && text.front() != '>'; skip_space()) {
    std::string name;
    while (!text.empty() && !is_space(text.front()) && text.front() != '=' && text.front() != '>' &&
           text.front() != '/') {
      name += lower(text.front());
      text.remove_prefix(1);
    }
    while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
    std::string value;
    if (!text.empty() && text.front() == '=') {
      text.remove_prefix(1);
      while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
      std::size_t end;
      if (!text.empty() && (text.front() == '"' || text.front() == '\'')) {
        const char quote = text.front();
        text.remove_prefix(1);
        end = std::min(text.find(quote), text.size());
        value = unescaped(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
      } else {
        end = std::min(text.find_first_of(" \t\r\n\f>"), text.size());
        value = unescaped(text.substr(0, end));
        text.remove_prefix(end);
      }
    } else if (name.empty()) {
      break;  // neither a name nor a value: not markup we know
    }
    attributes.emplace_back(std::move(name), std::move(value));
  }
  return attributes;
}

std::string attribute(const Attributes& attributes, std::string_view name) {
  for (const auto& [key, value] : attributes) {
    if (key == name) return value;
  }
  return {};
}

/// The file that the page at `page` links to. Throws Error for what is no URL of ours, and for a
/// link from the network to this machine's own files.
PackageFile file_from_link(const std::string& url, const std::string& page) {
  require(parse_url(url).scheme != "file" || page.starts_with("file://"), ErrorCode::Network,
          "{}: links to a file of this machine", redacted_url(page));
  PackageFile file;
  const auto hash = url.find('#');
  file.url = url.substr(0, hash);
  if (hash != std::string::npos) {
    constexpr std::string_view kSha256 = "sha256=";
    std::string_view fragment = std::string_view(url).substr(hash + 1);
    if (const auto at = fragment.find(kSha256); at != std::string_view::npos) {
      fragment = fragment.substr(at + kSha256.size(), 64);
      if (is_sha256(fragment)) file.sha256 = fragment;
    }
  }
  const std::string path = file.url.substr(0, file.url.find('?'));
  file.name = percent_decode(path.substr(path.rfind('/') + 1));
  return file;
}

std::string encoded_file_url(const fs::path& path) {
  std::string url = "file://" + percent_encode(fs::absolute(path).string(), "/");
  while (url.ends_with('/')) url.pop_back();
  return url;
}

/// The wheels of a folder, as links.
std::vector<PackageFile> list_folder(const fs::path& folder) {
  std::vector<PackageFile> files;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    PackageFile file;
    file.name = entry.path().filename().string();
    file.url = encoded_file_url(entry.path());
    files.push_back(std::move(file));
  }
  require(!error, ErrorCode::Io, "{}: {}", folder.string(), error.message());
  return files;
}

/// A page of links: JSON or HTML by what the server says it is; nothing when there is none.
std::vector<PackageFile> read_page(HttpClient& http, const std::string& url,
                                   const std::function<void(const std::string&)>& notice) {
  if (parse_url(url).scheme == "file") {
    const fs::path path = file_url_path(url);
    if (fs::is_directory(path)) {
      const fs::path page = path / "index.html";
      if (!fs::exists(page)) return list_folder(path);
      return parse_index_html(read_text(page, kMaxIndexBytes), encoded_file_url(path) + "/");
    }
    if (!fs::exists(path)) return {};
    return parse_index_html(read_text(path, kMaxIndexBytes), url);
  }
  HttpRequest request;
  request.url = url;
  request.headers.emplace_back("Accept", kAccept);
  const auto [response, body] = http.fetch(request, kMaxIndexBytes, notice);
  if (response.status == 404) return {};
  require(response.status == 200, ErrorCode::Network, "{} answers {}", redacted_url(url),
          response.status);
  const std::string& type = response.header("content-type");
  return type.find("json") != std::string::npos ? parse_index_json(body, response.url)
                                                : parse_index_html(body, response.url);
}

/// A link to the same server needs the credentials that its index was given.
void add_credentials(PackageFile& file, const std::string& index) {
  if (parse_url(index).scheme == "file") return;
  const Url from = parse_url(index);
  const Url to = parse_url(file.url);
  if (from.user.empty() || !to.user.empty() || !same_origin(from, to)) return;
  const auto host = file.url.find("://") + 3;
  file.url.insert(host, from.user + "@");
}

struct Candidate {
  PackageFile file;
  PackageVersion version;
  std::size_t source = 0;
  bool any_platform = false;
};

}  // namespace

std::optional<WheelName> parse_wheel_name(std::string_view file) {
  constexpr std::string_view kEnding = ".whl";
  if (!file.ends_with(kEnding) || !is_safe_relative_path(file) ||
      file.find('/') != std::string_view::npos) {
    return std::nullopt;
  }
  file.remove_suffix(kEnding.size());
  std::vector<std::string_view> parts;
  for (std::size_t begin = 0; begin <= file.size();) {
    const auto end = std::min(file.find('-', begin), file.size());
    parts.push_back(file.substr(begin, end - begin));
    begin = end + 1;
  }
  if (parts.size() != 5 && parts.size() != 6) return std::nullopt;
  const auto tag = parts.size() - 3;
  return WheelName{normalised_package_name(parts[0]), std::string(parts[1]),
                   fmt::format("{}-{}-{}", parts[tag], parts[tag + 1], parts[tag + 2])};
}

std::vector<PackageFile> parse_index_html(const std::string& html, const std::string& url) {
  std::vector<PackageFile> files;
  std::string base = url;
  std::string_view text = html;
  while (true) {
    const auto tag = text.find('<');
    if (tag == std::string_view::npos) return files;
    text.remove_prefix(tag + 1);
    if (text.starts_with("!--")) {
      text.remove_prefix(std::min(text.find("-->"), text.size()));
      continue;
    }
    std::size_t length = 0;
    while (length < text.size() && !is_space(text[length]) && text[length] != '>') ++length;
    const std::string_view name = text.substr(0, length);
    text.remove_prefix(length);
    if (!equals_ignoring_case(name, "a") && !equals_ignoring_case(name, "base")) continue;
    const Attributes attributes = take_attributes(text);
    const std::string href = attribute(attributes, "href");
    if (href.empty()) continue;
    try {
      const std::string target = resolve_url(base, href);
      if (equals_ignoring_case(name, "base")) {
        base = target;
        continue;
      }
      PackageFile file = file_from_link(target, url);
      file.yanked = std::any_of(attributes.begin(), attributes.end(),
                                [](const auto& pair) { return pair.first == "data-yanked"; });
      files.push_back(std::move(file));
    } catch (const Error&) {
      continue;  // mailto: and the like are no files of ours
    }
  }
}

std::vector<PackageFile> parse_index_json(const std::string& text, const std::string& url) {
  const json document = json::parse(text, nullptr, false);
  const auto entries = document.is_object() ? document.find("files") : document.end();
  require(document.is_object() && entries != document.end() && entries->is_array(),
          ErrorCode::Network, "{}: not a package index (PEP 691)", redacted_url(url));
  std::vector<PackageFile> files;
  for (const json& entry : *entries) {
    if (!entry.is_object() || !entry.contains("url") || !entry["url"].is_string()) continue;
    PackageFile file;
    try {
      file = file_from_link(resolve_url(url, entry["url"].get<std::string>()), url);
    } catch (const Error&) {
      continue;
    }
    if (entry.contains("filename") && entry["filename"].is_string()) {
      file.name = entry["filename"].get<std::string>();
    }
    if (const auto hashes = entry.find("hashes"); hashes != entry.end() && hashes->is_object()) {
      const auto sha256 = hashes->find("sha256");
      if (sha256 != hashes->end() && sha256->is_string() &&
          is_sha256(sha256->get_ref<const std::string&>())) {
        file.sha256 = sha256->get<std::string>();
      }
    }
    if (const auto size = entry.find("size"); size != entry.end() && size->is_number_unsigned()) {
      file.size = size->get<std::uint64_t>();
    }
    // false, true, or the reason as a text.
    const auto yanked = entry.find("yanked");
    file.yanked = yanked != entry.end() &&
                  (yanked->is_string() || (yanked->is_boolean() && yanked->get<bool>()));
    files.push_back(std::move(file));
  }
  return files;
}

PackageFile find_wheel(HttpClient& http, const std::string& package, const std::string& version,
                       const std::function<void(const std::string&)>& notice) {
  const PackageIndexOptions& options = http.options().packages;
  struct Source {
    std::string url;
    bool is_page;  // of links itself, rather than an index with a page for each package
  };
  std::vector<Source> sources;
  for (const std::string& link : options.find_links) {
    const bool is_url = link.find("://") != std::string::npos;
    sources.push_back({is_url ? link : encoded_file_url(link), true});
  }
  if (!options.no_index) {
    sources.push_back({options.index_url, false});
    for (const std::string& url : options.extra_index_urls) sources.push_back({url, false});
  }

  std::optional<PackageVersion> wanted;
  if (!version.empty()) {
    wanted = PackageVersion::parse(version);
    require(wanted.has_value(), ErrorCode::InvalidArgument, "'{}' is not a version (PEP 440)",
            version);
  }
  std::vector<Candidate> candidates;
  std::string looked;
  for (std::size_t i = 0; i < sources.size(); ++i) {
    std::string url = sources[i].url;
    if (!sources[i].is_page) {
      while (url.ends_with('/')) url.pop_back();
      url += "/" + package + "/";
    }
    std::vector<PackageFile> files;
    std::string problem;
    try {
      files = read_page(http, url, notice);
    } catch (const Error& error) {
      if (error.code() == ErrorCode::Cancelled) throw;
      problem = error.what();  // another source may still have it
    }
    std::size_t ours = 0;
    std::size_t wheels = 0;
    for (PackageFile& file : files) {
      const auto name = parse_wheel_name(file.name);
      if (!name) {
        ours += normalised_package_name(file.name).starts_with(package + "-") ? 1 : 0;
        continue;
      }
      if (name->package != package) continue;
      ++ours;
      ++wheels;
      const auto parsed = PackageVersion::parse(name->version);
      if (!parsed || (wanted && !(*parsed == *wanted))) continue;
      // A yanked or pre-release file is only for who asks for exactly that.
      if (!wanted && (file.yanked || (parsed->is_pre_release() && !options.pre_releases))) continue;
      add_credentials(file, url);
      candidates.push_back({std::move(file), *parsed, i, name->tags.ends_with("-none-any")});
    }
    looked += fmt::format("{} {} ({})", looked.empty() ? "" : ",", redacted_url(url),
                          !problem.empty() ? problem
                          : ours == 0      ? "does not have it"
                          : wheels == 0    ? "has it, but not as a wheel"
                                           : fmt::format("has {} wheels", wheels));
  }
  require(!candidates.empty(), ErrorCode::NotFound, "no wheel of {}{} found; looked at{}", package,
          version.empty() ? "" : " " + version, looked.empty() ? " no index at all" : looked);
  const auto better = [](const Candidate& a, const Candidate& b) {
    if (a.version != b.version) return a.version > b.version;
    if (a.source != b.source) return a.source < b.source;
    return a.any_platform && !b.any_platform;
  };
  return std::min_element(candidates.begin(), candidates.end(), better)->file;
}

}  // namespace fathom
