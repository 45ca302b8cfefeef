#include "store/model_spec.h"

#include <algorithm>
#include <cctype>
#include <filesystem>

#include "base/error.h"
#include "store/url.h"

namespace fathom {
namespace {

bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '_' || c == '.';
}

bool is_alnum(char c) { return is_word(c) && c != '-' && c != '_' && c != '.'; }

/// One component of a repository's name, as the Hub allows it.
bool is_repository_part(std::string_view text) {
  return !text.empty() && text.size() <= 96 && std::all_of(text.begin(), text.end(), is_word) &&
         text.front() != '-' && text.front() != '.' && text.back() != '-' && text.back() != '.' &&
         text.find("..") == std::string_view::npos;
}

bool is_sha256(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

/// The last component of a path or URL, without a model file's ending.
std::string stem_of(std::string_view path) {
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  std::string name = percent_decode(path.substr(path.rfind('/') + 1));
  for (const std::string_view ending : {".gguf", ".safetensors"}) {
    if (name.ends_with(ending)) name.resize(name.size() - ending.size());
  }
  for (char& c : name) {
    if (!is_word(c)) c = '-';
  }
  while (!name.empty() && !is_alnum(name.front())) name.erase(0, 1);
  for (auto at = name.find(".."); at != std::string::npos; at = name.find("..")) name.erase(at, 1);
  return name.empty() ? "model" : name;
}

ModelSpec parse_hub(std::string_view rest, std::string_view whole) {
  HubSpec hub;
  const auto colon = rest.find(':');
  if (colon != std::string_view::npos) {
    hub.file = rest.substr(colon + 1);
    require(is_safe_relative_path(hub.file), ErrorCode::InvalidArgument,
            "'{}': '{}' is not a file path inside a repository", whole, hub.file);
    rest = rest.substr(0, colon);
  }
  const auto at = rest.find('@');
  if (at != std::string_view::npos) {
    hub.revision = rest.substr(at + 1);
    require(is_safe_relative_path(hub.revision), ErrorCode::InvalidArgument,
            "'{}': '{}' is not a branch, tag or commit", whole, hub.revision);
    rest = rest.substr(0, at);
  }
  const auto slash = rest.find('/');
  const bool valid =
      slash == std::string_view::npos
          ? is_repository_part(rest)
          : is_repository_part(rest.substr(0, slash)) && is_repository_part(rest.substr(slash + 1));
  require(valid, ErrorCode::InvalidArgument,
          "'{}': expected hf:OWNER/REPO[@REVISION][:FILE], found repository '{}'", whole, rest);
  hub.repository = rest;
  ModelSpec spec;
  spec.name = hub.repository + (at == std::string_view::npos ? "" : "@" + hub.revision) +
              (hub.file.empty() ? "" : ":" + hub.file);
  spec.text = "hf:" + spec.name;
  spec.source = std::move(hub);
  return spec;
}

ModelSpec parse_package(std::string_view rest, std::string_view whole) {
  PackageSpec package;
  const auto colon = rest.find(':');
  if (colon != std::string_view::npos) {
    package.file = rest.substr(colon + 1);
    require(is_safe_relative_path(package.file), ErrorCode::InvalidArgument,
            "'{}': '{}' is not a file path inside a wheel", whole, package.file);
    rest = rest.substr(0, colon);
  }
  const auto equals = rest.find("==");
  if (equals != std::string_view::npos) {
    package.version = rest.substr(equals + 2);
    require(!package.version.empty() &&
                std::all_of(package.version.begin(), package.version.end(),
                            [](char c) { return is_word(c) || c == '+' || c == '!'; }),
            ErrorCode::InvalidArgument, "'{}': '{}' is not a version", whole, package.version);
    rest = rest.substr(0, equals);
  }
  require(!rest.empty() && std::all_of(rest.begin(), rest.end(), is_word) &&
              is_alnum(rest.front()) && is_alnum(rest.back()),
          ErrorCode::InvalidArgument,
          "'{}': expected pypi:PACKAGE[==VERSION][:FILE], found package '{}'", whole, rest);
  package.package = normalised_package_name(rest);
  ModelSpec spec;
  spec.name = package.package;
  if (!package.version.empty()) spec.name += "@" + package.version;
  std::replace(spec.name.begin(), spec.name.end(), '!', '-');
  spec.text = "pypi:" + package.package + (package.version.empty() ? "" : "==" + package.version) +
              (package.file.empty() ? "" : ":" + package.file);
  if (!package.file.empty()) spec.name += ":" + package.file;
  spec.source = std::move(package);
  return spec;
}

ModelSpec parse_link(std::string_view text) {
  ModelSpec spec;
  const Url url = parse_url(text);
  if (url.scheme == "file") {
    PathSpec path{file_url_path(std::string(text)).string()};
    spec.text = path.path;
    spec.name = stem_of(path.path);
    spec.source = std::move(path);
    return spec;
  }
  if (!url.fragment.empty()) {
    constexpr std::string_view kPrefix = "sha256=";
    require(url.fragment.starts_with(kPrefix) && is_sha256(url.fragment.substr(kPrefix.size())),
            ErrorCode::InvalidArgument,
            "'{}': after # only sha256= and 64 lower-case hexadecimal digits are understood",
            redacted_url(text));
    spec.sha256 = url.fragment.substr(kPrefix.size());
  }
  UrlSpec link{std::string(text.substr(0, text.find('#')))};
  spec.text = redacted_url(link.url);
  spec.name = stem_of(url.path);
  spec.source = std::move(link);
  return spec;
}

bool looks_like_path(std::string_view text) {
  return text.find('/') != std::string_view::npos || text.starts_with(".") ||
         text.ends_with(".gguf") || text.ends_with(".safetensors");
}

[[noreturn]] void fail_unknown_name(std::string_view text) {
  const std::string_view family = text.substr(0, text.find(':'));
  std::string related;
  for (const CatalogueEntry& entry : catalogue()) {
    const std::string_view name = entry.name;
    if (name.substr(0, name.find(':')) == family) {
      related += (related.empty() ? "" : ", ") + std::string(name);
    }
  }
  fail(ErrorCode::NotFound,
       "'{}' is no model on this machine ('fathom list'), no file, and no known name ({}); "
       "hf:OWNER/REPO, pypi:PACKAGE and URLs can be pulled too",
       text, related.empty() ? "'fathom list --known'" : "there are " + related);
}

}  // namespace

ModelSpec parse_model_spec(std::string_view text) {
  require(!text.empty() && text.size() <= 4096 && text.find('\0') == std::string_view::npos,
          ErrorCode::InvalidArgument, "a model is named by 1 to 4096 characters");
  if (text.starts_with("hf:")) return parse_hub(text.substr(3), text);
  if (text.starts_with("pypi:")) return parse_package(text.substr(5), text);
  if (text.find("://") != std::string_view::npos) return parse_link(text);
  for (const CatalogueEntry& entry : catalogue()) {
    if (text != entry.name) continue;
    ModelSpec spec = parse_model_spec(entry.spec);
    spec.licence = entry.licence;
    spec.sha256 = entry.sha256;
    spec.name = entry.name;
    return spec;
  }
  std::error_code ignored;
  if (!looks_like_path(text) && !std::filesystem::exists(std::filesystem::path(text), ignored)) {
    fail_unknown_name(text);
  }
  ModelSpec spec;
  spec.text = text;
  spec.name = stem_of(text);
  spec.source = PathSpec{std::string(text)};
  return spec;
}

void check_model_name(std::string_view name) {
  const bool valid =
      !name.empty() && name.size() <= 180 && is_alnum(name.front()) &&
      name.find("..") == std::string_view::npos &&
      std::all_of(name.begin(), name.end(), [](char c) {
        return is_word(c) || c == ':' || c == '/' || c == '@' || c == '+' || c == '=';
      });
  require(valid, ErrorCode::InvalidArgument,
          "'{}' cannot name a model: use 1 to 180 letters, digits and . _ : / @ + = -, beginning "
          "with a letter or digit (--name chooses another name)",
          name);
}

std::string normalised_package_name(std::string_view name) {
  std::string out;
  for (const char c : name) {
    if (c == '-' || c == '_' || c == '.') {
      if (!out.ends_with('-')) out += '-';
    } else {
      out += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
  }
  return out;
}

}  // namespace fathom
