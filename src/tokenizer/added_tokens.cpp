// Implements added_tokens.h.
#include "tokenizer/added_tokens.h"

#include <algorithm>

#include "tokenizer/unicode.h"

namespace fathom {
namespace {

bool has_class(const unicode::Char& c, unicode::Class bit) {
  return c.length != 0 && (unicode::classes()[c.code_point] & bit) != 0;
}

/// The last character of `text`; length 0 if it is empty.
unicode::Char last_character(std::string_view text) {
  const char* const end = text.data() + text.size();
  // A character has at most 4 bytes, all but the first of them continuation bytes.
  const char* p = end;
  while (p != text.data() && end - p < 4) {
    --p;
    if ((static_cast<unsigned char>(*p) & 0xC0) != 0x80) break;
  }
  unicode::Char c = unicode::decode(p, end);
  while (c.length != 0 && p + c.length != end) {
    p += c.length;
    c = unicode::decode(p, end);
  }
  return c;
}

std::string_view without_trailing_space(std::string_view text) {
  for (auto c = last_character(text); has_class(c, unicode::kSpace); c = last_character(text)) {
    text.remove_suffix(c.length);
  }
  return text;
}

std::size_t leading_space(std::string_view text) {
  const char* p = text.data();
  const char* const end = p + text.size();
  for (auto c = unicode::decode(p, end); has_class(c, unicode::kSpace);
       c = unicode::decode(p, end)) {
    p += c.length;
  }
  return static_cast<std::size_t>(p - text.data());
}

bool stands_alone(std::string_view before, std::string_view after) {
  return !has_class(last_character(before), unicode::kWord) &&
         !has_class(unicode::decode(after.data(), after.data() + after.size()), unicode::kWord);
}

}  // namespace

std::uint32_t AddedTokenMatcher::child(std::uint32_t node, char byte) const {
  std::uint32_t c = nodes_[node].child;
  while (c != 0 && nodes_[c].byte != byte) c = nodes_[c].sibling;
  return c;
}

void AddedTokenMatcher::add(std::string_view pattern, const AddedToken& token) {
  if (pattern.empty()) return;
  std::uint32_t node = 0;
  for (const char byte : pattern) {
    std::uint32_t next = child(node, byte);
    if (next == 0) {
      next = static_cast<std::uint32_t>(nodes_.size());
      nodes_.push_back({0, nodes_[node].child, byte, nullptr});
      nodes_[node].child = next;
      if (node == 0) roots_[static_cast<unsigned char>(byte)] = next;
    }
    node = next;
  }
  nodes_[node].token = &token;
}

AddedTokenMatcher::Match AddedTokenMatcher::longest(std::string_view text) const {
  Match best;
  std::uint32_t node = roots_[static_cast<unsigned char>(text[0])];
  for (std::size_t length = 1; node != 0; ++length) {
    if (nodes_[node].token) best = {length, nodes_[node].token};
    if (length == text.size()) break;
    node = child(node, text[length]);
  }
  return best;
}

void AddedTokenMatcher::split(std::string_view text, bool parse_special,
                              std::vector<TextPart>& out) const {
  std::size_t plain = 0;  // where the plain text before the next token begins
  for (std::size_t at = 0; !empty() && at < text.size();) {
    const Match match = longest(text.substr(at));
    if (match.token == nullptr) {
      ++at;
      continue;
    }
    // A match that does not count is stepped over as a whole, as Hugging Face does: what begins
    // inside it is not found either.
    const std::size_t begin = at;
    std::size_t end = at + match.length;
    at = end;
    const AddedToken& token = *match.token;
    if (token.special && !parse_special) continue;
    if (token.single_word && !stands_alone(text.substr(0, begin), text.substr(end))) continue;
    // The token before may have swallowed white space that belongs to this one too.
    if (begin > plain) {
      std::string_view before = text.substr(plain, begin - plain);
      if (token.lstrip) before = without_trailing_space(before);
      if (!before.empty()) out.push_back({before, nullptr});
    }
    if (token.rstrip) end += leading_space(text.substr(end));
    out.push_back({text.substr(begin, end - begin), &token});
    plain = end;
  }
  if (plain < text.size()) out.push_back({text.substr(plain), nullptr});
}

}  // namespace fathom
