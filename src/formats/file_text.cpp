#include "formats/file_text.h"

#include <algorithm>
#include <system_error>

#include "base/error.h"

namespace fathom {
namespace {

/// Length of the well-formed UTF-8 sequence at text[i], or 0.
std::size_t utf8_length(std::string_view text, std::size_t i) {
  const auto byte = [&](std::size_t k) { return static_cast<unsigned char>(text[k]); };
  const unsigned char first = byte(i);
  const std::size_t length = first < 0x80   ? 1
                             : first < 0xC2 ? 0
                             : first < 0xE0 ? 2
                             : first < 0xF0 ? 3
                             : first < 0xF5 ? 4
                                            : 0;
  if (length == 0 || i + length > text.size()) return 0;
  for (std::size_t k = 1; k < length; ++k) {
    if ((byte(i + k) & 0xC0) != 0x80) return 0;
  }
  if (first == 0xE0 && byte(i + 1) < 0xA0) return 0;  // overlong
  if (first == 0xED && byte(i + 1) > 0x9F) return 0;  // a surrogate
  if (first == 0xF0 && byte(i + 1) < 0x90) return 0;  // overlong
  if (first == 0xF4 && byte(i + 1) > 0x8F) return 0;  // past U+10FFFF
  return length;
}

bool is_within(const std::filesystem::path& folder, const std::filesystem::path& file) {
  const auto [f, _] = std::mismatch(folder.begin(), folder.end(), file.begin(), file.end());
  return f == folder.end();
}

}  // namespace

std::string printable(std::string_view text) {
  constexpr std::size_t kMost = 100;
  std::string result = "'";
  for (std::size_t i = 0; i < text.size();) {
    if (i >= kMost) {
      result += fmt::format("' ({} bytes)", text.size());
      return result;
    }
    const auto byte = static_cast<unsigned char>(text[i]);
    const std::size_t length = utf8_length(text, i);
    // C1 controls (U+0080 to U+009F) are terminal commands too.
    const bool control =
        byte < 0x20 || byte == 0x7F ||
        (length == 2 && byte == 0xC2 && static_cast<unsigned char>(text[i + 1]) < 0xA0);
    if (length == 0 || control) {
      result += fmt::format("\\x{:02x}", byte);
      ++i;
    } else {
      result += text.substr(i, length);
      i += length;
    }
  }
  result += "'";
  return result;
}

std::filesystem::path resolve_inside(const std::filesystem::path& folder, std::string_view name,
                                     const std::filesystem::path& referrer) {
  const std::filesystem::path relative(name);
  const bool climbs = std::find(relative.begin(), relative.end(), "..") != relative.end();
  require(!name.empty() && name.find('\0') == std::string_view::npos && name.size() <= 4096 &&
              relative.is_relative() && !climbs,
          ErrorCode::Corrupt, "{}: names the file {}, which is not a plain name inside its folder",
          referrer.string(), printable(name));
  const std::filesystem::path file = folder / relative;
  std::error_code error;
  const std::filesystem::path target = std::filesystem::canonical(file, error);
  require(!error, ErrorCode::NotFound,
          "{}: {} is missing ({}); the download is probably incomplete", referrer.string(),
          printable(file.string()), error.message());
  const std::filesystem::path home =
      std::filesystem::canonical(folder.empty() ? std::filesystem::path(".") : folder);
  if (is_within(home, target)) return file;
  const bool hub_cache = home.parent_path().filename() == "snapshots" &&
                         is_within(home.parent_path().parent_path() / "blobs", target);
  require(hub_cache, ErrorCode::Corrupt, "{}: {} is a link that leads out of its folder",
          referrer.string(), printable(file.string()));
  return file;
}

bool is_present(const std::filesystem::path& path) noexcept {
  std::error_code error;
  return std::filesystem::symlink_status(path, error).type() !=
         std::filesystem::file_type::not_found;
}

}  // namespace fathom
