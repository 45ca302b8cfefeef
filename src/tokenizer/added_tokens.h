// Finds added tokens ("<|im_end|>") in text: a trie over their bytes, the longest match at each
// place.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace fathom {

/// A stretch of text: plain (no token) or one added token with the white space after it that it
/// swallows.
struct TextPart {
  std::string_view text;
  const AddedToken* token = nullptr;
};

class AddedTokenMatcher {
 public:
  /// `pattern` is what to look for, `token` lives as long as this. Matching takes time in
  /// proportion to the longest pattern, so the caller bounds it. Empty patterns are ignored.
  void add(std::string_view pattern, const AddedToken& token);
  bool empty() const { return nodes_.size() == 1; }

  /// Appends the segments of `text` in order. Without `parse_special`, a special token found is
  /// plain text.
  void split(std::string_view text, bool parse_special, std::vector<TextPart>& out) const;

 private:
  struct Node {
    std::uint32_t child = 0;  // the first; 0: none
    std::uint32_t sibling = 0;
    char byte = 0;
    const AddedToken* token = nullptr;
  };
  struct Match {
    std::size_t length = 0;
    const AddedToken* token = nullptr;
  };
  Match longest(std::string_view text) const;
  std::uint32_t child(std::uint32_t node, char byte) const;

  std::vector<Node> nodes_ = {Node{}};
  std::array<std::uint32_t, 256> roots_{};  // the root's children by byte
};

}  // namespace fathom
