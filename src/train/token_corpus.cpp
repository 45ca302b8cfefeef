#include "train/token_corpus.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"

namespace fathom::train {
namespace {

static_assert(std::endian::native == std::endian::little, "the file is mapped as it is");

constexpr std::string_view kMagic = "FTMTOK1\n", kEnd = "FTMEND1\n";
constexpr std::size_t kDigest = 32;
constexpr std::size_t kHead = 8 + 8 + kDigest;
constexpr std::size_t kFoot = 8 + 8 + kDigest + 8;

std::uint64_t number_at(std::span<const std::byte> bytes, std::size_t at) {
  std::uint64_t number;
  std::memcpy(&number, bytes.data() + at, sizeof number);
  return number;
}
std::string text_at(std::span<const std::byte> bytes, std::size_t at, std::size_t size) {
  return {reinterpret_cast<const char*>(bytes.data()) + at, size};
}
std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}
template <typename T>
std::span<const std::byte> bytes_of(std::span<const T> values) {
  return std::as_bytes(values);
}
template <typename T>
std::span<const std::byte> bytes_of_one(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

}  // namespace

std::string vocabulary_digest(const Tokenizer& tokenizer) {
  ContentDigest digest;
  digest.add(std::uint64_t{tokenizer.vocab_size()});
  for (std::size_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const TokenId token{static_cast<std::int32_t>(id)};
    digest.add(tokenizer.piece(token));
    digest.add(std::uint64_t{tokenizer.is_special(token)});
  }
  return digest.hex();
}

// --- writing -------------------------------------------------------------------------------------

TokenCorpusWriter::TokenCorpusWriter(const std::filesystem::path& path, const Tokenizer& tokenizer)
    : file_(path) {
  put(bytes_of(kMagic));
  put(bytes_of_one(std::uint64_t{tokenizer.vocab_size()}));
  put(bytes_of(vocabulary_digest(tokenizer)));
}

void TokenCorpusWriter::put(std::span<const std::byte> bytes) {
  file_.write(bytes);
  digest_.add(bytes);
}

void TokenCorpusWriter::add(std::span<const TokenId> document) {
  if (document.empty()) return;
  put(bytes_of(document));
  begins_.push_back(begins_.back() + document.size());
}

void TokenCorpusWriter::commit() {
  require(documents() > 0, ErrorCode::InvalidArgument, "there is no document to write");
  // Eight bytes each: they begin at a multiple of eight.
  if (tokens() % 2 == 1) put(bytes_of_one(std::uint32_t{0}));
  put(bytes_of(std::span<const std::uint64_t>(begins_)));
  put(bytes_of_one(documents()));
  put(bytes_of_one(tokens()));
  const std::string digest = digest_.hex();
  file_.write(std::string_view(digest));
  file_.write(kEnd);
  file_.commit();
}

// --- reading -------------------------------------------------------------------------------------

TokenCorpus::File TokenCorpus::open(const std::filesystem::path& path) {
  File file{FileMap(path), 0, 0, {}, {}, {}};
  const auto bytes = file.map.bytes();
  const auto corrupt = [&](const char* what) {
    fail(ErrorCode::Corrupt, "{}: {}; was it made by `fathom train tokenize`, and to its end?",
         path.string(), what);
  };
  if (bytes.size() < kHead + kFoot || text_at(bytes, 0, 8) != kMagic) {
    corrupt("this is no file of tokens");
  }
  const std::size_t foot = bytes.size() - kFoot;
  if (text_at(bytes, bytes.size() - 8, 8) != kEnd) corrupt("its end is missing");
  file.documents = number_at(bytes, foot);
  file.tokens = number_at(bytes, foot + 8);
  file.digest = text_at(bytes, foot + 16, kDigest);
  const std::uint64_t padded = checked_add(file.tokens, file.tokens % 2);
  const std::uint64_t expected =
      checked_add(checked_mul(padded, std::uint64_t{4}),
                  checked_mul(checked_add(file.documents, std::uint64_t{1}), std::uint64_t{8}));
  if (expected != foot - kHead) corrupt("its length is not what its end says");

  const std::byte* ids = bytes.data() + kHead;
  file.ids = {reinterpret_cast<const std::uint32_t*>(ids), file.tokens};
  file.begins = {reinterpret_cast<const std::uint64_t*>(ids + padded * 4), file.documents + 1};
  if (file.begins.front() != 0 || file.begins.back() != file.tokens ||
      !std::ranges::is_sorted(file.begins)) {
    corrupt("the beginnings of its documents are not in order");
  }
  const std::uint64_t vocab_size = number_at(bytes, 8);
  const std::string vocabulary = text_at(bytes, 16, kDigest);
  if (files_.empty()) {
    vocab_size_ = vocab_size;
    vocabulary_ = vocabulary;
  }
  require(vocabulary == vocabulary_ && vocab_size == vocab_size_, ErrorCode::InvalidArgument,
          "{} has another vocabulary than {}", path.string(),
          files_.empty() ? path.string() : files_.front().map.path().string());
  return file;
}

TokenCorpus::TokenCorpus(const std::vector<std::filesystem::path>& paths) {
  require(!paths.empty(), ErrorCode::InvalidArgument, "there is no file of tokens to train on");
  std::uint64_t documents = 0;
  for (const auto& path : paths) {
    files_.push_back(open(path));
    documents = checked_add(documents, files_.back().documents);
    tokens_ = checked_add(tokens_, files_.back().tokens);
    ends_.push_back(documents);
  }
}

std::span<const std::uint32_t> TokenCorpus::document(std::uint64_t index) const {
  const auto file =
      static_cast<std::size_t>(std::ranges::upper_bound(ends_, index) - ends_.begin());
  require(file < files_.size(), ErrorCode::Internal, "there is no document {}", index);
  const File& f = files_[file];
  const std::uint64_t local = index - (file == 0 ? 0 : ends_[file - 1]);
  const auto ids = f.ids.subspan(f.begins[local], f.begins[local + 1] - f.begins[local]);
  for (const std::uint32_t id : ids) {
    require(id < vocab_size_, ErrorCode::Corrupt,
            "{}: document {} has token {}, but the vocabulary only {}; damaged file?",
            f.map.path().string(), local, id, vocab_size_);
  }
  return ids;
}

void TokenCorpus::verify() const {
  for (const File& file : files_) {
    ContentDigest digest;
    digest.add(file.map.bytes().first(file.map.size() - kDigest - 8));
    require(digest.hex() == file.digest, ErrorCode::Corrupt,
            "{}: its digest is {}, but it says {}; damaged file?", file.map.path().string(),
            digest.hex(), file.digest);
  }
}

std::string TokenCorpus::fingerprint() const {
  ContentDigest digest;
  for (const File& file : files_) digest.add(std::string_view(file.digest));
  return digest.hex();
}

}  // namespace fathom::train
