// The oracle's ids for 25,000 strings (tests/golden/tokenizers), as hashes to compare with.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/tokenizer_assets.h"
#include "tokenizer/unicode.h"

namespace fathom::test {

inline std::filesystem::path golden() {
  return std::filesystem::path(FATHOM_SOURCE_DIR) / "tests" / "golden" / "tokenizers";
}

/// FNV-1a of the ids as little-endian int32.
inline std::uint32_t hash_ids(const std::vector<TokenId>& ids) {
  std::uint32_t hash = 0x811C9DC5;
  for (const TokenId id : ids) {
    for (int shift = 0; shift < 32; shift += 8) {
      hash = (hash ^ (static_cast<std::uint32_t>(value(id)) >> shift & 0xFF)) * 0x01000193;
    }
  }
  return hash;
}

inline const std::vector<std::string>& golden_strings() {
  static const std::vector<std::string> strings = [] {
    const std::string file = read_file(golden() / "strings.bin");
    std::vector<std::string> out;
    for (std::size_t at = 0; at < file.size();) {
      std::uint16_t size;
      std::memcpy(&size, file.data() + at, sizeof size);
      out.push_back(file.substr(at + sizeof size, size));
      at += sizeof size + size;
    }
    return out;
  }();
  return strings;
}

inline std::string printable(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7F) {
      out.push_back(c);
    } else {
      out += fmt::format("\\x{:02x}", byte);
    }
  }
  return out;
}

/// Every string's ids against `name`.hash.
inline void expect_golden_ids(const Tokenizer& tokenizer, const std::string& name) {
  const std::vector<std::string>& strings = golden_strings();
  ASSERT_GE(strings.size(), 20000u);
  const std::string file = read_file(golden() / (name + ".hash"));
  ASSERT_EQ(file.size(), strings.size() * sizeof(std::uint32_t));
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < strings.size(); ++i) {
    std::uint32_t expected;
    std::memcpy(&expected, file.data() + i * sizeof expected, sizeof expected);
    const std::vector<TokenId> ids = tokenizer.encode(strings[i], {.add_special = false});
    if (hash_ids(ids) == expected) continue;
    if (++wrong > 5) continue;
    std::string pieces;
    for (const TokenId id : ids) pieces += " [" + printable(tokenizer.piece(id)) + "]";
    ADD_FAILURE() << name << ", string " << i << " \"" << printable(strings[i]) << "\" became"
                  << pieces;
  }
  EXPECT_EQ(wrong, 0u) << "of " << strings.size();
}

/// Long runs of one thing, up to 200,000 times.
inline void expect_golden_runs(const Tokenizer& tokenizer, const std::string& name) {
  for (const auto& run : nlohmann::json::parse(read_file(golden() / "runs.json"))) {
    const auto unit = run["unit"].get<std::string>();
    std::string text;
    for (int i = 0; i < run["times"].get<int>(); ++i) text += unit;
    const std::vector<TokenId> ids = tokenizer.encode(text, {.add_special = false});
    EXPECT_EQ(hash_ids(ids), run["hashes"][name].get<std::uint32_t>())
        << name << ": " << run["times"] << " times " << run["unit"];
  }
}

/// decode(encode(x)) == `expected`(x) for every string.
template <typename Expected>
void expect_round_trip(const Tokenizer& tokenizer, Expected expected) {
  // SentencePiece puts a space after a special token in the text; as plain text it stays itself.
  const bool parse_special = tokenizer.model() != TokenizerModel::SentencePieceBpe;
  for (const std::string& text : golden_strings()) {
    const std::string back = tokenizer.decode(
        tokenizer.encode(text, {.add_special = false, .parse_special = parse_special}));
    ASSERT_EQ(printable(back), printable(expected(text)));
  }
}

/// The text is the same whether decoded at once or token by token.
inline void expect_streaming_agrees(const Tokenizer& tokenizer) {
  for (const std::string& text : golden_strings()) {
    const std::vector<TokenId> ids = tokenizer.encode(text, {.add_special = false});
    StreamDecoder stream(tokenizer, false, false);
    std::string shown;
    for (const TokenId id : ids) {
      const std::string part = stream.push(id);
      ASSERT_EQ(to_valid_utf8(part), part);
      shown += part;
    }
    shown += stream.finish();
    ASSERT_EQ(printable(shown), printable(to_valid_utf8(tokenizer.decode(ids))));
  }
}

/// `text` without the bytes that have no token of their own.
inline std::string without_bytes(const std::string& text, std::string_view missing) {
  std::string out;
  for (const char c : text) {
    if (missing.find(c) == std::string_view::npos) out.push_back(c);
  }
  return out;
}

/// What SentencePiece gives back: U+2581 is its way to write a space.
inline std::string with_plain_spaces(std::string text) {
  constexpr std::string_view kSpaceSign = "\xE2\x96\x81";
  for (std::size_t at; (at = text.find(kSpaceSign)) != std::string::npos;) {
    text.replace(at, kSpaceSign.size(), " ");
  }
  return text;
}

}  // namespace fathom::test
