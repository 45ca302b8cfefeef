// Checks on JSON that came from a file, before a parser builds anything of it.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <iterator>
#include <limits>
#include <string>
#include <string_view>

#include "base/file_map.h"

namespace fathom {

struct JsonLimits {
  std::size_t depth = 64;
  std::size_t string_bytes = 16u << 20;
  /// Numbers, strings, arrays and objects. In a parsed document each takes 16 bytes and more, which
  /// a hostile file can have for two bytes of its own.
  std::size_t values = std::numeric_limits<std::size_t>::max();
};

/// Walks the bytes once: Error(ResourceLimit) for a string (or number, or white space), a nesting
/// or a number of values over the limits. It knows only quotes and brackets; whether the text is
/// JSON at all is for the parser to say. `progress` is told now and then how many bytes have been
/// walked, so that a mapping's pages can be dropped.
void guard_json(std::string_view text, const JsonLimits& limits, const std::filesystem::path& file,
                const std::function<void(std::size_t)>& progress = {});

/// The same for a whole mapping from byte `begin` to `end`, whose pages are dropped behind.
void guard_json(const FileMap& map, std::size_t begin, std::size_t end, const JsonLimits& limits);

/// A mapping as a parser's input: the pages behind are let go, so that a large file is never
/// resident whole. The mapping must outlive it.
class DroppingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  DroppingIterator(const FileMap* map, std::size_t at) : map_(map), at_(at) {}
  reference operator*() const { return reinterpret_cast<const char*>(map_->bytes().data())[at_]; }
  DroppingIterator& operator++() {
    ++at_;
    if (at_ % kWindow == 0) map_->dont_need(at_ - kWindow, kWindow);
    return *this;
  }
  DroppingIterator operator++(int) {
    DroppingIterator before = *this;
    ++*this;
    return before;
  }
  bool operator==(const DroppingIterator& other) const { return at_ == other.at_; }
  bool operator!=(const DroppingIterator& other) const { return at_ != other.at_; }

 private:
  static constexpr std::size_t kWindow = 1u << 20;
  const FileMap* map_;
  std::size_t at_;
};

/// A whole small file as text. Error(ResourceLimit) over `limit` bytes.
std::string read_text_file(const std::filesystem::path& path, std::size_t limit);

/// nlohmann's complaint about bad JSON, made fit for a message: one line, safe, short.
std::string json_complaint(std::string_view what);

}  // namespace fathom
