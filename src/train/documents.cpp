#include "train/documents.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file_map.h"
#include "base/json_guard.h"
#include "tokenizer/tokenizer.h"

namespace fathom::train {
namespace {

constexpr std::size_t kReadAhead = 16u << 20;

std::string checked_text(std::string text, const std::filesystem::path& path, std::size_t line) {
  require(!text.empty(), ErrorCode::Corrupt, "{}, line {}: the text is empty", path.string(), line);
  require(to_valid_utf8(text) == text, ErrorCode::Corrupt, "{}, line {}: the text is not UTF-8",
          path.string(), line);
  return text;
}

Document parse_line(std::string_view line, const std::filesystem::path& path, std::size_t number,
                    const DocumentOptions& options) {
  guard_json(line, {.string_bytes = options.most_bytes}, path);
  nlohmann::json json;
  try {
    json = nlohmann::json::parse(line);
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorCode::Corrupt, "{}, line {}: not JSON: {}", path.string(), number,
         json_complaint(error.what()));
  }
  require(json.is_object(), ErrorCode::Corrupt, "{}, line {}: expected a JSON object, found {}",
          path.string(), number, json.type_name());
  const auto found = json.find(options.field);
  require(found != json.end(), ErrorCode::Corrupt,
          "{}, line {}: there is no field '{}' (--field names another)", path.string(), number,
          options.field);
  require(found->is_string(), ErrorCode::Corrupt,
          "{}, line {}: the field '{}' should be a text, but is of type {}", path.string(), number,
          options.field, found->type_name());
  return {checked_text(found->get<std::string>(), path, number), number};
}

}  // namespace

void read_documents(const std::filesystem::path& path, const DocumentOptions& options,
                    FunctionRef<void(Document)> take) {
  const FileMap file(path);
  const std::string_view all(reinterpret_cast<const char*>(file.bytes().data()), file.size());
  require(!all.empty(), ErrorCode::InvalidArgument, "{} is empty", path.string());
  if (path.extension() != ".jsonl") {
    require(all.size() <= options.most_bytes, ErrorCode::ResourceLimit,
            "{} has {}, over the {} of one document; JSON lines hold many", path.string(),
            format_bytes(all.size()), format_bytes(options.most_bytes));
    take({checked_text(std::string(all), path, 1), 1});
    return;
  }
  std::size_t number = 0, documents = 0, dropped = 0;
  for (std::size_t at = 0; at < all.size();) {
    ++number;
    const std::size_t end = std::min(all.find('\n', at), all.size());
    std::string_view line = all.substr(at, end - at);
    if (line.ends_with('\r')) line.remove_suffix(1);
    require(line.size() <= options.most_bytes, ErrorCode::ResourceLimit,
            "{}, line {} has {}, over the limit of {}", path.string(), number,
            format_bytes(line.size()), format_bytes(options.most_bytes));
    if (line.find_first_not_of(" \t") != std::string_view::npos) {
      take(parse_line(line, path, number, options));
      ++documents;
    }
    at = end + 1;
    if (at - dropped > kReadAhead) {
      file.dont_need(dropped, at - dropped);
      dropped = at;
    }
  }
  require(documents > 0, ErrorCode::InvalidArgument, "{} has no document", path.string());
}

}  // namespace fathom::train
