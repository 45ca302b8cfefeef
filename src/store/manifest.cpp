#include "store/manifest.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <chrono>
#include <ctime>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "store/files.h"
#include "store/url.h"

namespace fathom {
namespace {

using nlohmann::json;
constexpr int kFormat = 1;
constexpr std::size_t kMaxManifestBytes = 16 * 1024 * 1024;

bool is_hex(const std::string& text, std::size_t digits) {
  return text.size() == digits && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

}  // namespace

std::string manifest_json(const StoredModel& model) {
  json files = json::array();
  for (const StoredFile& file : model.files) {
    files.push_back({{"path", file.path},
                     {"size", file.size},
                     {"sha256", file.sha256},
                     {"modified_ns", file.modified_ns}});
  }
  const json document = {
      {"format", kFormat},      {"name", model.name},        {"spec", model.spec},
      {"origin", model.origin}, {"digest", model.digest},    {"licence", model.licence},
      {"added", model.added},   {"files", std::move(files)}, {"linked", model.linked.string()},
      {"folder", model.folder}, {"entry", model.entry}};
  // Names from outside need not be UTF-8.
  return document.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
}

StoredModel read_manifest(const std::filesystem::path& path) {
  const std::string text = read_text(path, kMaxManifestBytes);
  StoredModel model;
  try {
    const json document = json::parse(text);
    const int format = document.at("format").get<int>();
    require(format == kFormat, ErrorCode::Unsupported,
            "{}: manifest format {}, this Fathom knows {}; it is probably older than the store",
            path.string(), format, kFormat);
    model.name = document.at("name").get<std::string>();
    model.spec = document.at("spec").get<std::string>();
    model.origin = document.at("origin").get<std::string>();
    model.digest = document.at("digest").get<std::string>();
    model.licence = document.at("licence").get<std::string>();
    model.added = document.at("added").get<std::string>();
    model.linked = document.at("linked").get<std::string>();
    model.folder = document.at("folder").get<std::string>();
    model.entry = document.at("entry").get<std::string>();
    for (const json& entry : document.at("files")) {
      StoredFile file;
      file.path = entry.at("path").get<std::string>();
      file.size = entry.at("size").get<std::uint64_t>();
      file.sha256 = entry.at("sha256").get<std::string>();
      file.modified_ns = entry.at("modified_ns").get<std::int64_t>();
      model.files.push_back(std::move(file));
    }
  } catch (const json::exception& error) {
    fail(ErrorCode::Corrupt, "{}: not a manifest of the store: {}", path.string(), error.what());
  }
  bool sound = model.linked.empty() ? is_hex(model.folder, 32) : model.folder.empty();
  sound = sound && (model.entry.empty() || is_safe_relative_path(model.entry));
  for (const StoredFile& file : model.files) {
    sound = sound && is_safe_relative_path(file.path) && is_hex(file.sha256, 64);
  }
  require(sound && !model.files.empty(), ErrorCode::Corrupt,
          "{}: the manifest contradicts itself; remove the model and pull it again", path.string());
  return model;
}

std::string utc_now() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", parts);
}

}  // namespace fathom
