// Checks on JSON that came from a file, before a parser builds anything of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace fathom {

struct JsonLimits {
  std::size_t depth = 64;
  std::size_t string_bytes = 16u << 20;
};

/// Walks the bytes once: Error(ResourceLimit) for a string (or number, or white space) or a
/// nesting over the limits. It knows only quotes and brackets; whether the text is JSON at all is
/// for the parser to say. `progress` is told now and then how many bytes have been walked, so that
/// a mapping's pages can be dropped.
void guard_json(std::string_view text, const JsonLimits& limits, const std::filesystem::path& file,
                const std::function<void(std::size_t)>& progress = {});

/// A whole small file as text. Error(ResourceLimit) over `limit` bytes.
std::string read_text_file(const std::filesystem::path& path, std::size_t limit);

/// nlohmann's complaint about bad JSON, made fit for a message: one line, safe, short.
std::string json_complaint(std::string_view what);

}  // namespace fathom
