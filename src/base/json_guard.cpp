#include "base/json_guard.h"

#include "base/error.h"

namespace fathom {
namespace {
constexpr std::size_t kStep = 1u << 20;
}

void guard_json(std::string_view text, const JsonLimits& limits, const std::filesystem::path& file,
                const std::function<void(std::size_t)>& progress) {
  std::size_t depth = 0;
  std::size_t values = 1;
  std::size_t begin = 0;  // of the string, number or white space that i stands in
  bool in_string = false;
  std::size_t told = 0;  // to `progress`
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
      ++values;
      begin = i;
      if (depth > limits.depth) {
        fail(ErrorCode::ResourceLimit, "{}: the JSON at byte {} is nested over {} deep",
             file.string(), i, limits.depth);
      }
    } else if (c == '}' || c == ']' || c == ',' || c == ':') {
      if ((c == '}' || c == ']') && depth > 0) --depth;
      if (c == ',') ++values;
      begin = i;
    }
    if (values > limits.values) {
      fail(ErrorCode::ResourceLimit, "{}: the JSON up to byte {} has over {} values", file.string(),
           i, limits.values);
    }
    // A parser gathers each of them whole, white space included.
    if (i - begin > limits.string_bytes) {
      fail(ErrorCode::ResourceLimit, "{}: the JSON at byte {} has a token over {} bytes long",
           file.string(), begin, limits.string_bytes);
    }
    if (progress && i >= told + kStep) progress(told = i);
  }
}

void guard_json(const FileMap& map, std::size_t begin, std::size_t end, const JsonLimits& limits) {
  const std::string_view text(reinterpret_cast<const char*>(map.bytes().data()) + begin,
                              end - begin);
  std::size_t dropped = 0;
  guard_json(text, limits, map.path(), [&](std::size_t walked) {
    map.dont_need(begin + dropped, walked - dropped);
    dropped = walked;
  });
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
