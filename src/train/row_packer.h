// From documents to rows of equal length: the order, the packing, and fill-in-the-middle.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "tokenizer/tokenizer.h"
#include "train/token_corpus.h"

namespace fathom::train {

/// Prefix-suffix-middle (arXiv 2207.14255; rate 0.1 in V3): BEGIN prefix HOLE suffix END middle.
struct FillInTheMiddle {
  double rate = 0;
  TokenId begin{}, hole{}, end{};
};

struct PackOptions {
  std::size_t row_tokens = 1024;
  std::size_t ahead = 1;  // tokens after the row's own that a row has, to be predicted
  /// Documents of a row do not see each other, each begins at position 0, and none is asked to
  /// predict the next. Without it a row is one text, as in V3.
  bool separate = true;
  TokenId end_of_document{};  // put after each
  FillInTheMiddle middle;
  std::uint64_t seed = 1;
};

/// Where a run is in its data: with the corpus and the options it says all that will come.
struct Cursor {
  std::uint64_t epoch = 0;
  std::uint64_t document = 0;  // in the epoch's order
  std::uint64_t token = 0;     // of that document
  friend bool operator==(const Cursor&, const Cursor&) = default;
};

struct Row {
  std::vector<std::int64_t> tokens;     // [row_tokens + ahead]
  std::vector<std::int64_t> positions;  // [row_tokens + ahead]
  std::vector<std::int64_t> documents;  // [row_tokens + ahead]: numbers from 0, all 0 if together
  std::vector<std::uint8_t> asked;      // [row_tokens + ahead]: 1, to be predicted; empty: all are
};

/// Deals out the corpus epoch by epoch, each in an order of its own (a permutation of all
/// documents by seed and epoch). Every token is a row's own once an epoch; the `ahead` ones behind
/// it are the next row's first.
class RowPacker {
 public:
  /// `corpus` and `tokenizer` (for fill-in-the-middle) outlive it. Throws Error(InvalidArgument)
  /// for options that cannot work.
  RowPacker(const TokenCorpus& corpus, const Tokenizer& tokenizer, PackOptions options);

  Row next();
  Cursor cursor() const { return cursor_; }
  /// Throws Error(InvalidArgument) for a place that the corpus does not have.
  void seek(Cursor cursor);

 private:
  /// The document at that place of the order, as it is dealt out.
  std::vector<std::int64_t> dealt(std::uint64_t epoch, std::uint64_t place);
  std::uint64_t document_at(std::uint64_t epoch, std::uint64_t place);
  std::vector<std::int64_t> rearranged(std::span<const std::uint32_t> ids, std::uint64_t epoch,
                                       std::uint64_t document) const;

  const TokenCorpus& corpus_;
  const Tokenizer& tokenizer_;
  PackOptions options_;
  Cursor cursor_;
  std::optional<std::uint64_t> order_epoch_;  // whose order this is
  std::vector<std::uint64_t> order_;
  std::vector<std::int64_t> open_;  // the document that the cursor is in
  std::optional<Cursor> opened_;    // which that is
};

}  // namespace fathom::train
