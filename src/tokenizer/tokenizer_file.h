// tokenizer.json as parsed: the vocabulary and merges in flat tables, the rest as a JSON document.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/bpe.h"

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

/// Throws Error(Corrupt) when `content` is not JSON, nests deeper than 64, or is not an object with
/// a vocabulary and merges of the known shapes.
TokenizerFile parse_tokenizer_file(std::string_view content, std::string_view origin);

}  // namespace fathom
