// StreamDecoder and to_valid_utf8: bytes of tokens to text that may be shown.
#include "tokenizer/tokenizer.h"
#include "tokenizer/unicode.h"

namespace fathom {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

/// Whether more bytes could complete the ill-formed character `c` at `p`.
bool may_continue(const char* p, const char* end, const unicode::Char& c) {
  const auto lead = static_cast<unsigned char>(*p);
  return !c.well_formed && p + c.length == end && lead >= 0xC2 && lead <= 0xF4;
}

/// Appends `bytes` as valid UTF-8 and returns how many were used: with `hold_back` all but the
/// start of a character at the end.
std::size_t append_valid(std::string& out, std::string_view bytes, bool hold_back) {
  const char* const begin = bytes.data();
  const char* const end = begin + bytes.size();
  const char* copied = begin;
  const char* p = begin;
  while (p != end) {
    const unicode::Char c = unicode::decode(p, end);
    if (!c.well_formed) {
      out.append(copied, p);
      if (hold_back && may_continue(p, end, c)) return static_cast<std::size_t>(p - begin);
      out.append(kReplacement);
      copied = p + c.length;
    }
    p += c.length;
  }
  out.append(copied, p);
  return bytes.size();
}

}  // namespace

std::string to_valid_utf8(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  append_valid(out, bytes, false);
  return out;
}

StreamDecoder::StreamDecoder(Tokenizer tokenizer, bool skip_special, bool continues)
    : tokenizer_(std::move(tokenizer)),
      skip_special_(skip_special),
      continues_(continues),
      at_start_(!continues) {}

std::string StreamDecoder::push(TokenId id) {
  std::string_view piece = tokenizer_.piece(id);
  if (skip_special_ && tokenizer_.is_special(id)) return {};
  if (at_start_ && !piece.empty()) {
    at_start_ = false;
    if (tokenizer_.has_space_prefix() && piece.starts_with(' ')) piece.remove_prefix(1);
  }
  std::string text;
  pending_.append(piece);
  pending_.erase(0, append_valid(text, pending_, true));
  return text;
}

std::string StreamDecoder::finish() {
  std::string text = to_valid_utf8(pending_);
  pending_.clear();
  at_start_ = !continues_;
  return text;
}

}  // namespace fathom
