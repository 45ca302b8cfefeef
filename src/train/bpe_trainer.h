// Learns a byte-level BPE vocabulary from text (arXiv 1508.07909): the merges that Hugging Face
// `tokenizers` learns from the same text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/progress.h"
#include "tokenizer/tokenizer.h"

namespace fathom::train {

struct BpeTrainerOptions {
  std::size_t vocab_size = 8192;   // special tokens and the 256 bytes included
  std::int64_t min_frequency = 0;  // pairs that are met less often are not merged
  PreTokenizer pre_tokenizer = PreTokenizer::DeepSeekV3;
  /// The first ids, in order. Control tokens: text cannot make them.
  std::vector<std::string> special_tokens;
  /// The next ids: found whole in any text, as <think> is.
  std::vector<std::string> added_tokens;
  ProgressSink progress;
};

class BpeTrainer {
 public:
  /// Throws Error(InvalidArgument) for a vocabulary too small for the bytes and special tokens, a
  /// special token that is empty or there twice, or PreTokenizer::None.
  explicit BpeTrainer(BpeTrainerOptions options);

  /// Counts the words of a text, which is cut at its ends.
  void feed(std::string_view text);
  std::size_t distinct_words() const { return words_.size(); }

  /// The vocabulary; smaller than asked for if the text has no more pairs. All counts are kept, so
  /// that more text may be fed and a new vocabulary learned.
  TokenizerSpec train() const;

 private:
  BpeTrainerOptions options_;
  std::unordered_map<std::string, std::int64_t> words_;
};

}  // namespace fathom::train
