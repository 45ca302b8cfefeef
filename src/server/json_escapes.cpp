#include "server/json_escapes.h"

#include <charconv>
#include <string_view>
#include <utility>

namespace fathom::server {
namespace {

constexpr std::uint32_t kReplacement = 0xFFFD;

bool is_high(std::uint32_t code) { return code >= 0xD800 && code < 0xDC00; }
bool is_low(std::uint32_t code) { return code >= 0xDC00 && code < 0xE000; }

}  // namespace

std::optional<std::uint64_t> JsonEscapes::open() const {
  if (high_ != 0) return high_begin_;
  if (!escape_.empty()) return begin_;
  return std::nullopt;
}

void JsonEscapes::character(std::uint32_t code, std::uint64_t at, std::vector<Meant>& out) {
  const auto put = [&](std::uint32_t byte) {
    out.push_back({static_cast<std::uint8_t>(byte), at});
  };
  if (code < 0x80) {
    put(code);
    return;
  }
  const int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  put((0xFF00U >> (more + 1) & 0xFFU) | code >> (6 * more));
  for (int i = more; i-- > 0;) put(0x80U | (code >> (6 * i) & 0x3FU));
}

void JsonEscapes::push(char c, std::uint64_t at, std::vector<Meant>& out) {
  if (escape_.empty()) {
    if (c == '\\') {
      escape_ = c;
      begin_ = at;
      return;
    }
    if (std::exchange(high_, 0) != 0) character(kReplacement, high_begin_, out);
    out.push_back({static_cast<std::uint8_t>(c), at});
    return;
  }
  escape_ += c;
  if (escape_[1] != 'u' || escape_.size() == 6) unescape(out);
}

void JsonEscapes::unescape(std::vector<Meant>& out) {
  const std::string escape = std::exchange(escape_, {});
  const std::uint32_t high = std::exchange(high_, 0);
  std::uint32_t code = 0;
  const char* const end = escape.data() + escape.size();
  const bool coded =
      escape[1] == 'u' && std::from_chars(escape.data() + 2, end, code, 16).ptr == end;
  if (coded && high != 0 && is_low(code)) {
    character(0x10000 + ((high - 0xD800) << 10) + (code - 0xDC00), high_begin_, out);
    return;
  }
  if (high != 0) character(kReplacement, high_begin_, out);
  if (coded && is_high(code)) {
    high_ = code;
    high_begin_ = begin_;
  } else if (coded) {
    character(is_low(code) ? kReplacement : code, begin_, out);
  } else {
    constexpr std::string_view kNames = "\"\\/bfnrt";
    constexpr std::string_view kMeant = "\"\\/\b\f\n\r\t";
    const std::size_t known = kNames.find(escape[1]);
    if (known != std::string_view::npos) {
      character(static_cast<std::uint32_t>(kMeant[known]), begin_, out);
    } else {
      for (const char c : escape) out.push_back({static_cast<std::uint8_t>(c), begin_});
    }
  }
}

}  // namespace fathom::server
