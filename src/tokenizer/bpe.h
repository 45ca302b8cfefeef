// Byte-pair encoding of one word: which pieces its bytes or characters merge into.
//
// Owns the vocabulary as the merger needs it: pieces by id, pieces by content, and the ranks of
// merges, each in one flat table. Knows nothing of text around the word.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/string_table.h"
#include "tokenizer/tokenizer.h"

namespace fathom {

/// A symbol of a word while it merges: a token id, or, from vocab_size on, a character that is no
/// piece itself but part of one (some SentencePiece vocabularies).
using Symbol = std::uint32_t;
inline constexpr Symbol kNoSymbol = 0xFFFFFFFF;

struct Merge {
  std::uint32_t rank;  // lower merges first
  Symbol result;
};
inline constexpr std::uint32_t kNoRank = 0xFFFFFFFF;

/// (left, right) -> Merge, by open addressing.
class MergeTable {
 public:
  explicit MergeTable(std::size_t count = 0);
  /// Keeps the better rank if the pair is there already.
  void insert(Symbol left, Symbol right, Merge merge);
  /// {kNoRank, ...} for a pair that does not merge.
  Merge find(Symbol left, Symbol right) const;

 private:
  struct Slot {
    std::uint64_t key;
    Merge merge;
  };
  std::size_t slot(std::uint64_t key) const;
  std::vector<Slot> slots_;  // a power of two, at most half full
  int shift_;
};

/// Bytes -> id of the piece that is exactly them.
class PieceIndex {
 public:
  /// Room for every one of `pieces`, which outlives this.
  explicit PieceIndex(const StringTable& pieces);
  /// Keeps the id that is there already for equal bytes.
  void insert(std::uint32_t id);
  std::uint32_t find(std::string_view bytes) const;  // kNoSymbol when there is none

 private:
  struct Slot {
    std::uint32_t hash;
    std::uint32_t id;
  };
  const StringTable* pieces_;
  std::vector<Slot> slots_;
};

/// The merger. Thread-safe once built.
class Bpe {
 public:
  /// `pieces` holds every token's bytes as in text (a space for U+2581) and outlives this;
  /// `in_text[id]` says which may come out of merging. `scores` ranks when the spec has no merges.
  /// Throws Error(Corrupt) for a merge whose result is no piece.
  Bpe(const TokenizerSpec& spec, const StringTable& pieces, const std::vector<bool>& in_text);

  /// Appends the tokens of `word` (not empty, under 2 GiB).
  void encode(std::string_view word, std::vector<TokenId>& out) const;

  /// Whether no merge makes a piece with a space after another character, so that text may be cut
  /// before each space that follows one: no merge could have crossed the cut.
  bool words_are_separable() const { return words_are_separable_; }

  std::uint32_t find_piece(std::string_view bytes) const { return index_.find(bytes); }

 private:
  /// A merge found in the vocabulary, before the table's size is known.
  struct PendingMerge {
    Symbol left, right;
    Merge merge;
  };
  std::vector<PendingMerge> given_merges(const TokenizerSpec& spec) const;
  std::vector<PendingMerge> derived_merges(const TokenizerSpec& spec,
                                           const std::vector<bool>& in_text);
  Symbol symbol_of_character(std::string_view character);

  /// Writes the symbols that `word` starts as, at most one per byte, and returns how many.
  std::size_t split_symbols(std::string_view word, Symbol* symbols) const;
  bool has_all_bytes(std::string_view character) const;
  std::size_t merge_short(Symbol* symbols, std::size_t count) const;
  std::size_t merge_long(Symbol* symbols, std::size_t count) const;
  bool merges_into_itself(std::uint32_t piece, std::string_view word) const;
  void emit(std::span<const Symbol> symbols, std::vector<TokenId>& out) const;

  const StringTable& pieces_;
  const std::string origin_;
  const bool byte_level_;
  const bool ignore_merges_;
  const bool byte_fallback_;
  const bool fuse_unknown_;
  const Symbol unknown_;  // kNoSymbol when there is none
  bool words_are_separable_;

  PieceIndex index_;
  MergeTable merges_;
  std::array<Symbol, 256> byte_symbols_;       // the piece of a byte: itself, or its <0xNN>
  std::array<Symbol, 128> ascii_symbols_;      // SentencePiece: the piece of an ASCII character
  std::vector<std::string> extra_characters_;  // of the symbols from vocab_size on

  // Whether merging a whole piece's bytes gives the piece: asked for most words of a text, so the
  // answer is kept per piece once it is known. Racing threads write the same answer.
  enum class Whole : std::uint8_t { Unasked, Yes, No };
  std::unique_ptr<std::atomic<Whole>[]> whole_;
};

}  // namespace fathom
