// Documents as tokens, in one file that is mapped: made once, read by every run.
//
//   "FTMTOK1\n"  u64 vocab_size  32 characters: the vocabulary's digest
//   u32 tokens...  u64 begin of each document (in tokens), and the end of the last
//   u64 documents  u64 tokens  32 characters: digest of all that stands before  "FTMEND1\n"
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/atomic_file.h"
#include "base/content_digest.h"
#include "base/file_map.h"
#include "tokenizer/tokenizer.h"

namespace fathom::train {

/// Tells vocabularies apart: of all pieces in order.
std::string vocabulary_digest(const Tokenizer& tokenizer);

class TokenCorpusWriter {
 public:
  /// Throws Error(Io).
  TokenCorpusWriter(const std::filesystem::path& path, const Tokenizer& tokenizer);

  /// A document's tokens, which are appended as they are. Throws Error(Io).
  void add(std::span<const TokenId> document);
  std::uint64_t tokens() const { return begins_.back(); }
  std::uint64_t documents() const { return begins_.size() - 1; }
  /// Makes the file appear. Throws Error(InvalidArgument) if there is no document, Error(Io).
  void commit();

 private:
  void put(std::span<const std::byte> bytes);

  AtomicFile file_;
  ContentDigest digest_;
  std::vector<std::uint64_t> begins_{0};
};

/// Several files in a row, seen as one. Read-only; any thread may read.
class TokenCorpus {
 public:
  /// Checks sizes, not the digest. Throws Error(NotFound | Io | Corrupt), Error(InvalidArgument) if
  /// the files have different vocabularies or there is none.
  explicit TokenCorpus(const std::vector<std::filesystem::path>& paths);

  std::uint64_t documents() const { return ends_.back(); }
  std::uint64_t tokens() const { return tokens_; }
  std::uint64_t vocab_size() const { return vocab_size_; }
  const std::string& vocabulary() const { return vocabulary_; }
  /// Throws Error(Corrupt) if it has a token outside the vocabulary. Lives as long as the corpus.
  std::span<const std::uint32_t> document(std::uint64_t index) const;
  /// Reads all and compares the digests. Throws Error(Corrupt) naming the file.
  void verify() const;
  /// Tells corpora apart, for a run that goes on: by their digests.
  std::string fingerprint() const;

 private:
  struct File {
    FileMap map;
    std::uint64_t documents = 0, tokens = 0;
    std::span<const std::uint32_t> ids;
    std::span<const std::uint64_t> begins;
    std::string digest;
  };
  File open(const std::filesystem::path& path);

  std::vector<File> files_;
  std::vector<std::uint64_t> ends_;  // documents up to and with each file
  std::uint64_t tokens_ = 0, vocab_size_ = 0;
  std::string vocabulary_;
};

}  // namespace fathom::train
