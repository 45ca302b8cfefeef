// What the strings of a JSON text mean, while the text comes: \n is a line's end, \u00fc a letter.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace fathom::server {

/// Not thread-safe.
class JsonEscapes {
 public:
  struct Meant {
    std::uint8_t byte = 0;
    std::uint64_t at = 0;  // where the text begins that means it
  };
  /// The text's next byte, which stands at `at`; appends what it completes, in UTF-8. Half a
  /// character alone means U+FFFD; what is no escape means itself.
  void push(char c, std::uint64_t at, std::vector<Meant>& out);
  /// Where an escape begins that is not complete.
  std::optional<std::uint64_t> open() const;

 private:
  void unescape(std::vector<Meant>& out);
  void character(std::uint32_t code, std::uint64_t at, std::vector<Meant>& out);

  std::string escape_;  // so far, with its backslash
  std::uint64_t begin_ = 0;
  std::uint32_t high_ = 0;  // the first half of a character, whose second must follow
  std::uint64_t high_begin_ = 0;
};

}  // namespace fathom::server
