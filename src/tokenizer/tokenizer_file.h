// tokenizer.json as parsed: the vocabulary and merges in flat tables, the rest as a JSON document.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/string_table.h"
#include "tokenizer/tokenizer.h"

namespace fathom {

/// A file holds some 400,000 strings in two places, which as a JSON document would take ten times
/// the memory and most of the loading time; so those two are picked out while parsing.
struct TokenizerFile {
  nlohmann::json rest;  // everything but model.vocab and model.merges
  bool has_vocab = false;
  StringTable pieces;             // model.vocab in file order
  std::vector<std::int64_t> ids;  // of each; -1 where the file has no integer from 0 to 2^31 - 1
  bool has_merges = false;
  StringTable merge_sides;  // left and right of each merge in turn
};

/// What a tokenizer.json may hold; the largest known (35 MB, 262,000 tokens, 515,000 merges) takes
/// half of it. A file is told apart from a hostile one only at its end, and whatever it holds must
/// fit into little memory until then.
struct TokenizerFileLimits {
  static constexpr std::size_t kFileBytes = 64u << 20;
  static constexpr std::size_t kTokens = 512u << 10;
  static constexpr std::size_t kTokenBytes = 8u << 20;
  static constexpr std::size_t kMerges = 1u << 20;
  static constexpr std::size_t kMergeBytes = 16u << 20;
  static constexpr std::size_t kStringBytes = 1u << 20;  // one string
  static constexpr std::size_t kRestValues = 256u << 10;
  static constexpr std::size_t kRestBytes = 8u << 20;
  static constexpr std::size_t kConfigBytes = 16u << 20;  // tokenizer_config.json
};

/// Throws Error(NotFound | Io), and what parse_tokenizer_file() throws.
TokenizerFile read_tokenizer_file(const std::filesystem::path& path);

/// tokenizer_config.json (or another small file of JSON) as text that a parser can be given. Throws
/// Error(NotFound | Io | ResourceLimit).
std::string read_tokenizer_config(const std::filesystem::path& path);

/// Throws Error(Corrupt) when `content` is not JSON, or is not an object with a vocabulary and
/// merges of the known shapes; Error(ResourceLimit) beyond TokenizerFileLimits or 64 levels.
TokenizerFile parse_tokenizer_file(std::string_view content, std::string_view origin);

/// The tokenizer of a file and, for special tokens, of the text of tokenizer_config.json ("" when
/// there is none). Throws Error(Corrupt | Unsupported | ResourceLimit).
TokenizerSpec tokenizer_spec(const TokenizerFile& file, std::string_view tokenizer_config_json,
                             std::string_view origin);

}  // namespace fathom
