// SentencePiece's tokenizer.model: pieces, scores and types, for vocabularies that come with it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace fathom {

struct SentencePiece {
  std::string text;
  float score = 0;
  std::int32_t type =
      1;  // 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte: as GGUF
};

/// Reads the pieces of a ModelProto (sentencepiece_model.proto) and nothing else of it.
/// Throws Error(NotFound | Corrupt | ResourceLimit).
std::vector<SentencePiece> read_sentencepiece_model(const std::filesystem::path& path);

}  // namespace fathom
