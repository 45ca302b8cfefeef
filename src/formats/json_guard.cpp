#include "formats/json_guard.h"

#include <cstring>

#include "base/error.h"
#include "base/file_map.h"
#include "formats/file_text.h"

namespace fathom {

void guard_json(std::string_view text, const JsonLimits& limits, const std::filesystem::path& file,
                const std::function<void(std::size_t)>& progress) {
  std::size_t depth = 0;
  std::size_t begin = 0;  // of the string, number or white space that i stands in
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        in_string = false;
        begin = i;
      }
    } else if (c == '"') {
      in_string = true;
      begin = i;
    } else if (c == '{' || c == '[') {
      ++depth;
      begin = i;
      if (depth > limits.depth) {
        fail(ErrorCode::ResourceLimit, "{}: the JSON at byte {} is nested over {} deep",
             file.string(), i, limits.depth);
      }
    } else if (c == '}' || c == ']' || c == ',' || c == ':') {
      if ((c == '}' || c == ']') && depth > 0) --depth;
      begin = i;
    }
    // A parser gathers each of them whole, white space included.
    if (i - begin > limits.string_bytes) {
      fail(ErrorCode::ResourceLimit, "{}: the JSON at byte {} has a token over {} bytes long",
           file.string(), begin, limits.string_bytes);
    }
    if (progress && (i & 0xF'FFFF) == 0xF'FFFF) progress(i);
  }
}

std::string read_text_file(const std::filesystem::path& path, std::size_t limit) {
  const FileMap map(path);
  require(map.size() <= limit, ErrorCode::ResourceLimit, "{}: {} bytes, at most {} are read",
          path.string(), map.size(), limit);
  std::string text(reinterpret_cast<const char*>(map.bytes().data()), map.size());
  map.verify_unchanged();
  return text;
}

std::string json_complaint(std::string_view what) {
  // "[json.exception.parse_error.101] parse error at line 1, column 5: ..."
  if (const std::size_t bracket = what.find("] "); bracket != std::string_view::npos) {
    what.remove_prefix(bracket + 2);
  }
  constexpr std::size_t kMost = 200;
  std::string result;
  for (const char c : what.substr(0, kMost)) {
    result +=
        (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) >= 0x7F) ? '?' : c;
  }
  if (what.size() > kMost) result += "...";
  return result;
}

}  // namespace fathom
